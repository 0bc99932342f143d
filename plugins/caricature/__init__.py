"""How layers saw the probe's images, exaggerated: `CaricatureResult` and `CaricaturePlugin`."""

from plugins.caricature.plugin import CaricaturePlugin, CaricatureResult

__all__ = ["CaricaturePlugin", "CaricatureResult"]
