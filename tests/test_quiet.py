"""The guard attacked: whatever a study does inside it, training goes on bit by bit as if it had never looked."""

import gc
import random
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from interp.quiet import Disturbed, quiet
from tests.conftest import identical


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


@attack("tensor offset changed in place")
def plain_tensor_edited(net, images):
    net.offset += 1


@attack("default dtype set to torch.float64")
def default_dtype(net, images):
    torch.set_default_dtype(torch.float64)


@attack("default device set to meta")
def default_device(net, images):
    torch.set_default_device("meta")


@attack("cpu autocast, cpu autocast dtype, autocast nesting")
def autocast_left_on(net, images):
    torch.autocast("cpu", dtype=torch.float16).__enter__()


@attack("thread count set to 7")
def thread_count(net, images):
    torch.set_num_threads(7)


@attack("mkldnn enabled set to False")
def mkldnn_off(net, images):
    torch.backends.mkldnn.enabled = False


@attack("cudnn enabled, cudnn deterministic, cudnn benchmark")
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


@attack("factors 'logits' left on the network")
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
