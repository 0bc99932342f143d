"""Are the axes of a layer special: `AxisAlignmentResult`, its view, and `AxisAlignmentPlugin`."""

from plugins.axis_alignment.plugin import AxisAlignmentPlugin, AxisAlignmentResult

__all__ = ["AxisAlignmentPlugin", "AxisAlignmentResult"]
