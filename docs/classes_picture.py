"""Draws docs/classes.png: six classes of ImageNet as EfficientNet-Lite0 draws them (needs `pretrained`).

python docs/classes_picture.py; two CPU minutes. Above as before version 0.2, below by the defaults.
"""

from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from interp.draw import enlarge, grid
from interp.featurevis import Fft, Recipe, colour_matrix, objectives, render
from interp.featurevis.transforms import STANDARD
from interp.lit.data import ImageData
from interp.lit.data.folder import images
from interp.lit.models import efficientnet_lite0

CLASSES = ["flamingo", "zebra", "balloon", "sports car", "pizza", "daisy"]
SHAPE = (len(CLASSES), 3, 224, 224)

data = ImageData(images, root=Path(__file__).parent, probe_images=2)
net = efficientnet_lite0(data).eval()
logits = objectives.channel("classifier", [data.class_names.index(name) for name in CLASSES])
recipe = Recipe()
now = render(net, recipe.begin(torch.zeros(SHAPE), SHAPE), logits, **recipe.options(SHAPE[2:])).images

from sklearn.datasets import load_sample_images  # noqa: E402

photographs = torch.stack([torch.from_numpy(i.copy()).permute(2, 0, 1) / 255 for i in load_sample_images().images])
every_pixel = Fft.noise(SHAPE, detail=1.0, colour=colour_matrix(photographs))
before = render(net, every_pixel, logits, steps=96, learning_rate=0.08, transforms=STANDARD, saturation=0).images
cells = torch.stack([enlarge(before, 160), enlarge(now, 160)])
sheet = to_pil_image(grid(cells, ["before", "now"], CLASSES))
sheet.quantize(256, dither=Image.Dither.NONE).save(Path(__file__).parent / "classes.png")
