"""The clusters of a run over HTTP: ``ccscale serve RUN``.

    a request -> its images (uploads.py), within the limits (limits.py)
              -> decoded in processes of their own (decoders.py), by the code that `predict` decodes by
              -> joined into batches for the network, in one thread (batching.py)
              -> an answer each (answer.py), by the version that was current when it was decoded

A new checkpoint, evaluation or version of the clusters is loaded beside the old one (`reloading.py`); what is under
way ends with the old one.
"""
