"""A study and its settings: it looks at a network without disturbing it, and needs no trainer."""

import logging
import re
import warnings
from abc import abstractmethod
from dataclasses import MISSING, dataclass, fields
from functools import partial
from typing import ClassVar

import torch
from torch import nn

from interp.errors import UserError
from interp.network.layers import find_layer
from interp.network.quiet import quiet
from interp.probe import Probe
from interp.processes import exchange, share
from interp.processes.signals import held_back, time_limit
from interp.result import Result
from plugins.base.settings import check_settings, setting

log = logging.getLogger(__name__)
ON_ERROR = ("warn", "disable", "raise")


@dataclass(kw_only=True)
class Study:
    """A study of a network on a probe.

    Subclasses are dataclasses whose fields, each a `setting`, are the keys of their YAML, and write `analyze`. Fields
    called `layer` and `layers` name layers, which are checked before training starts.
    """

    shares: ClassVar[bool] = False  # whether many processes study together (interp.processes.share); else the first

    name: str = ""  # of its scalars, its results folder and its pictures; '': its class's, such as nmf of NMFPlugin
    every_n_epochs: int = setting(1, "look after every n-th epoch, and after the last", least=1)
    at_start: bool = setting(True, "look at the untrained network too (epoch 0)")
    on_error: str = setting(
        "warn", "warn: report it and go on; disable: and look no more; raise: end the training", choices=ON_ERROR
    )
    seed: int = setting(0, "of the random numbers that the study draws")
    batch_size: int = setting(64, "images at once; halved when memory runs out", least=1)
    timeout: float | None = setting(
        3600, "seconds that a look may take; then it is skipped, and training goes on; null: no limit", above=0
    )
    keep_looks: int | None = setting(
        None, "on disk, of each study: at most so many (2 or more), the first, the last and evenly between; null: all",
        least=2, why="the first look and the last, or null for all",
    )  # fmt: skip

    def __post_init__(self) -> None:
        self.name = self.name or _snake_case(type(self).__name__.removesuffix("Plugin"))
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise UserError(f"plugin name {self.name!r}: use letters, digits, '_', '-' and '.'")
        self._take_short_forms()
        check_settings(self, f"plugin.{self.name}")
        self._told: set[object] = set()  # errors whose traceback has been shown, and parts that were left out

    def _take_short_forms(self) -> None:
        """One thing is a list of one where a list is wanted; layers of an nn.Sequential are called 0, 1, ..."""
        for field in fields(self):
            value, factory = getattr(self, field.name), field.default_factory
            if factory is not MISSING and isinstance(factory(), list):
                value = [value] if isinstance(value, str | int | float) else value if value is None else list(value)
            if field.name == "layer" and value is not None:
                value = str(value)
            setattr(self, field.name, list(map(str, value)) if field.name == "layers" else value)

    @abstractmethod
    def analyze(self, net: nn.Module, probe: Probe) -> Result:
        """Study `net`: in eval mode, on its device, gradients possible, random numbers seeded with `seed`.

        The probe's tensors are on the same device. Whatever it changes is undone afterwards. Raises UserError for
        settings that do not fit the network or the data, which ends the run before the first epoch.
        """

    def check(self, net: nn.Module) -> None:
        """Raise UserError where settings do not fit the network, before anything is written."""
        for layer in [getattr(self, "layer", None), *getattr(self, "layers", [])]:
            if layer:
                find_layer(net, layer)

    def __call__(self, net: nn.Module, probe: Probe) -> Result:
        """Look, in a loop of one's own or a notebook: `study(net, probe).save(folder)`, and after it `report(folder)`.

        The result is saved under the study's name (`Result.save`). Raises what `look` raises, and UserError on those of
        many processes that only helped the first.
        """
        result = self.look(net, probe)
        if result is None:
            raise UserError(f"the first process alone gets the result of {self.name}: on several call `look`")
        return result.of_study(self.name)

    def look(self, net: nn.Module, probe: Probe) -> Result | None:
        """Run the study without disturbing `net` (in its own precision, autocast off); needs no trainer.

        Of a probe with a `mean` and `std`, `net` takes normalised images; it is studied behind their normalisation.

        Signals that may end the process wait until all is put back. Raises TimeoutError after `timeout` seconds.

        Of many processes all must call it. None on those that only helped the first. Raises ProcessLost where one of
        them does not come within `timeout` and a grace.
        """
        net = probe.network(net)
        while True:
            try:
                with held_back():
                    return share.together(
                        partial(self._look, net, probe), shared=self.shares, name=self.name, seconds=self.patience()
                    )
            except torch.OutOfMemoryError:  # on all processes alike
                if self.batch_size == 1:
                    raise
                self.batch_size = max(1, self.batch_size // 2)
                log.warning("plugin %s ran out of memory: trying batch_size=%d", self.name, self.batch_size)

    def patience(self, pictures: float = 0.0) -> float | None:
        """Seconds that a process waits for another at most: one look, with what is written of the last."""
        return None if self.timeout is None else self.timeout + exchange.GRACE + pictures

    def _look(self, net: nn.Module, probe: Probe) -> Result:
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        advice = f": give plugin.{self.name}.timeout more, or null for no limit"
        with (
            share.buffers_of_first(net),
            quiet(net, seed=self.seed, report=self._warn_of_changes, plain=lambda: net(probe.images[:1].to(device))),
            time_limit(self.timeout, advice),
        ):
            result = self.analyze(net, probe.agreed().to(device))
        if not isinstance(result, Result):
            raise TypeError(f"analyze returned {type(result).__name__}, which is no interp.result.Result")
        if left_out := [text for text in result.left_out if text.partition(" (")[0] not in self._told]:
            self._told |= {text.partition(" (")[0] for text in left_out}
            log.warning("plugin %s leaves out %s", self.name, "; ".join(left_out))
        return result

    def _warn_of_changes(self, changes: list[str]) -> None:
        warnings.warn(f"plugin {self.name} left changes behind, undone: {'; '.join(changes)}", stacklevel=2)


def _snake_case(name: str) -> str:
    """The name of a class as files and folders are called.

    >>> _snake_case("ClassAttribution"), _snake_case("NMF")
    ('class_attribution', 'nmf')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
