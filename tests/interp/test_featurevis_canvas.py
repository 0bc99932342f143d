"""Canvases against a float64 oracle, their round trips and their colours."""

import numpy as np
import pytest
import torch

from interp.errors import UserError
from interp.featurevis import Aligned, Fft, Maco, Pixel, colour_matrix
from interp.featurevis.canvas import mix, spectrum


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (10, 7), (28, 28)])
@pytest.mark.parametrize("channels", [1, 3])
def test_fft_is_the_published_formula(size, channels):
    height, width = size
    canvas = Fft.noise((2, channels, height, width), seed=3)
    real, imaginary = np.moveaxis(canvas.parameters[0].numpy().astype(np.float64), -1, 0)
    frequency = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2)
    scale = np.sqrt(width * height) / np.maximum(frequency, 1 / max(height, width))
    picture = np.fft.irfft2(scale * (real + 1j * imaginary), s=size) / 4
    if channels == 3:
        matrix = np.array([[0.26, 0.09, 0.02], [0.27, 0, -0.05], [0.27, -0.09, 0.03]])
        picture = np.einsum("dc,bchw->bdhw", matrix / np.linalg.norm(matrix, axis=0).max(), picture)
    np.testing.assert_allclose(canvas().numpy(), 1 / (1 + np.exp(-picture)), atol=1e-6)


def test_amplitude_falls_as_one_over_frequency():
    field = Fft.noise((64, 1, 64, 64)).field()
    power = torch.fft.rfft2(field).abs().square().mean(dim=(0, 1)).sqrt()
    torch.testing.assert_close(power[0, 4] / power[0, 16], torch.tensor(4.0), rtol=0.2, atol=0)
    torch.testing.assert_close(power[4, 0] / power[16, 0], torch.tensor(4.0), rtol=0.2, atol=0)


@pytest.mark.parametrize("kind", [Pixel, Fft, Aligned])
@pytest.mark.parametrize("shape", [(2, 3, 12, 9), (3, 1, 9, 12), (1, 5, 8, 8)])
def test_images_survive_the_round_trip_and_noise_is_nearly_grey(kind, shape):
    images = torch.rand(shape) * 0.9 + 0.05
    torch.testing.assert_close(kind.of(images)(), images, atol=1e-4, rtol=0)
    start = kind.noise(shape)()
    assert start.shape == shape
    assert (start - 0.5).abs().max() < 0.2


@pytest.mark.parametrize("kind", [Pixel, Fft, Aligned, Maco])
def test_noise_depends_on_the_seed_alone_and_not_on_how_many_images_follow(kind):
    first, again, more, other = (kind.noise((count, 3, 8, 8), seed=s) for count, s in ((2, 1), (2, 1), (5, 1), (2, 2)))
    for a, b, c, d in zip(*(canvas.parameters for canvas in (first, again, more, other)), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c[: len(a)])
        assert not torch.equal(a, d)


def test_images_of_an_aligned_set_share_their_coarse_parts():
    canvas = Aligned.noise((4, 1, 32, 32))
    canvas.parameters[4] += torch.randn(1, 1, 2, 2)
    flat = canvas.field().flatten(1)
    assert torch.corrcoef(flat).min() > 0.9


def test_colour_matrix_is_the_symmetric_root_of_the_covariance():
    true = torch.tensor([[0.5, 0.2, 0.1], [0.2, 0.4, 0.0], [0.1, 0.0, 0.3]])
    white = torch.randn(3, 200_000, generator=torch.Generator().manual_seed(0))
    found = colour_matrix((true @ white).view(3, 1, 400, 500).transpose(0, 1))
    torch.testing.assert_close(found, true / true.norm(dim=0).max(), atol=5e-3, rtol=0)
    coloured = mix(white.view(3, 1, 400, 500).transpose(0, 1), found).transpose(0, 1).flatten(1)
    covariance = true @ true.T
    torch.testing.assert_close(coloured.cov() / coloured.cov()[0, 0], covariance / covariance[0, 0], atol=0.02, rtol=0)


def test_grey_images_give_a_matrix_that_can_be_inverted():
    grey = torch.rand(4, 1, 8, 8).expand(-1, 3, -1, -1)
    images = torch.rand(1, 3, 8, 8) * 0.8 + 0.1
    torch.testing.assert_close(Fft.of(images, colour=colour_matrix(grey))(), images, atol=1e-3, rtol=0)
    with pytest.raises(UserError, match="take colour imagenet"):
        colour_matrix(torch.full((2, 3, 4, 4), 0.5))
    with pytest.raises(UserError, match=r"the colour matrix is \(3, 3\), the images have 1 channels"):
        Fft.of(grey[:, :1], colour=torch.eye(3))


def test_maco_keeps_the_spectrum_of_the_images_whatever_the_phase():
    images = torch.rand(5, 1, 16, 16)
    canvas = Maco.like(images, (2, 1, 16, 16))
    expected = spectrum(images, (16, 16))
    canvas.parameters[0].mul_(3).add_(1)
    found = torch.fft.rfft2(canvas.field()).abs()
    inside = (..., slice(1, 8), slice(1, 8))  # where coefficients need not be real
    ratio = found[inside] / expected[inside]
    torch.testing.assert_close(ratio, ratio.mean(dim=(1, 2, 3), keepdim=True).expand_as(ratio), rtol=1e-3, atol=0)
    torch.testing.assert_close(canvas.field().std(dim=(1, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)
    assert spectrum(images, (8, 12)).shape == (1, 8, 7)


def test_of_large_pictures_not_every_pixel_is_drawn():
    large, small = Fft.noise((2, 3, 70, 140)), Fft.noise((2, 3, 64, 90))
    assert large.parameters[0].shape == (2, 3, 40, 41, 2) and large().shape == (2, 3, 70, 140)
    assert small.parameters[0].shape == (2, 3, 64, 46, 2) and (large.rate, small.rate) == (0.05, 0.08)
    whole = Fft.noise((2, 3, 70, 140), detail=1.0)
    assert whole.parameters[0].shape == (2, 3, 70, 71, 2)
    images = torch.nn.functional.interpolate(torch.rand(1, 1, 8, 8), (80, 80), mode="bilinear")
    shown = Fft.of(images, detail=0.5)
    assert shown.parameters[0].shape == (1, 1, 40, 21, 2)
    torch.testing.assert_close(shown(), images.clamp(0.01, 0.99), atol=0.1, rtol=0)  # edges of the bilinear tiles
