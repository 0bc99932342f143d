"""What in an image speaks for which classes: `ClassAttributionResult`, its view, and `ClassAttributionPlugin`."""

from plugins.class_attribution.plugin import ClassAttributionPlugin
from plugins.class_attribution.result import ClassAttributionResult

__all__ = ["ClassAttributionPlugin", "ClassAttributionResult"]
