"""What a network keeps, as rows that restore: its modules, what is in them, their hooks, and its tensors."""

from collections.abc import Iterator
from operator import attrgetter

import torch
from torch import Tensor, nn

from interp.network.quiet.kept import Entries, Kept, attribute

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}  # compared bit by bit


def state(net: nn.Module, backup: bool) -> Iterator[Kept]:
    """All that `net` keeps; the values of its tensors with `backup` alone."""
    modules = {path or "the network": module for path, module in net.named_modules()}
    hooks = {key: value for key, value in vars(nn.modules.module).items() if key.startswith("_global")}
    tables = {"every module": hooks} | {name: vars(module) for name, module in modules.items()}
    yield Entries(tables)
    yield attribute("__class__", modules, "class of {owners}")
    yield attribute("training", modules, "training mode of {owners}", within=False)
    plain = {f"{at}.{key}": v for at, table in tables.items() for key, v in table.items() if isinstance(v, Tensor)}
    yield from _tensors("tensor", plain, backup)
    yield from _tensors("buffer", dict(net.named_buffers()), backup)
    yield from _tensors("parameter", dict(net.named_parameters()), backup)


def _tensors(kind: str, tensors: dict[str, Tensor], backup: bool) -> Iterator[Kept]:
    leaves = {name: tensor for name, tensor in tensors.items() if tensor.is_leaf}  # others warn when asked for .grad
    yield attribute("grad", leaves, "gradient left on {owners}", within=None)
    yield _gradient_hooks("_backward_hooks", leaves)
    yield _gradient_hooks("_post_accumulate_grad_hooks", leaves)
    yield attribute("requires_grad", leaves, "requires_grad of {owners}")
    yield Kept(leaves, attrgetter("is_leaf"), lambda tensor, _: tensor.detach_(), wording="graph left on {owners}")
    plain = {n: t for n, t in tensors.items() if t.layout is torch.strided and type(t.data) is Tensor and not t.is_meta}
    yield (memory := attribute("data", plain, f"{kind} {{owners}} replaced", same=Tensor.is_set_to))
    if backup:
        yield _Bits(memory.before, f"{kind} {{owners}} changed in place")


def _gradient_hooks(name: str, tensors: dict[str, Tensor]) -> Kept:
    hooks_of = attrgetter(name)

    def write(tensor: Tensor, hooks: tuple) -> None:
        hooks_of(tensor).clear()  # to set None would not empty those after accumulation
        hooks_of(tensor).update(hooks)

    wording = "gradient hook left on {owners}"
    return Kept(tensors, lambda tensor: tuple((hooks_of(tensor) or {}).items()), write, within=(), wording=wording)


class _Bits(Kept):
    """The values of tensors, of which a copy is kept."""

    def __init__(self, tensors: dict[str, Tensor], wording: str) -> None:
        bits = {name: tensor.view(INTEGERS[tensor.element_size()]) for name, tensor in tensors.items()}
        super().__init__(bits, Tensor.detach, Tensor.copy_, same=torch.equal, wording=wording)
        self.before = self.inside = {name: tensor.clone() for name, tensor in bits.items()}
