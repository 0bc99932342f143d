"""Are the axes of a layer special: `AxisAlignmentResult`, its view, and `AxisAlignmentPlugin`."""

from plugins.axis_alignment.plugin import AxisAlignmentPlugin
from plugins.axis_alignment.result import AxisAlignmentResult

__all__ = ["AxisAlignmentPlugin", "AxisAlignmentResult"]
