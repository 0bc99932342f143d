"""Draws docs/photograph_caricatures.png: what layers of EfficientNet-Lite0 see in photographs (needs `pretrained`).

python docs/caricature_picture.py [PHOTOGRAPH PHOTOGRAPH]; by default the two that come with scikit-learn.
"""

import sys
from pathlib import Path

import sklearn.datasets
import torch
from PIL import Image
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize, to_pil_image

from interp.lit.data import ImageData
from interp.lit.data.folder import images
from interp.lit.models import efficientnet_lite0
from interp.probe import Probe
from plugins.caricature import CaricaturePlugin

files = [Path(name) for name in sys.argv[1:] or sklearn.datasets.load_sample_images().filenames]
data = ImageData(images, root=files[0].parent, probe_images=2)
net = efficientnet_lite0(data).eval()
photographs = [pil_to_tensor(Image.open(file).convert("RGB")) for file in files]
pictures = torch.stack([resize(center_crop(p, [min(p.shape[1:])] * 2), [224, 224]) for p in photographs]) / 255
probe = Probe(pictures, torch.full((len(files),), -1), data.class_names, torch.arange(len(files)))
layers = ["blocks.0", "blocks.2", "blocks.4", "blocks.6"]
drawn = CaricaturePlugin(name="caricature", layers=layers, images=len(files)).look(net, probe)
print(drawn.captions()["caricatures"], drawn.scalars(), sep="\n")
sheet = to_pil_image(drawn.pictures()["caricatures"]).quantize(256)  # a palette: a third of the bytes
sheet.save(Path(__file__).parent / "photograph_caricatures.png", optimize=True)
