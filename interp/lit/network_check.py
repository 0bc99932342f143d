"""Whether a network answers images with logits, tried on two of them before anything is trained or studied.

Letters: B images, J classes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, jit, nn

from interp.errors import UserError, reason
from interp.lit.data import ImageData
from interp.network.quiet import quiet
from interp.probe import same_size

QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torchao")


def check_network(net: nn.Module, name: str, data: ImageData, *, trains: bool) -> None:
    """Raise UserError where `net`, called `name`, gives no logits for the images of `data`, or cannot be studied.

    With `trains` it is also tried in training mode, on training images, and `data` learns whether one image at a time
    is too few for it. Nothing of the network changes but lazy parameters, which get their shapes.
    """
    refuse_what_has_no_layers(net, name)
    if trains and not any(parameter.requires_grad for parameter in net.parameters()):
        raise UserError(f"{name} has no parameter with requires_grad: there is nothing to train")
    trial = _Trial(net, name, data)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]  # a network may run on a GPU alone
    for device in devices:
        try:
            trial.run(device, trains)
            return
        except UserError:
            if device == devices[-1]:
                raise
        finally:
            net.to("cpu")


def refuse_what_has_no_layers(net: nn.Module, name: str) -> None:
    """Raise UserError for networks whose layers cannot be looked into, or have no gradients."""
    for path, module in net.named_modules():
        at = f"{name}, layer {path}," if path else name
        if isinstance(module, jit.ScriptModule):
            raise UserError(
                f"{at} is compiled by torch.jit: it cannot be studied, since its layers run without hooks; give the "
                "nn.Module that it was made from"
            )
        types = [type(module), *(type(tensor) for tensor in module.parameters(recurse=False))]
        if any(kind.__module__.startswith(QUANTIZED) for kind in types):
            raise UserError(
                f"{at} is quantised: it can neither be trained nor studied, since it has no gradients; give the "
                "network in floating point"
            )


class _Trial:
    def __init__(self, net: nn.Module, name: str, data: ImageData) -> None:
        self.net, self.name, self.data = net, name, data
        self.classes = len(data.class_names)

    def run(self, device: str, trains: bool) -> None:
        images = self.data.probe.images[[0, -1]].to(device)
        self.net.to(device)
        if any(isinstance(p, nn.parameter.UninitializedParameter) for p in self.net.parameters()):
            with torch.no_grad():
                self.answer(images, "images")
        with quiet(self.net, report=lambda _: None):
            logits = self.answer(images.requires_grad_().clone(), "images")
            self.check(logits, 2)
            if not logits.requires_grad:
                raise UserError(
                    f"{self.name} gives answers without gradients (torch.no_grad, inference_mode or detach in its "
                    "forward?): it can neither be trained nor studied"
                )
            if trains and not any(isinstance(module, nn.SyncBatchNorm) for module in self.net.modules()):
                self.train(device)

    def train(self, device: str) -> None:
        images = self.training_images().to(device)
        self.net.train()
        self.check(self.answer(images, "training images"), 2, " while it trains")
        try:
            alone = self.net(images[:1])
        except ValueError:  # batch normalisation of one value a channel
            self.data.needs_two = True
        else:
            self.check(alone, 1, " of one image")

    def training_images(self) -> Tensor:
        images = self.data.training_images
        try:
            return same_size([images[index][0] for index in (0, len(images) - 1)], "training images")
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"data.augment fails on a training image: {reason(error)}") from error

    def answer(self, images: Tensor, what: str) -> Any:
        try:
            return self.net(images)
        except Exception as error:
            shape = " x ".join(map(str, images.shape[1:]))
            made_for = getattr(self.net, "usual_size", None)
            advice = f"; it was made for {made_for} pixels: data.size={made_for}" if made_for else ""
            raise UserError(f"{self.name} fails on {what} of {shape}: {reason(error)}{advice}") from error

    def check(self, output: Any, count: int, when: str = "") -> None:
        """Raise UserError where `output` is no finite float (count, J)."""
        if isinstance(output, Tensor) and output.shape == (count, self.classes) and output.is_floating_point():
            if not output.isfinite().all():
                raise UserError(f"{self.name} gives NaN or infinity before it is trained: look at its weights")
            return
        names = ", ".join(self.data.class_names[:3]) + (", ..." if self.classes > 3 else "")
        raise UserError(
            f"{self.name} gives {_form(output)}{when}; wanted are logits, float ({count}, {self.classes}): a number "
            f"for each of the {self.classes} classes ({names}){_advice(output, (count, self.classes))}"
        )


def _form(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"{str(output.dtype).removeprefix('torch.').rstrip('0123456789')} {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a dictionary of {', '.join(f'{key!r}: {_form(value)}' for key, value in output.items())}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {', '.join(map(_form, output))}"
    return f"an object {type(output).__name__}"


def _advice(output: Any, wanted: tuple[int, int]) -> str:
    """How to get what is wanted, where that can be seen."""
    fits = [key for key, value in _parts(output) if isinstance(value, Tensor) and value.shape == wanted]
    if fits:
        return f": let its forward return [{fits[0]!r}] alone"
    if isinstance(output, Tensor) and output.shape[:2] == wanted and output.numel() == wanted[0] * wanted[1]:
        return ": let its forward end with .flatten(1)"
    if isinstance(output, Tensor) and output.ndim == 2:
        return f": give its last layer {wanted[1]} outputs (len(data.class_names)) instead of {output.shape[1]}"
    return ""


def _parts(output: Any) -> list[tuple[Any, Any]]:
    if isinstance(output, Mapping):
        return list(output.items())
    return list(enumerate(output)) if isinstance(output, tuple | list) else []
