"""How layers saw the probe's images, exaggerated: `CaricatureResult`, its view, and `CaricaturePlugin`."""

from plugins.caricature.plugin import CaricaturePlugin
from plugins.caricature.result import CaricatureResult

__all__ = ["CaricaturePlugin", "CaricatureResult"]
