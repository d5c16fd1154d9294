"""The config of a run. Every key is documented and checked here and nowhere else; each section is a file.

A config is a YAML file (`file.py`) with the sections below; `keys.py` lists their keys.

    run: DIR               data:     the data set, and how it is read
    seed: 0                views:    the augmentation of images
                           pairs:    what a positive pair is
                           model:    backbone and heads
                           loss:     temperatures, weights
                           train:    batch, epochs, optimizer, precision, checkpoints, logs
                           stages:   stages after the training epochs
                           evaluate: when and on which data to evaluate
                           log:      experiment trackers
"""

from ccscale.config.data import LOSSES, MAX_LANES, Data, LossName
from ccscale.config.loss import Loss
from ccscale.config.model import MOST_CLASSES, BeginsAs, CentresOf, Model
from ccscale.config.pairs import Pairs
from ccscale.config.pixels import MOST_CHANNELS, PERCENTILES, RANGES, Pixels
from ccscale.config.root import Config
from ccscale.config.train import Train
from ccscale.config.views import MOST_OPERATIONS, View, Views, strong_view, weak_view

__all__ = [
    "LOSSES",
    "MAX_LANES",
    "MOST_CHANNELS",
    "MOST_CLASSES",
    "MOST_OPERATIONS",
    "PERCENTILES",
    "RANGES",
    "BeginsAs",
    "CentresOf",
    "Config",
    "Data",
    "Loss",
    "LossName",
    "Model",
    "Pairs",
    "Pixels",
    "Train",
    "View",
    "Views",
    "strong_view",
    "weak_view",
]
