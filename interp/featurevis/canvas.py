"""Canvases: images in [0, 1] drawn from parameters that an optimiser moves (Olah et al. 2017; Lucid's optvis.param)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from interp.errors import UserError

IMAGENET = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])  # Lucid's, not normalised
LARGE = 64  # pixels: of larger pictures not every pixel is drawn
DETAIL = 4 / 7  # of their pixels, in each direction: finer detail pleases its own network and tells another nothing
SPREAD = 0.01  # standard deviation of the parameters at the start: nearly uniform grey


@dataclass
class Canvas:
    """B images; a subclass says how `field` is drawn from the parameters."""

    parameters: list[Tensor]
    size: tuple[int, int]  # H, W
    colour: Tensor | None = None  # (C, C), None to leave the channels as they are
    detail: float = 1.0  # of the pixels of an Fft that are drawn, in each direction; others lie between them
    optimizer: ClassVar[Callable[..., torch.optim.Optimizer]] = torch.optim.Adam
    own: ClassVar[int] = 1  # parameters that hold something for each image; all images share those after them

    @property
    def rate(self) -> float:
        """The usual learning rate."""
        return 0.05 if min(self.size) > LARGE else 0.08

    def field(self) -> Tensor:
        """The picture (B, C, H, W) before colours are mixed and squeezed into [0, 1]."""
        return self.parameters[0]

    def __call__(self) -> Tensor:
        """The images (B, C, H, W) in [0, 1]."""
        field = self.field()
        return torch.sigmoid(field if self.colour is None else mix(field, self.colour))

    @classmethod
    def of(cls, images: Tensor, *, colour: Tensor | None = None, margin: float = 0.01, detail: float = 1.0) -> Self:
        """The canvas that shows `images` (B, C, H, W) but for values nearer than `margin` to 0 or 1, and less `detail`.

        At 0 and 1 themselves no gradient passes the sigmoid.
        """
        field = torch.logit(images.detach().float(), eps=margin)
        matrix = _colour(colour, images.shape[1], images.device)
        field = field if matrix is None else mix(field, torch.linalg.inv(matrix))
        return cls(cls.encode(field, detail), _size(images), matrix, detail)

    @classmethod
    def noise(
        cls, shape: Sequence[int], *, colour: Tensor | None = None, seed: int = 0, device="cpu",
        detail: float | None = None,
    ) -> Self:  # fmt: skip
        """Nearly grey images of `shape` (B, C, H, W), the same for a `seed` on every device.

        `colour` (C, C) is a `colour_matrix`; by default Lucid's ImageNet one for three channels, none otherwise. The
        share `detail` of the pixels is drawn in each direction, by default all up to `LARGE`, else `DETAIL`. The first
        images are the same whatever B is.
        """
        _, channels, height, width = shape
        matrix = _colour(colour, channels, device)
        detail = usual_detail((height, width)) if detail is None else detail
        shapes = cls.shapes(shape, detail)
        parameters = [SPREAD * torch.randn(s, generator=torch.Generator().manual_seed(seed)) for s in shapes]
        return cls([p.to(device) for p in parameters], (height, width), matrix, detail)

    def repeated(self, count: int) -> Self:
        """The canvas of `count` times these images in a row; what they share, more of them share."""
        of_each_image = [p.repeat(count, *[1] * (p.ndim - 1)) for p in self.parameters[: self.own]]
        return replace(self, parameters=of_each_image + self.parameters[self.own :])

    @staticmethod
    def shapes(shape: Sequence[int], detail: float) -> list[tuple[int, ...]]:
        """Shapes of the parameters for images of `shape` (B, C, H, W)."""
        return [tuple(shape)]

    @staticmethod
    def encode(field: Tensor, detail: float) -> list[Tensor]:
        """The parameters that draw `field` (B, C, H, W)."""
        return [field]


class Pixel(Canvas):
    """Each pixel is a parameter."""


class Fft(Canvas):
    """Fourier coefficients divided by frequency, so that a step changes all scales alike; (B, C, h, w//2+1, 2).

    h and w are `detail` of the picture's sides.
    """

    def field(self) -> Tensor:
        """irfft2(scale * coefficients) / 4, as Lucid draws it, bilinearly enlarged from `detail` of the size."""
        coefficients, size = torch.view_as_complex(self.parameters[0]), _part(self.size, self.detail)
        field = torch.fft.irfft2(coefficients * _scale(size).to(coefficients.device), s=size) / 4
        return _resized(field, self.size)

    @staticmethod
    def shapes(shape: Sequence[int], detail: float) -> list[tuple[int, ...]]:
        height, width = _part((shape[2], shape[3]), detail)
        return [(*shape[:2], height, width // 2 + 1, 2)]

    @staticmethod
    def encode(field: Tensor, detail: float) -> list[Tensor]:
        size = _part(_size(field), detail)
        coefficients = torch.fft.rfft2(_resized(field, size) * 4) / _scale(size).to(field.device)
        return [torch.view_as_real(coefficients)]


class Aligned(Fft):
    """An `Fft` for each image plus coarse pictures that all images share, so that a set keeps its layout."""

    def field(self) -> Tensor:
        """Own detail plus shared pictures at 1/2 to 1/16 of the size, bilinearly enlarged."""
        shared = [interpolate(p, self.size, mode="bilinear", align_corners=False) for p in self.parameters[1:]]
        return super().field() + sum(shared)

    @staticmethod
    def shapes(shape: Sequence[int], detail: float) -> list[tuple[int, ...]]:
        _, channels, height, width = shape
        coarse = [(1, channels, max(1, height // part), max(1, width // part)) for part in (2, 4, 8, 16)]
        return Fft.shapes(shape, detail) + coarse

    @staticmethod
    def encode(field: Tensor, detail: float) -> list[Tensor]:
        coarse = [field.new_zeros(shape) for shape in Aligned.shapes(field.shape, detail)[1:]]
        return Fft.encode(field, detail) + coarse


@dataclass
class Maco(Canvas):
    """Only the phase moves; the magnitude of every frequency is that of real images (Fel et al. 2023)."""

    magnitude: Tensor | None = None  # (C, H, W//2+1)
    optimizer: ClassVar[Callable[..., torch.optim.Optimizer]] = torch.optim.NAdam

    @property
    def rate(self) -> float:
        return 1.0

    def field(self) -> Tensor:
        """irfft2 of the magnitude at the standardised phases, standardised over each image."""
        assert self.magnitude is not None
        phase = _standardise(self.parameters[0])
        return _standardise(torch.fft.irfft2(torch.polar(self.magnitude.expand_as(phase), phase), s=self.size))

    @staticmethod
    def shapes(shape: Sequence[int], detail: float) -> list[tuple[int, ...]]:
        return [(*shape[:-1], shape[-1] // 2 + 1)]

    @classmethod
    def like(cls, images: Tensor, shape: Sequence[int], **options) -> Self:
        """Random phases for `shape` (B, C, H, W), magnitudes of `images` (N, C, h, w); `options` as of `noise`."""
        canvas = cls.noise(shape, device=images.device, **options)
        canvas.magnitude = spectrum(images, canvas.size, canvas.colour)
        return canvas

    @classmethod
    def of(cls, images: Tensor, *, colour: Tensor | None = None, margin: float = 0.01, detail: float = 1.0) -> Self:
        raise UserError("a Maco canvas keeps the spectrum of many images and cannot show a given one: use Fft.of")


def spectrum(images: Tensor, size: tuple[int, int], colour: Tensor | None = None) -> Tensor:
    """Mean magnitude (C, H, W//2+1) of the Fourier coefficients of `images` (N, C, h, w) at `size` (H, W).

    With `colour` (C, C), of the components that this matrix mixes. Their constant part, a tint, is left out.
    """
    if images.shape[-2:] != size:
        images = interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
    images = images if colour is None else mix(images, torch.linalg.inv(colour))
    return torch.fft.rfft2(images - images.mean(dim=(2, 3), keepdim=True)).abs().mean(dim=0)


def colour_matrix(images: Tensor) -> Tensor:
    """Symmetric root (C, C) of the colour covariance of `images` (N, C, H, W), its largest column of length 1.

    Directions in which the colours do not vary (grey images in three channels) keep a hundredth of the largest spread.
    """
    values, vectors = torch.linalg.eigh(torch.atleast_2d(images.transpose(0, 1).flatten(1).double().cov(correction=0)))
    if values[-1] <= 0:
        raise UserError("the images have one colour each and all, so there is no covariance: take colour imagenet")
    root = vectors @ torch.diag(values.clamp_min(1e-4 * values[-1]).sqrt()) @ vectors.T
    return _unit_columns(root).float()


def usual_detail(size: tuple[int, int]) -> float:
    """The share of the pixels that is drawn in each direction of pictures of `size` (H, W) unless another is said."""
    return DETAIL if min(size) > LARGE else 1.0


def mix(images: Tensor, matrix: Tensor) -> Tensor:
    """Channels of `images` (B, C, H, W) mixed by `matrix` (C, C): rgb = matrix @ x at every pixel."""
    return torch.einsum("dc,bchw->bdhw", matrix, images)


def _colour(matrix: Tensor | None, channels: int, device: torch.device | str) -> Tensor | None:
    if matrix is None:
        return _unit_columns(IMAGENET).to(device) if channels == 3 else None
    if matrix.shape != (channels, channels):
        raise UserError(f"the colour matrix is {tuple(matrix.shape)}, the images have {channels} channels")
    return matrix.to(device)


def _unit_columns(matrix: Tensor) -> Tensor:
    return matrix / matrix.norm(dim=0).max()


def _scale(size: tuple[int, int]) -> Tensor:
    """sqrt(W H) / max(f, 1 / max(H, W)), (H, W//2+1), with f the length of the frequency in cycles per pixel."""
    height, width = size
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width))
    return (width * height) ** 0.5 / frequency.clamp_min(1 / max(height, width))


def _part(size: tuple[int, int], detail: float) -> tuple[int, int]:
    return max(1, round(size[0] * detail)), max(1, round(size[1] * detail))


def _resized(field: Tensor, size: tuple[int, int]) -> Tensor:
    if field.shape[-2:] == size:
        return field
    return interpolate(field, size, mode="bilinear", align_corners=False, antialias=field.shape[-1] > size[-1])


def _standardise(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    flat = (flat - flat.mean(dim=1, keepdim=True)) / (flat.std(dim=1, keepdim=True) + 1e-4)
    return flat.view_as(images)


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]
