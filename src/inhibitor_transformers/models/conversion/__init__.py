"""Any transformers model with inhibitor attention in place of softmax: `convert`, and the models that it makes."""

from .convert import convert
from .pretrained import ConvertedModel
from .report import ConversionReport
from .sites import Options, Record, Site, Unconverted

__all__ = ["ConversionReport", "ConvertedModel", "Options", "Record", "Site", "Unconverted", "convert"]
