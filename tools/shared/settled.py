"""The last import of the process that `lives.server` copies: no copy walks over its modules to collect garbage."""

import gc

gc.collect()
gc.freeze()
