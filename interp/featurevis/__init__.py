"""Feature visualisation: canvas x transforms x objectives x render (Olah et al. 2017; Lucid's optvis)."""

from interp.featurevis import objectives, transforms
from interp.featurevis.attribute import attribution
from interp.featurevis.canvas import Aligned, Canvas, Fft, Maco, Pixel, colour_matrix
from interp.featurevis.caricature import Caricatures, attribution_caricatures, caricatures
from interp.featurevis.cells import ActivationGrid, activation_grid, mosaic
from interp.featurevis.objective import Objective
from interp.featurevis.recipe import CANVASES, COLOURS, Recipe, colours
from interp.featurevis.render import Rendered, evaluate, kept, render
from interp.featurevis.transforms import Transforms

__all__ = [
    "CANVASES",
    "COLOURS",
    "ActivationGrid",
    "Aligned",
    "Canvas",
    "Caricatures",
    "Fft",
    "Maco",
    "Objective",
    "Pixel",
    "Recipe",
    "Rendered",
    "Transforms",
    "activation_grid",
    "attribution",
    "attribution_caricatures",
    "caricatures",
    "colour_matrix",
    "colours",
    "evaluate",
    "kept",
    "mosaic",
    "objectives",
    "render",
    "transforms",
]
