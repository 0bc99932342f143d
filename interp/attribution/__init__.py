"""What pushed a logit: gradients at the input."""

from interp.attribution.saliency import Saliency, saliency

__all__ = ["Saliency", "saliency"]
