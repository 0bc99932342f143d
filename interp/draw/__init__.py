"""Results to pictures: uint8 tensors (3, H, W), equal for equal input on every machine."""

from interp.draw.colour import dim, divergent, heat, hues, overlay, rgb, stepped
from interp.draw.crops import crops
from interp.draw.grid import cell_side, enlarge, grid, note, stacked

__all__ = ["cell_side", "crops", "dim", "divergent", "enlarge", "grid", "heat", "hues", "note", "overlay", "rgb",
           "stacked", "stepped"]  # fmt: skip
