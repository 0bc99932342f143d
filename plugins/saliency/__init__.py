"""What in an image a network's answer depends on: `SaliencyResult`, its view, and `SaliencyPlugin`."""

from plugins.saliency.plugin import SaliencyPlugin
from plugins.saliency.result import SaliencyResult

__all__ = ["SaliencyPlugin", "SaliencyResult"]
