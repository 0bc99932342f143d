"""Draws docs/two_objects.png: groups and class attributions of two photographs side by side (needs `pretrained`).

python docs/attribution_picture.py [PHOTOGRAPH PHOTOGRAPH]; by default the two that come with scikit-learn.
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
from plugins.class_attribution import ClassAttributionPlugin
from plugins.nmf import NMFPlugin

files = [Path(name) for name in sys.argv[1:] or sklearn.datasets.load_sample_images().filenames]
data = ImageData(images, root=files[0].parent, probe_images=2)
net = efficientnet_lite0(data).eval()
photographs = [Image.open(file).convert("RGB") for file in files]
halves = [resize(center_crop(pil_to_tensor(photo), [min(photo.size)] * 2), [224, 224]) for photo in photographs]
picture = resize(torch.cat(halves, dim=2), [224, 224])[None] / 255
probe = Probe(picture, torch.tensor([-1]), data.class_names, torch.tensor([0]))
groups = NMFPlugin(name="nmf", layer="bn2", groups=4, crops=1).look(net, probe)
factors = ClassAttributionPlugin(name="class_attribution", layers=["bn2", "blocks.5.0.bn1"]).look(net, probe)
print(groups.captions()["groups"], factors.captions()["factors"], sep="\n")
shown = [groups.pictures()["groups"], factors.pictures()["factors"]]
width = max(part.shape[2] for part in shown)
shown = [torch.nn.functional.pad(part, (0, width - part.shape[2]), value=255) for part in shown]
to_pil_image(torch.cat(shown, dim=1)).save(Path(__file__).parent / "two_objects.png", optimize=True)
