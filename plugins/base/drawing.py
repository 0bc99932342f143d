"""What studies that draw pictures can be told of how they are drawn."""

from dataclasses import dataclass

from interp.featurevis.recipe import CANVASES, COLOURS, PENALTIES, Recipe
from interp.featurevis.transforms import NAMED
from plugins.base.settings import setting


@dataclass(kw_only=True)
class Drawing:
    """Settings of a render; their defaults are what other networks understand best (docs/pictures.md)."""

    canvas: str = setting(
        "fft",
        "or pixel, aligned (the pictures share what is common), maco (with the spectrum of the probe images)",
        choices=[*CANVASES],
    )
    colour: str = setting(
        "imagenet", "Lucid's colours for three channels; or data: directions in which the probe's vary", choices=COLOURS
    )
    detail: float | None = setting(
        None, "share of the pixels that is drawn in each direction; null: 4/7 above 64 pixels, else 1", above=0, most=1
    )
    transforms: str | None = setting(
        None, f"moves at each step: {', '.join(NAMED)}; null: what suits canvas and size", choices=[*NAMED]
    )
    feed: int | None = setting(None, "pixels of what the network gets; null: as the pictures", least=4)
    learning_rate: float | None = setting(None, "null: 0.05 above 64 pixels, else 0.08; maco 1.0", above=0)
    total_variation: float = setting(0.0, "weight of a penalty on differences of neighbouring pixels", least=0)
    l1: float = setting(0.0, "weight of a penalty on the distance of pixels from grey", least=0)
    l2: float = setting(0.0, "weight of a penalty on its square", least=0)

    def recipe(self, steps: int | None, seed: int) -> Recipe:
        """What a render is told."""
        penalties = tuple((name, float(getattr(self, name))) for name in PENALTIES)
        return Recipe(
            canvas=self.canvas, colour=self.colour, detail=self.detail, transforms=self.transforms, feed=self.feed,
            learning_rate=self.learning_rate, steps=steps, penalties=penalties, seed=seed,
        )  # fmt: skip
