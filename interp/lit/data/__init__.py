"""Data sets of the harness: each source is one function that returns `Splits`; `ImageData` makes loaders of them."""

from interp.lit.data.images import ImageData, Splits, TensorImages

__all__ = ["ImageData", "Splits", "TensorImages"]
