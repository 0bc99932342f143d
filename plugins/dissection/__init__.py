"""Which units detect which concepts, epoch by epoch: `DissectionResult`, its view, and `DissectionPlugin`."""

from plugins.dissection.plugin import DissectionPlugin
from plugins.dissection.result import DissectionResult

__all__ = ["DissectionPlugin", "DissectionResult"]
