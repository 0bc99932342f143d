"""scikit-learn's 1,797 real handwritten digits: nothing is downloaded."""

import torch
from torch.nn.functional import interpolate

from interp.errors import UserError
from interp.lit.data.images import Splits, TensorImages, stratified


def digits(size: int = 32, split_seed: int = 0) -> Splits:
    """The digits (8 x 8 pixels, 16 greys), enlarged bilinearly to `size`: 1,077 to train, 360 to validate, 360 to test.

    The split is stratified by class and depends on `split_seed` alone. Raises UserError for a size below 8.
    """
    from sklearn.datasets import load_digits

    if size < 8:
        raise UserError(f"data.size={size}: the digits have 8 pixels, choose 8 or more")
    raw = load_digits()
    images = torch.from_numpy(raw.images).float().unsqueeze(1) / 16
    if size > 8:
        images = interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    everything = TensorImages((images.clamp(0, 1) * 255).round().byte(), torch.from_numpy(raw.target).long())
    rest, test = stratified(everything.targets, 0.2, split_seed)
    train, val = (rest[part] for part in stratified(everything.targets[rest], 0.25, split_seed))
    names = tuple(str(name) for name in raw.target_names)
    return Splits(everything.subset(train), everything.subset(val), everything.subset(test), names)
