"""Optimizer and learning-rate schedule of a run that is resumed: as they were where nothing changed, else laid anew.

A schedule is laid anew over all steps that the training now has, the past ones included, and moved to where the run
is: from there on the rate is that of a run that had been asked for as much from its beginning.
"""

import copy
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from interp.errors import UserError

# What torch's schedulers call the number of steps of the whole training.
STEP_COUNTS = ("total_steps", "T_max", "total_iters")


@dataclass(frozen=True)
class Plan:
    """What a run is optimised with: plain values, which its checkpoints keep."""

    optimizer: str  # the name of its class
    settings: dict[str, Any]
    scheduler: str = ""  # none: the optimizer's own rate
    scheduler_settings: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None  # that the schedule is laid over; None where it does not count them
    epoch: int | None = None  # steps of an epoch; None where that is not known
    ahead: int = 0  # steps of the schedule beyond the optimizer's, after epochs of another length

    @classmethod
    def of(cls, optimizer: Any, scheduler: Any) -> "Plan":
        """Of factories that Hydra has made, or of classes, as yet without steps."""
        kept = [_plain(getattr(factory, "keywords", {})) for factory in (optimizer, scheduler)]
        return cls(_name(optimizer), kept[0], "" if scheduler is None else _name(scheduler), kept[1])

    def kept(self) -> dict[str, Any]:
        """As a checkpoint takes it."""
        return asdict(self)

    def differs(self, then: "Plan") -> bool:
        """Whether the state of a run with the plan `then` is not that of this one."""
        names = ("settings", "scheduler", "scheduler_settings", "steps")
        other_epochs = self.steps is not None and then.epoch not in (None, self.epoch)
        return other_epochs or any(getattr(self, name) != getattr(then, name) for name in names)


def _name(factory: Any) -> str:
    made = getattr(factory, "func", factory)
    return str(getattr(made, "__name__", type(made).__name__))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else _name(value)


def plan_of(checkpoint: Mapping[str, Any], now: Plan, scheduler: Any = None) -> Plan:
    """The plan of the run that wrote `checkpoint`; of an older one what the states of optimizer and scheduler say.

    What neither says is taken to be as it is `now`, with the `scheduler` that has been made for it.
    """
    kept = checkpoint.get("plan")
    if isinstance(kept, Mapping) and kept.keys() == now.kept().keys():
        counts = (kept["steps"], kept["epoch"], kept["ahead"])
        if all(count is None or isinstance(count, int) for count in counts):
            return Plan(**kept)
    group = checkpoint["optimizer_states"][0]["param_groups"][0]
    state: dict[str, Any] = next(iter(checkpoint.get("lr_schedulers") or ()), {})
    known = {**state, **group, "lr": group.get("max_lr", group.get("initial_lr", group["lr"]))}
    name = now.scheduler if scheduler is not None and state.keys() == scheduler.state_dict().keys() else "another"
    return Plan(
        now.optimizer,
        {key: _plain(known.get(key, value)) for key, value in now.settings.items()},
        name if state else "",
        {key: _plain(known.get(key, value)) for key, value in now.scheduler_settings.items()} if state else {},
        None if now.steps is None and state else next((state[count] for count in STEP_COUNTS if count in state), None),
    )


def check_optimizer(then: Any, now: str, run: str = "RUN") -> None:
    """Raise UserError where the state of the optimizer of a `run` would be given to another."""
    if then != now:
        raise UserError(
            f"checkpoint={run} holds the state of {then}, which {now} cannot go on from: keep that run's optimizer, or "
            f"start anew from its weights alone, with weights={run} instead of checkpoint={run}"
        )


def check_step(factory: Callable, state: Mapping[str, Any], run: str = "RUN") -> None:
    """Raise UserError where an optimizer as `factory` makes it cannot take a step from the `state` of that of a `run`.

    AdamW with amsgrad, for one, reads what AdamW without it does not keep. Tried on one parameter of zeros.
    """
    kept: Mapping[str, Any] = next(iter(state["state"].values()), {})
    shape = next((value.shape for value in kept.values() if isinstance(value, Tensor) and value.dim()), (1,))
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad, optimizer = torch.zeros(shape), factory([weight])
    optimizer.state[weight] = copy.deepcopy(dict(kept))
    try:
        optimizer.step(lambda: torch.zeros(()))
    except KeyError as error:
        raise UserError(
            f"checkpoint={run} holds a state that {_name(factory)} cannot go on from as it is set now, without "
            f"{error}: keep that run's optimizer settings, or start anew from its weights alone, with weights={run}"
        ) from error


def open_counts(factory: Callable) -> list[str]:
    """The parameters of a scheduler for the steps of the whole training that nobody has set."""
    accepted, given = inspect.signature(factory).parameters, getattr(factory, "keywords", {})
    return [name for name in STEP_COUNTS if name in accepted and given.get(name) is None]


def check_end(factory: Callable | None, trainer: Trainer) -> None:
    """Raise UserError where the scheduler must know the number of steps and `trainer` does not."""
    if factory and open_counts(factory) and trainer.max_epochs == -1 and trainer.max_steps == -1:
        raise UserError(
            f"trainer.max_epochs=-1 has no end, over which the scheduler ({_name(factory)}) is to be laid: give "
            "trainer.max_epochs=N or +trainer.max_steps=N, or a schedule that needs no end: scheduler=none"
        )


def laid(factory: Callable, optimizer: Optimizer, steps: float) -> Any:
    """The schedule that `factory` makes over so many steps, if it counts them."""
    return factory(optimizer, **{name: int(steps) for name in open_counts(factory)})


def lay(factory: Callable | None, optimizer: Optimizer, plan: Plan, trainer: Trainer) -> tuple[Any, Plan]:
    """The schedule that `factory` makes over the whole training, and the plan with its steps; None without one.

    Raises UserError where it was given fewer steps than the training has.
    """
    if factory is None:
        return None, plan
    steps, counts = trainer.estimated_stepping_batches, open_counts(factory)
    scheduler = laid(factory, optimizer, steps)
    if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < steps:  # it raises when they are used up
        raise UserError(f"scheduler.total_steps={scheduler.total_steps}: this training has {steps} steps; leave it out")
    batches = trainer.num_training_batches
    epoch = math.ceil(batches / trainer.accumulate_grad_batches) if math.isfinite(batches) else None
    return scheduler, replace(plan, steps=int(steps) if counts else None, epoch=epoch)


def go_on(
    checkpoint: dict[str, Any], then: Plan, now: Plan, optimizer: Optimizer, scheduler: Any, bound: int
) -> tuple[Plan, str]:
    """Make the states in `checkpoint` fit what is asked for `now`: the plan from here on, and in words what changed.

    Where nothing has, they stay as they are. `bound` is the step at which the training ends, -1 where an epoch does
    that. Raises UserError where they cannot fit.
    """
    if not now.differs(then):
        return replace(now, ahead=then.ahead), ""
    step, groups = _place(checkpoint, then, now, bound), optimizer.param_groups
    _advance(scheduler, step)
    saved = checkpoint["optimizer_states"][0]
    if len(groups) != len(saved["param_groups"]) or optimizer.defaults.keys() - saved["param_groups"][0].keys():
        check_optimizer("another optimizer", now.optimizer)
    pairs = zip(optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True)
    saved["param_groups"] = [{**group, "params": before["params"]} for group, before in pairs]
    checkpoint["lr_schedulers"] = [] if scheduler is None else [scheduler.state_dict()]
    rate = f"lr {float(groups[0]['lr']):.3g}"
    if scheduler is None:
        return now, f"{rate} without a schedule"
    over = "" if now.steps is None else f" over {now.steps} steps"
    change = f"{now.scheduler} laid anew{over}, now at step {step}: {rate}"
    return replace(now, ahead=step - checkpoint["global_step"]), change


def _place(checkpoint: Mapping[str, Any], then: Plan, now: Plan, bound: int) -> int:
    """How many steps of the schedule `now` lie behind the run: those of as many epochs as it has been trained."""
    taken = checkpoint["global_step"]
    if now.steps == bound:
        return taken
    if now.steps is None or now.epoch is None:
        return taken + then.ahead
    return round((taken + then.ahead) * now.epoch / (then.epoch or taken / (checkpoint["epoch"] + 1)))


def _advance(scheduler: Any, steps: int) -> None:
    """Step by step, since many schedules compute a rate from the one before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer has not stepped
        try:
            for _ in range(0 if scheduler is None else steps):
                scheduler.step()
        except (TypeError, ValueError) as error:
            raise UserError(f"the scheduler cannot be laid anew: {error}") from error
