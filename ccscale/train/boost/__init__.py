"""Self-labelling, the stage of a run after its training epochs: TCL's boosting, with guards.

::

    step      0 ...            first                       begin                       stop
              training epochs |  trains as before, looks  |  labels, and trains on them |
    checks                        ^          ^            ^           ^           ^
                                  may let it begin                    may end it

Each step assigns the unaugmented images in evaluation mode, and gives or removes labels (`selection.py`), by the
confidence of the network or by a calibrated one (`calibration.py`). The lasting label of each image is saved in
the checkpoint (`labels.py`). The losses are those of a weak and a strong view, with the labels of the global
batch (`losses.py`). Checks without human labels decide whether the stage continues (`guards.py`); `stage.py`
combines all of this.

Source: Li et al., "Twin contrastive learning for online clustering", IJCV 2022, section 3.3; the
calibrated selection: Jia et al., "Towards calibrated deep clustering network", ICLR 2025.
"""
