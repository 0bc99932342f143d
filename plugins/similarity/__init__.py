"""How alike layers see the same images: `SimilarityResult`, its view, and `SimilarityPlugin`."""

from plugins.similarity.plugin import SimilarityPlugin
from plugins.similarity.result import SimilarityResult

__all__ = ["SimilarityPlugin", "SimilarityResult"]
