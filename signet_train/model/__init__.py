"""The paper's modules, one idea a file."""

from signet_train.model.backbone import Backbone
from signet_train.model.signet import Signet

__all__ = ["Backbone", "Signet"]
