"""The guard attacked: whatever a study does inside it, training goes on bit by bit as if it had never looked."""

# ruff: noqa: NPY002 (the global stream of NumPy is what is guarded)

import gc
import random
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from interp.network.quiet import Disturbed, quiet
from tests.conftest import identical
from tests.networks import make, probe


class Net(nn.Module):
    """Batch norm, dropout, an integer buffer, a plain tensor, a plain attribute, a dict: all that can be disturbed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 5)
        self.register_buffer("nothing", None)
        self.offset = torch.zeros(5)
        self.scale = 1.0
        self.factors = {"logits": 1.0}

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.drop(self.relu(self.bn(self.conv(images)))).mean((2, 3))
        return (self.fc(hidden) + self.offset) * self.scale * self.factors["logits"]


Study = Callable[[Net, Tensor], object]


def settings() -> dict[str, object]:
    """Switches of torch that change the bits of a training, or whether it runs."""
    back = torch.backends
    precisions = [
        back,
        back.cudnn,
        back.mkldnn,
        back.cuda.matmul,
        back.cudnn.conv,
        back.mkldnn.conv,
        back.mkldnn.matmul,
    ]
    return {
        "default": (torch.get_default_dtype(), str(torch.get_default_device()), torch.is_grad_enabled()),
        "threads": torch.get_num_threads(),
        "autocast": [(torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")],
        "cache": (torch.is_autocast_cache_enabled(), torch.autocast_increment_nesting() - 1),
        "nesting": torch.autocast_decrement_nesting(),
        "cudnn": (back.cudnn.enabled, back.cudnn.benchmark, back.cudnn.deterministic),
        "mkldnn": back.mkldnn.enabled,
        "precisions": [unit.fp32_precision for unit in precisions],
        "deterministic": torch.get_deterministic_debug_mode(),
        "anomaly": torch.is_anomaly_enabled(),
        "inference": torch.is_inference_mode_enabled(),
    }


def halves(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(seed)
    for _ in range(2):
        yield torch.randn(6, 3, 6, 6, generator=source), torch.randint(5, (6,), generator=source)


def training(look: Study, compiled: bool = False) -> dict[str, object]:
    """Three steps of accumulated gradients with a look in the middle of each; all that is left at the end."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    net = Net()
    if compiled:
        net.compile(backend="eager")
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    for step in range(3):
        for images, labels in halves(step):
            F.cross_entropy(net(images), labels).backward()
            look(net, images)
        optimizer.step()
        optimizer.zero_grad()
    return {
        "weights": net.state_dict() | {"offset": net.offset},
        "optimizer": optimizer.state_dict(),
        "modes": [module.training for module in net.modules()],
        "needs": [parameter.requires_grad for parameter in net.parameters()],
        "draws": (torch.rand(3), np.random.rand(3).tolist(), random.random()),
        "settings": settings(),
    }


@cache
def undisturbed(compiled: bool = False) -> dict[str, object]:
    return training(lambda net, images: None, compiled)


def guarded(attack: Study, **options: object) -> Study:
    def look(net: Net, images: Tensor) -> None:
        with quiet(net, **options) as same:
            assert same is net
            attack(net, images)

    return look


@dataclass
class Attack:
    """Something a study might do, and what the guard says of it ('' for what it should not mention)."""

    name: str
    do: Study
    told: str


ATTACKS: list[Attack] = []


def attack(told: str = "") -> Callable[[Study], Study]:
    def register(do: Study) -> Study:
        ATTACKS.append(Attack(do.__name__, do, told))
        return do

    return register


@attack()
def draw_from_torch(net, images):
    torch.rand(7)


@attack()
def draw_from_numpy(net, images):
    np.random.rand(7)


@attack()
def draw_from_python(net, images):
    random.random()


@attack()
def seed_everything(net, images):
    random.seed(5), np.random.seed(5), torch.manual_seed(5)


@attack("in place")
def forward_in_training_mode(net, images):
    net.train()
    net(images)


@attack("buffer bn.running_mean, bn.running_var, bn.num_batches_tracked changed in place")
def forward_in_training_mode_without_gradients(net, images):
    net.train()
    with torch.no_grad():
        net(images)
    net.eval()


@attack("training mode of the network, conv, bn")
def train_left_on(net, images):
    net(images)
    net.train()


@attack("training mode of bn")
def train_left_on_one_layer(net, images):
    net.eval()
    net.bn.train()


@attack("requires_grad of conv.weight")
def frozen(net, images):
    net.conv.requires_grad_(False)


@attack("gradient left on conv.weight, conv.bias")
def backward_to_the_input(net, images):
    images = images.clone().requires_grad_()
    net(images).sum().backward()
    assert images.grad.abs().sum() > 0


@attack("parameter conv.weight changed in place")
def weights_edited(net, images):
    with torch.no_grad():
        net.conv.weight.add_(0.5)


@attack("parameter fc.bias changed in place")
def weights_edited_behind_autograd(net, images):
    net.fc.bias.data.mul_(2)


@attack("parameter conv.weight changed in place")
def weights_turned_to_nan(net, images):
    net.conv.weight.data.fill_(float("nan"))


@attack("parameter conv.weight replaced")
def weights_swapped(net, images):
    net.conv.weight.data = torch.zeros_like(net.conv.weight)


@attack("parameter conv.weight, conv.bias, bn.weight, bn.bias, fc.weight, fc.bias replaced")
def converted_to_double(net, images):
    net.double()


@attack("parameter 'weight' left on fc")
def parameter_replaced(net, images):
    net.fc.weight = nn.Parameter(torch.zeros(5, 4))


@attack("requires_grad of fc.weight")
def parameter_made_part_of_a_graph(net, images):
    net.fc.weight.requires_grad_(False).mul_(net.fc.bias[:, None])


@attack("buffer bn.running_var changed in place")
def buffer_edited(net, images):
    net.bn.running_var.add_(1)


@attack("buffer 'running_mean' left on bn")
def buffer_replaced(net, images):
    net.bn.running_mean = torch.ones(4)


@attack("tensor the network.offset changed in place")
def plain_tensor_edited(net, images):
    net.offset += 1


@attack("default dtype set to torch.float64")
def default_dtype(net, images):
    torch.set_default_dtype(torch.float64)


@attack("default device set to meta")
def default_device(net, images):
    torch.set_default_device("meta")


@attack("cpu autocast dtype set to torch.float16")
def autocast_left_on(net, images):
    torch.autocast("cpu", dtype=torch.float16).__enter__()


@attack("thread count set to 7")
def thread_count(net, images):
    torch.set_num_threads(7)


@attack("mkldnn enabled set to False")
def mkldnn_off(net, images):
    torch.backends.mkldnn.enabled = False


@attack("cudnn benchmark set to True")
def cudnn_flags(net, images):
    cudnn = torch.backends.cudnn
    cudnn.enabled, cudnn.deterministic, cudnn.benchmark = (
        not f for f in (cudnn.enabled, cudnn.deterministic, cudnn.benchmark)
    )


@attack("deterministic mode set to 2")
def deterministic_algorithms(net, images):
    torch.use_deterministic_algorithms(True)


@attack("float32 matmul precision set to medium")
def matmul_precision(net, images):
    torch.set_float32_matmul_precision("medium")


@attack("cudnn allow_tf32")
def tf32_off(net, images):
    torch.backends.cudnn.allow_tf32 = False


@attack("float32 matmul precision set to None")
def precision_of_everything(net, images):
    torch.backends.fp32_precision = "tf32"


@attack("anomaly mode set to True")
def anomaly_mode(net, images):
    torch.autograd.set_detect_anomaly(True)


@attack("gradient mode set to False")
def gradients_off(net, images):
    torch.set_grad_enabled(False)


@attack("forward hook left on conv")
def forward_hook(net, images):
    net.conv.register_forward_hook(lambda module, inputs, output: output * 2)


@attack("forward pre hook left on the network")
def forward_pre_hook(net, images):
    net.register_forward_pre_hook(lambda module, inputs, named: ((inputs[0] + 1,), named), with_kwargs=True)


@attack("backward hook left on fc")
def backward_hook(net, images):
    net.fc.register_full_backward_hook(lambda module, before, after: (before[0] * 3,))


@attack("forward hook left on every module")
def global_hook(net, images):
    nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output * 1.5)


@attack("gradient hook left on fc.weight")
def gradient_hook(net, images):
    net.fc.weight.register_hook(lambda gradient: gradient * -1)


@attack("gradient hook left on fc.weight")
def hook_after_accumulation(net, images):
    net.fc.weight.register_post_accumulate_grad_hook(lambda parameter: parameter.grad.zero_())


@attack("gradient left on conv.weight")
def gradients_accumulated(net, images):
    F.cross_entropy(net(images), torch.zeros(6, dtype=torch.long)).backward()


@attack()
def gradients_zeroed(net, images):
    net.zero_grad(set_to_none=False)


@attack()
def gradients_dropped(net, images):
    net.zero_grad()


@attack("module 'relu' left on the network")
def submodule_swapped(net, images):
    net.relu = nn.Tanh()


@attack("module 'drop' removed from the network")
def submodule_removed(net, images):
    del net.drop


@attack("attribute 'forward' left on conv")
def forward_replaced(net, images):
    net.conv.forward = lambda images: images.repeat(1, 2, 1, 1)[:, :4]


@attack("attribute 'scale' left on the network")
def attribute_set(net, images):
    net.scale = 3.0


@attack("factor 'logits' left on the network")
def entry_of_a_dict_set(net, images):
    net.factors["logits"] = 3.0


@attack("class of fc")
def parametrized(net, images):
    nn.utils.parametrizations.weight_norm(net.fc)
    net.fc.parametrizations.weight.original0.data.mul_(2)


@attack()
def captum_with_noise(net, images):
    from captum.attr import GradientShap, NoiseTunnel, Saliency

    NoiseTunnel(Saliency(net)).attribute(images, nt_samples=2, target=0)
    GradientShap(net).attribute(images, baselines=torch.zeros_like(images), n_samples=2, target=0)


@attack()
def nmf_without_a_seed(net, images):
    from sklearn.decomposition import NMF

    NMF(2, init="random", max_iter=500, tol=0.1).fit(images.flatten(1).abs().numpy())


all_attacks = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


@all_attacks
def test_training_is_left_alone(attack: Attack) -> None:
    assert identical(training(guarded(attack.do, report=lambda changes: None)), undisturbed())


@all_attacks
def test_the_attack_harms_without_the_guard(attack: Attack) -> None:
    calm = undisturbed()
    with quiet(nn.Module(), report=lambda changes: None):  # only to put torch back
        try:
            harmed = not identical(training(attack.do), calm)
        except (RuntimeError, AttributeError, TypeError, AssertionError):
            harmed = True
    assert harmed


@all_attacks
def test_the_report_names_what_was_left(attack: Attack) -> None:
    torch.manual_seed(0)
    net, told = Net(), []
    with quiet(net, report=told.extend):
        attack.do(net, torch.rand(6, 3, 6, 6))
    assert any(attack.told in change for change in told) if attack.told else not told
    assert settings() == undisturbed()["settings"]


def test_without_a_listener_one_warning_tells() -> None:
    net = Net()
    with (
        pytest.warns(UserWarning, match=r"undone: attribute 'scale' left on .*; training mode of bn") as caught,
        quiet(net),
    ):
        net.bn.train()
        net.scale = 2.0
    assert len(caught) == 1


def test_a_clean_study_leaves_nothing() -> None:
    net, images = Net(), torch.rand(2, 3, 6, 6)

    def study(net: Net, images: Tensor) -> None:
        assert not any(module.training for module in net.modules())
        seen = []
        handles = [net.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))]
        handles += [net.fc.register_full_backward_hook(lambda module, before, after: seen.append(before))]
        handles += [net.bn.register_forward_pre_hook(lambda module, inputs: None, prepend=True)]
        images = images.clone().requires_grad_()
        torch.autograd.grad(net(images).sum(), images)
        [handle.remove() for handle in handles]
        with torch.autocast("cpu"), torch.no_grad():
            net(images)
        torch.rand(2), random.random(), np.random.rand()

    with quiet(net):
        study(net, images)
    assert identical(training(guarded(study)), undisturbed())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_everything_is_undone_when_the_study_fails(error: type[BaseException]) -> None:
    def study(net: Net, images: Tensor) -> None:
        for attack in (
            forward_in_training_mode,
            weights_edited,
            forward_hook,
            default_dtype,
            gradients_off,
            global_hook,
        ):
            attack(net, images)
        raise error("study")

    def look(net: Net, images: Tensor) -> None:
        with pytest.raises(error, match="study"), quiet(net, report=lambda changes: None):
            study(net, images)

    assert identical(training(look), undisturbed())


def test_all_attacks_at_once() -> None:
    def everything(net: Net, images: Tensor) -> None:
        for attack in ATTACKS:
            with suppress(Exception):  # some cannot follow one another
                attack.do(net, images)

    assert identical(training(guarded(everything, report=lambda changes: None)), undisturbed())


def test_the_same_study_draws_the_same_numbers() -> None:
    def draw(seed: int) -> list[float]:
        with quiet(Net(), seed=seed):
            return [torch.rand(1).item(), random.random(), np.random.rand(), nn.Dropout()(torch.ones(50)).sum().item()]

    assert draw(3) == draw(3)
    assert all(a != b for a, b in zip(draw(3)[:3], draw(4)[:3], strict=True))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_gradients_work_where_lightning_validates(mode: Callable) -> None:
    net = Net()
    with mode():
        images = torch.rand(2, 3, 6, 6)
        with quiet(net):
            own = images.clone().requires_grad_()
            gradient, *_ = torch.autograd.grad(net(own).sum(), (own, net.conv.weight))
        assert gradient.abs().sum() > 0
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert not torch.is_grad_enabled()


def test_edits_are_undone_within_inference_mode() -> None:
    net = Net()
    with torch.inference_mode():
        net.register_buffer("late", torch.ones(2))  # an inference tensor
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        with quiet(net, report=lambda changes: None), torch.no_grad():
            [tensor.add_(1) for tensor in net.parameters()]
            net.bn.running_mean.add_(1)
            with torch.inference_mode():
                net.late.add_(1)
    assert identical(before, dict(net.state_dict()))


def test_autocast_is_off_within_and_on_again_after() -> None:
    net, images = Net(), torch.rand(2, 3, 6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with quiet(net):
            assert net(images).dtype == torch.float32
            with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
                assert net.conv(images).dtype == torch.bfloat16
        assert net.conv(images).dtype == torch.bfloat16
        net(images).float().sum().backward()  # not through a cast that was made without its graph
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("attack", [draw_from_torch, forward_in_training_mode, weights_edited, forward_hook])
def test_compiled_training_is_left_alone(attack: Study) -> None:
    look = guarded(attack, report=lambda changes: None)
    assert identical(training(look, compiled=True), undisturbed(compiled=True))


@pytest.mark.parametrize("wrap", [True, False])
def test_hooks_fire_in_a_compiled_network_and_nothing_is_compiled_again(wrap: bool) -> None:
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph

    net, images, seen = Net().eval(), torch.rand(2, 3, 6, 6), []
    inner = net
    net = torch.compile(net, backend=backend) if wrap else net
    None if wrap else net.compile(backend=backend)
    net.train()
    net(images)
    before = len(compilations)
    with quiet(net):
        assert not inner.bn.training
        with inner.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.shape)):
            net(images)
    assert seen == [(2, 4, 6, 6)]
    assert inner.bn.training and net.training
    net(images)
    assert len(compilations) == before > 0


def test_mixed_modes_frozen_layers_and_gradients_come_back_as_they_were() -> None:
    net = Net()
    net.bn.eval()
    net.fc.requires_grad_(False)
    net.conv(torch.rand(1, 3, 6, 6)).sum().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    with quiet(net):
        assert all(parameter.grad is None for parameter in net.parameters())
        assert not net.fc.weight.requires_grad
    assert [module.training for module in net.modules()] == [True, True, False, True, True, True]
    assert [parameter.requires_grad for parameter in net.fc.parameters()] == [False, False]
    assert all(parameter.grad is gradient for parameter, gradient in zip(net.parameters(), gradients, strict=True))


def test_hooks_of_the_training_on_gradients_rest_meanwhile() -> None:
    net, fired = Net(), []
    first = net.fc.bias.register_post_accumulate_grad_hook(lambda parameter: fired.append("step"))
    second = net.fc.bias.register_hook(lambda gradient: fired.append("gradient"))
    images = torch.rand(2, 3, 6, 6)
    with quiet(net, report=lambda changes: None):
        net(images).sum().backward()
    assert fired == []
    net(images).sum().backward()
    assert sorted(fired) == ["gradient", "step"]
    first.remove(), second.remove()
    net(images).sum().backward()
    assert len(fired) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int8, torch.int64, torch.bool, torch.complex64])
def test_any_dtype_is_put_back(dtype: torch.dtype) -> None:
    net = nn.Module()
    net.register_buffer("kept", torch.tensor([[0, 1, 1], [1, 0, 1]]).to(dtype).t())
    net.register_buffer("scalar", torch.tensor(1).to(dtype))
    net.register_buffer("empty", torch.zeros(0, 2, dtype=dtype))
    before, told = {name: tensor.clone() for name, tensor in net.named_buffers()}, []
    with quiet(net, report=told.extend):
        net.kept.fill_(1)
        net.scalar.zero_()
    assert identical(before, dict(net.named_buffers()))
    assert told == ["buffer kept, scalar changed in place"]


def test_nan_weights_are_no_change_and_negative_zero_is() -> None:
    net = nn.Linear(1, 2, bias=False)
    net.weight.data = torch.tensor([[float("nan")], [0.0]])
    with quiet(net):
        pass
    with pytest.warns(UserWarning, match="weight changed in place"), quiet(net):
        net.weight.data[1].neg_()
    assert not net.weight[1].signbit()


def test_shared_modules_and_tied_weights() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net.append(net[0])
    net[2].weight = net[0].weight
    before, told = net[0].weight.clone(), []
    with quiet(net, report=told.extend):
        net[2].weight.data.add_(1)
        net[3].train()
    assert torch.equal(net[3].weight, before)
    assert net[2].weight is net[0].weight is net[3].weight
    assert told == ["training mode of 0", "parameter 0.weight changed in place"]


def test_without_backup_all_but_values_is_undone() -> None:
    net, told = Net(), []
    place = net.conv.weight.data_ptr()
    with quiet(net, report=told.extend, backup=False):
        net.fc.bias.data.fill_(7)
        net.conv.weight.data = torch.zeros_like(net.conv.weight)
    assert told == ["parameter conv.weight replaced"]
    assert net.conv.weight.data_ptr() == place
    assert (net.fc.bias == 7).all()


def test_what_cannot_be_put_back_is_an_error_and_the_rest_is_put_back() -> None:
    class Stubborn(nn.Linear):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "training" and value and "weight" in self._parameters:
                raise OSError("stubborn")
            super().__setattr__(name, value)

    net = nn.Sequential(nn.BatchNorm1d(3), Stubborn(3, 3))
    net[0].weight.grad = torch.ones(3)
    with pytest.raises(Disturbed, match="stubborn") as caught, quiet(net):
        net[0].bias.data.add_(1)
        torch.set_default_dtype(torch.float64)
        raise ValueError("study")
    assert isinstance(caught.value.__context__, ValueError | OSError)
    assert net[0].training and net[0].weight.grad is not None
    assert (net[0].bias == 0).all()
    assert torch.get_default_dtype() == torch.float32


def test_ctrl_c_while_it_is_undone_does_not_leave_half_of_it() -> None:
    interrupts = []

    class Interrupted(nn.Linear):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "training" and value and "weight" in self._parameters and not interrupts:
                interrupts.append(name)
                raise KeyboardInterrupt
            super().__setattr__(name, value)

    net = nn.Sequential(nn.Linear(3, 3), Interrupted(3, 3), nn.BatchNorm1d(3))
    with pytest.raises(KeyboardInterrupt), quiet(net, report=lambda changes: None):
        net[0].bias.data.fill_(9)
        torch.set_num_threads(7)
    assert interrupts
    assert all(module.training for module in net.modules())
    assert (net[0].bias != 9).all()
    assert settings() == undisturbed()["settings"]


def test_guards_nest() -> None:
    net = Net()
    with quiet(net, seed=1):
        first = torch.rand(1)
        with quiet(net, seed=2):
            torch.rand(5)
        second = torch.rand(1)
    with quiet(net, seed=1):
        assert torch.equal(torch.cat([first, second]), torch.cat([torch.rand(1), torch.rand(1)]))
    assert net.training


def test_no_graph_and_no_gradient_is_kept_alive() -> None:
    net = Net()
    net(torch.rand(2, 3, 6, 6)).sum().backward()
    gradient = weakref.ref(net.conv.weight.grad)
    gc.disable()
    try:
        with quiet(net, report=lambda changes: None):
            hidden = net.conv(torch.rand(2, 3, 6, 6))
            hidden.sum().backward()
            inside = weakref.ref(hidden)
            del hidden
        net.zero_grad()
        assert inside() is None
        assert gradient() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_streams_and_weights() -> None:
    net = Net().cuda()
    net.offset = net.offset.cuda()
    torch.cuda.manual_seed(0)
    expected, before = torch.rand(3, device="cuda"), net.conv.weight.clone()
    torch.cuda.manual_seed(0)
    with quiet(net, report=lambda changes: None):
        first = torch.rand(3, device="cuda")
        net.cpu()
        net.conv.weight.data.add_(1)
    assert torch.equal(torch.rand(3, device="cuda"), expected)
    assert torch.equal(net.conv.weight, before)
    with quiet(net):
        assert torch.equal(torch.rand(3, device="cuda"), first)


@pytest.mark.parametrize("kind", ["remembering", "old weight norm", "old spectral norm"])
def test_what_a_plain_pass_changes_is_undone_and_not_the_studys(kind: str) -> None:
    net, images, told = make(kind), probe().images, []
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    tables = [dict(vars(module)) for module in net.modules()]
    with quiet(net, report=told.extend, plain=lambda: net(images[:1])):
        net(images)
    assert not told and identical(before, dict(net.state_dict()))
    assert all(vars(module).keys() == table.keys() for module, table in zip(net.modules(), tables, strict=True))
    with quiet(net, report=told.extend, plain=lambda: net(images[:1])):
        net(images)
        net.std.add_(1)
        net.body.late = 3
    assert told == ["attribute 'late' left on body", "buffer std changed in place"]
    told.clear()
    with quiet(net, report=told.extend):
        net(images)
    assert told


def test_a_plain_pass_that_cannot_run_excuses_nothing() -> None:
    net, told = Net(), []
    with quiet(net, report=told.extend, plain=lambda: net(torch.rand(1, 7))):
        net.scale = 2.0
    assert told == ["attribute 'scale' left on the network"] and net.scale == 1.0


def test_reentrant_checkpoints_let_gradients_pass_within_and_are_made_again_after() -> None:
    net, images = make("reentrant checkpoints"), probe().images
    with quiet(net):
        leaf = images.clone().requires_grad_()
        assert torch.autograd.grad(net(leaf).sum(), leaf)[0].any()
    with pytest.raises(RuntimeError, match="use_reentrant"):
        leaf = images.clone().requires_grad_()
        torch.autograd.grad(net(leaf).sum(), leaf)
