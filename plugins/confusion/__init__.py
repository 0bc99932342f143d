"""Which classes are taken for which on the whole validation set: `ConfusionResult`, its view, and `ConfusionPlugin`."""

from plugins.confusion.plugin import ConfusionPlugin
from plugins.confusion.result import ConfusionResult

__all__ = ["ConfusionPlugin", "ConfusionResult"]
