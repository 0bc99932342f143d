"""A resumed run's optimizer and schedule: untouched where nothing changed, else those of a run asked for it at once."""

import copy
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam, AdamW, RMSprop
from torch.optim import lr_scheduler as schedulers

from interp.errors import UserError
from interp.lit.checkpoints.schedule import Plan, check_step, go_on, lay, plan_of
from tests.conftest import identical


def warm_up(optimizer, total_steps: int):
    """A schedule of one's own in two parts."""
    parts = [schedulers.LinearLR(optimizer, total_iters=2), schedulers.CosineAnnealingLR(optimizer, total_steps - 2)]
    return schedulers.SequentialLR(optimizer, parts, milestones=[2])


class Run:
    """A training without data: its optimizer and schedule after so many steps."""

    def __init__(self, optimizer, scheduler, epochs: int, per_epoch: int = 4, max_steps: int = -1) -> None:
        torch.manual_seed(0)
        self.net, self.taken, steps = nn.Linear(3, 1), 0, epochs * per_epoch
        trainer = SimpleNamespace(
            estimated_stepping_batches=steps if max_steps == -1 else min(steps, max_steps), max_steps=max_steps,
            num_training_batches=per_epoch, accumulate_grad_batches=1,
        )  # fmt: skip
        self.trainer, self.per_epoch, self.said = trainer, per_epoch, ""
        self.optimizer = optimizer(self.net.parameters())
        self.scheduler, self.plan = lay(scheduler, self.optimizer, Plan.of(optimizer, scheduler), trainer)

    def train(self, steps: int) -> "Run":
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.net(torch.ones(1, 3)).sum().backward()
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            self.taken += 1
        return self

    def checkpoint(self, epoch: int) -> dict:
        states = [] if self.scheduler is None else [self.scheduler.state_dict()]
        kept = {"epoch": epoch - 1, "global_step": self.taken, "optimizer_states": [self.optimizer.state_dict()]}
        return {**kept, "lr_schedulers": [dict(state) for state in states], "plan": self.plan.kept()}

    def resume(self, checkpoint: dict) -> "Run":
        then = plan_of(checkpoint, self.plan, self.scheduler)
        self.plan, self.said = go_on(
            checkpoint, then, self.plan, self.optimizer, self.scheduler, self.trainer.max_steps
        )
        self.optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        for state in checkpoint["lr_schedulers"]:
            self.scheduler.load_state_dict(state)
        self.taken = checkpoint["global_step"]
        return self

    def rates(self) -> list[dict]:
        return [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]


adamw = partial(AdamW, lr=0.01)
COUNTING = [
    partial(schedulers.OneCycleLR, max_lr=0.01), partial(schedulers.CosineAnnealingLR, eta_min=1e-4),
    partial(schedulers.LinearLR, end_factor=0.1), partial(schedulers.PolynomialLR, power=2.0), warm_up,
]  # fmt: skip
OTHERS = [partial(schedulers.StepLR, step_size=3), partial(schedulers.ExponentialLR, gamma=0.9), None]


@pytest.mark.parametrize("scheduler", [*COUNTING, *OTHERS])
@pytest.mark.parametrize("old", [False, True])  # a checkpoint that keeps no plan
def test_unchanged_it_goes_on_with_the_state_as_it_is(scheduler, old):
    checkpoint = Run(adamw, scheduler, 4).train(8).checkpoint(2)
    before = {key: [dict(state) for state in checkpoint[key]] for key in ("optimizer_states", "lr_schedulers")}
    if old:
        del checkpoint["plan"]
    resumed = Run(adamw, scheduler, 4).resume(checkpoint)
    if not (old and scheduler is warm_up):  # whose state does not say over how many steps it was laid
        assert resumed.said == "" and all(identical(checkpoint[key], before[key]) for key in before)
    assert resumed.train(8).rates() == Run(adamw, scheduler, 4).train(16).rates()


@pytest.mark.parametrize("scheduler", COUNTING)
@pytest.mark.parametrize("epochs", [3, 6])
@pytest.mark.parametrize("old", [False, True])
def test_prolonged_or_shortened_it_is_that_of_a_run_that_was_asked_for_as_much_at_once(scheduler, epochs, old):
    checkpoint = Run(adamw, scheduler, 4).train(8).checkpoint(2)
    if old:
        del checkpoint["plan"]
    resumed = Run(adamw, scheduler, epochs).resume(checkpoint)
    assert f"laid anew over {4 * epochs} steps, now at step 8: lr " in resumed.said
    whole = Run(adamw, scheduler, epochs).train(8)
    for steps in (0, 4 * epochs - 8):
        assert resumed.train(steps).rates() == whole.train(steps).rates()
    assert identical(resumed.scheduler.state_dict().get("last_epoch"), 4 * epochs)


CHANGES = [({"lr": 0.1}, True), ({"weight_decay": 0.3}, False), ({"betas": [0.5, 0.9]}, True)]


@pytest.mark.parametrize("scheduler", [*COUNTING, *OTHERS])
@pytest.mark.parametrize(("changed", "old"), CHANGES)
def test_a_setting_of_the_optimizer_that_is_given_anew_holds(scheduler, changed, old):
    if isinstance(scheduler, partial) and "max_lr" in scheduler.keywords and "lr" in changed:
        other = partial(scheduler, max_lr=0.1)  # as in conf/scheduler/one_cycle.yaml
    else:
        other = scheduler
    settings = {"lr": 0.01, "weight_decay": 0.02, "betas": [0.9, 0.999]}
    checkpoint = Run(partial(AdamW, **settings), scheduler, 4).train(8).checkpoint(2)
    if old:
        del checkpoint["plan"]
    asked = partial(AdamW, **settings | changed)
    resumed = Run(asked, other, 4).resume(checkpoint)
    whole = Run(asked, other, 4).train(8)
    assert resumed.rates() == whole.rates() and "lr " in resumed.said
    assert identical(resumed.optimizer.state_dict()["state"][0]["step"], torch.tensor(8.0))
    assert resumed.train(8).rates() == whole.train(8).rates()


@pytest.mark.parametrize("now", [*COUNTING, *OTHERS])
@pytest.mark.parametrize(("then", "old"), [(COUNTING[0], False), (COUNTING[1], True), (OTHERS[0], True), (None, False)])
def test_a_schedule_can_be_exchanged_added_and_dropped(then, now, old):
    if then is now:
        return
    checkpoint = Run(adamw, then, 4).train(8).checkpoint(2)
    if old:
        del checkpoint["plan"]
    resumed, whole = Run(adamw, now, 4).resume(checkpoint), Run(adamw, now, 4).train(8)
    assert resumed.rates() == whole.rates() and ("laid anew" if now else "lr 0.01 without a schedule") in resumed.said
    assert resumed.train(8).rates() == whole.train(8).rates()


@pytest.mark.parametrize("scheduler", COUNTING)
def test_epochs_of_another_length_count_as_epochs(scheduler):
    """Another batch size, fewer batches, more devices: twice, and it still ends where it should."""
    run = Run(adamw, scheduler, 4).train(8)
    for per_epoch, epoch in ((2, 2), (8, 3)):
        run = Run(adamw, scheduler, 4, per_epoch).resume(run.checkpoint(epoch))
        assert f"over {4 * per_epoch} steps, now at step {epoch * per_epoch}: lr " in run.said
        assert run.rates() == Run(adamw, scheduler, 4, per_epoch).train(epoch * per_epoch).rates()
        same = Run(adamw, scheduler, 4, per_epoch).resume(run.checkpoint(epoch))
        assert same.said == "" and same.plan == run.plan
        run.train(per_epoch)
    assert run.scheduler.state_dict()["last_epoch"] == 32


def test_a_training_that_ends_with_a_step_counts_steps():
    run = Run(adamw, COUNTING[1], 100, 4, max_steps=10).train(8)
    resumed = Run(adamw, COUNTING[1], 100, 2, max_steps=20).resume(run.checkpoint(2))
    assert "over 20 steps, now at step 8" in resumed.said


@pytest.mark.parametrize(("then", "now"), [(partial(SGD, lr=0.1), adamw), (adamw, partial(SGD, lr=0.1, momentum=0.9))])
def test_another_optimizer_is_refused_for_checkpoints_that_do_not_name_theirs(then, now):
    checkpoint = Run(then, None, 4).train(8).checkpoint(2)
    del checkpoint["plan"]
    with pytest.raises(UserError, match=f"the state of another optimizer, which {now.func.__name__} cannot go on from"):
        Run(now, COUNTING[0], 6).resume(checkpoint)


@pytest.mark.parametrize(
    ("then", "now", "missing"),
    [
        (partial(AdamW, lr=0.1), partial(AdamW, lr=0.1, amsgrad=True), "max_exp_avg_sq"),
        (partial(RMSprop, lr=0.1), partial(RMSprop, lr=0.1, momentum=0.9), "momentum_buffer"),
        (partial(AdamW, lr=0.1, amsgrad=True), partial(AdamW, lr=0.2, betas=[0.5, 0.9]), ""),
        (partial(SGD, lr=0.1), partial(SGD, lr=0.1, momentum=0.9, nesterov=True), ""),
        (partial(SGD, lr=0.1, momentum=0.9), partial(SGD, lr=0.1, weight_decay=0.1), ""),
        (partial(LBFGS, lr=0.1), partial(LBFGS, lr=0.2), ""),
    ],
)
def test_settings_that_need_a_state_which_was_not_kept_are_refused(then, now, missing):
    net = nn.Linear(3, 2)
    optimizer = then(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step(lambda: torch.ones(()))
    state = optimizer.state_dict()
    if missing:
        with pytest.raises(
            UserError, match=f"without '{missing}': keep that run's optimizer settings, or .* with weights=run$"
        ):
            check_step(now, state, "run")
    else:
        before = copy.deepcopy(state)
        check_step(now, state, "run")
        assert identical(before, state)


def test_a_count_of_steps_that_is_given_must_suffice():
    fixed = partial(schedulers.OneCycleLR, max_lr=0.01, total_steps=8)
    assert Run(adamw, fixed, 2).plan.steps is None
    with pytest.raises(UserError, match="scheduler.total_steps=8: this training has 16 steps; leave it out"):
        Run(adamw, fixed, 4)


def test_a_schedule_that_needs_more_than_steps_is_refused_where_it_would_be_laid_anew():
    plateau = partial(schedulers.ReduceLROnPlateau, factor=0.5)
    checkpoint = Run(adamw, None, 2).train(4).checkpoint(1)
    with pytest.raises(UserError, match="the scheduler cannot be laid anew: .*metrics"):
        Run(adamw, plateau, 2).resume(checkpoint)


def test_a_plan_that_nobody_of_ours_wrote_is_not_known():
    run = Run(adamw, COUNTING[0], epochs=2).train(4)
    checkpoint = run.checkpoint(1)
    without = plan_of({key: value for key, value in checkpoint.items() if key != "plan"}, run.plan, run.scheduler)
    for odd in ({"steps": "8"}, {"ahead": []}, {"more": 1}):
        kept = checkpoint | {"plan": checkpoint["plan"] | odd}
        assert plan_of(kept, run.plan, run.scheduler) == without


def test_plans_are_plain():
    from omegaconf import OmegaConf

    betas = OmegaConf.create({"betas": [0.9, 0.95]}).betas
    plan = Plan.of(partial(Adam, lr=1e-3, betas=betas, maximize=False), partial(warm_up))
    assert (plan.optimizer, plan.scheduler) == ("Adam", "warm_up")
    assert asdict(plan)["settings"] == {"lr": 1e-3, "betas": [0.9, 0.95], "maximize": False}
    assert type(plan.settings["betas"]) is list
