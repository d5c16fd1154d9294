"""Self-labelling, the stage of a run after its training epochs: TCL's boosting, with guards.

::

    step      0 ...            first                       begin                       stop
              training epochs |  trains as before, looks  |  labels, and trains on them |
    checks                        ^          ^            ^           ^           ^
                                  may let it begin                    may end it

Every step looks at each image as it is, in evaluation mode, and gives or takes its label (`selection.py`), by how
sure the network is or by a confidence that is calibrated beside it (`calibration.py`); what a run remembers of each
image, its lasting label, is in the checkpoint (`labels.py`). The losses are those of a pair of views, a weak and a
strong one, by the labels of the global batch (`losses.py`). What is known of the stage without labels of people
decides whether it goes on (`guards.py`); `stage.py` puts it together.

Source: Li et al., "Twin contrastive learning for online clustering", IJCV 2022, section 3.3; the
calibrated selection: Jia et al., "Towards calibrated deep clustering network", ICLR 2025.
"""
