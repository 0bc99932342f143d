"""What in an image a network's answer depends on: `SaliencyResult` and `SaliencyPlugin`."""

from plugins.saliency.plugin import SaliencyPlugin, SaliencyResult

__all__ = ["SaliencyPlugin", "SaliencyResult"]
