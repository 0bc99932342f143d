"""Where the network puts the images of the validation set: `ProjectionResult`, its view, and `ProjectionPlugin`."""

from plugins.projection.plugin import ProjectionPlugin
from plugins.projection.result import ProjectionResult

__all__ = ["ProjectionPlugin", "ProjectionResult"]
