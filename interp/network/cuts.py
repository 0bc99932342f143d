"""Which tensors every path from the images to the answer runs through, from the autograd graph of one forward pass."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

PRIME = (1 << 61) - 1  # paths are counted modulo it: there may be more than there are atoms
RECURRENT = ("mkldnn_rnn_layer", "_cudnn_rnn")  # elsewhere they are matrix products
Node = Any  # of the graph: a torch.autograd.graph.Node
Output = tuple[Node, int]  # a node and the number of its output: a tensor, whatever became of it later


def output_of(tensor: Tensor) -> Output | None:
    """The place of a tensor in its graph, None where it has none."""
    return None if tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)


def cuts(answer: Tensor, images: Tensor, outputs: Sequence[Output | None]) -> list[bool]:
    """Whether every path from the leaf `images` to `answer` runs through each of the `outputs`.

    All False where the graph does not reach the images. Weights are no part of a path.
    """
    order = list(_children_first(answer.grad_fn)) if answer.grad_fn is not None else []
    down: dict[Node, int] = {}  # paths from a node to the images
    for node in order:
        is_images = getattr(node, "variable", None) is images
        down[node] = 1 if is_images else sum(down[child] for child, _ in _children(node)) % PRIME
    up: dict[Output, int] = {}  # paths from the answer to an output of a node
    above: dict[Node, int] = {}  # and to any of its outputs
    for node in reversed(order):
        if node is answer.grad_fn:
            up[node, answer.output_nr] = above[node] = 1
        for child, number in _children(node):
            up[child, number] = (up.get((child, number), 0) + above[node]) % PRIME
            above[child] = (above.get(child, 0) + above[node]) % PRIME
    total = down[order[-1]] if order else 0
    return [total > 0 and output is not None and _through(output, up, down) == total for output in outputs]


def _through(output: Output, up: dict[Output, int], down: dict[Node, int]) -> int:
    return up.get(output, 0) * down.get(output[0], 0) % PRIME


def _children(node: Node) -> Iterator[Output]:
    return ((child, number) for child, number in node.next_functions if child is not None)


def _children_first(root: Node) -> Iterator[Node]:
    """All nodes below `root` and itself, each after those below it."""
    seen, stack = {root}, [(root, _children(root))]
    while stack:
        node, rest = stack[-1]
        child = next((child for child, _ in rest if child not in seen), None)
        if child is None:
            yield node
            stack.pop()
        else:
            seen.add(child)
            stack.append((child, _children(child)))


class Work(TorchDispatchMode):
    """Counts the multiplications and additions of what is computed within it, by torch's own formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.done += formula(*args, **(kwargs or {}), out_val=result)
        elif func.overloadpacket.__name__ in RECURRENT:
            self.done += _recurrent(*args)
        return result


def _recurrent(steps: Tensor, *weights: Any) -> int:
    """The work of a recurrent layer, which torch has no formula for: its matrices at each of the `steps`."""
    matrices = weights[0] if isinstance(weights[0], list | tuple) else weights[:2]
    return 2 * steps.shape[:-1].numel() * sum(matrix.numel() for matrix in matrices if matrix.ndim == 2)
