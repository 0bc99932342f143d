"""What in an image speaks for which classes: `ClassAttributionResult` and `ClassAttributionPlugin`."""

from plugins.class_attribution.plugin import ClassAttributionPlugin, ClassAttributionResult

__all__ = ["ClassAttributionPlugin", "ClassAttributionResult"]
