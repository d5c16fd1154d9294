"""The last import of the process that `lives.server` copies: what most starts of training do once is done here.

A copy finds the backbone of the tests tried and its convolutions compiled, and no copy walks over its modules to
collect garbage.
"""

import gc

import torch

from ccscale.config import Model
from ccscale.model.network import ContrastiveClustering

for stem in ("small", "standard"):
    network = ContrastiveClustering(Model(backbone="test_resnet", clusters=4, stem=stem), size=16)
    network.features_of(torch.zeros(32, 3, 16, 16)).sum().backward()
del network
gc.collect()
gc.freeze()
gc.enable()
