"""Any transformers model with inhibitor attention in place of softmax: `convert`, and the models that it makes."""

from .convert import convert
from .pretrained import ConvertedModel
from .report import ConversionReport
from .sites import Left, Options, Record, Site

__all__ = ["ConversionReport", "ConvertedModel", "Left", "Options", "Record", "Site", "convert"]
