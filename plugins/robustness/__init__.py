"""How far answers and detectors survive disturbed images: `RobustnessResult`, its view, and `RobustnessPlugin`."""

from plugins.robustness.plugin import RobustnessPlugin
from plugins.robustness.result import RobustnessResult

__all__ = ["RobustnessPlugin", "RobustnessResult"]
