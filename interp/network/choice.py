"""Where to look in a network: the deepest layer that its answer passes through, and some evenly spread up to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from interp.network.bypass import Exchange
from interp.network.modules import find_layer
from interp.network.survey import Candidate, survey

LIMIT = 0.1  # of the bypass of a layer that the answer passes through
NEAR = 0.05  # of a pass: less is computed between layers that are as good as equally deep
SHALLOW = 0.25  # of a pass: where no deeper layer carries the answer, branches are looked at as well
BRANCHES = 16  # of them, at most
HALF = 0.5  # of the answer: a layer that carries less of it counts as carrying `LITTLE`, or none if it bears nothing
LITTLE = 1e-6
INNER = 0.03  # of the work: so much nearer to its place must a layer within another be to be taken instead of that
BESIDE = 0.9  # what positions that bear on the answer count at least beside class tokens, which have the rest from them


@dataclass(frozen=True)
class Chosen:
    """A candidate, and the share of a change of the answer that goes past its positions, NaN where that is not told."""

    candidate: Candidate
    bypass: float

    @property
    def whole(self) -> bool:
        """Whether the whole answer passes through it, or nothing else can be told."""
        return not self.bypass > LIMIT


def deepest(net: nn.Module, images: Tensor, grid: int, signed: bool) -> Chosen | None:
    """The best layer with a grid of at least `grid` x `grid`, None where there is none; see `choose_layer`."""
    return _Search(net, images).deepest(grid, signed)


def evenly(net: nn.Module, images: Tensor, count: int, grid: int) -> list[Chosen]:
    """Up to `count` layers evenly spread over the work, the deepest last; see `spread_layers`."""
    search = _Search(net, images)
    last = search.deepest(grid)
    side = grid if last else max((c.side for c in search.found), default=0)
    last = last or search.deepest(side) if side else None
    candidates = [c for c in search.found if c.side >= side]
    if last and last.whole:
        candidates = [c for c in candidates if c.work <= last.candidate.work]
    while candidates:
        chosen = [search.measured(c) for c in spread(candidates, count)]
        whole = last is None or last.whole
        left_out = [choice.candidate for choice in chosen if not search.carries(choice, whole)]
        if not left_out or len(left_out) == len(candidates):
            return chosen
        candidates = [c for c in candidates if c not in left_out]
    return []


class _Search:
    """The candidates of a network, and what they carry of its answer."""

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        self.exchange = Exchange(net, images)
        self.found = [one for one in survey(net, images) if not one.why]

    def measured(self, one: Candidate) -> Chosen:
        assert one.layout is not None  # or it were no candidate
        return Chosen(one, self.exchange.bypass(one.name, one.layout))

    def carries(self, one: Chosen, whole: bool) -> bool:
        """Whether the `whole` answer passes through a layer, or its positions bear on it at all."""
        assert one.candidate.layout is not None
        return one.whole if whole else self.exchange.bears(one.candidate.name, one.candidate.layout)

    def deepest(self, grid: int, signed: bool = True) -> Chosen | None:
        """Of the candidates; of some branches as well where the whole answer passes through the start alone."""
        worth, best = self._best(ranked(self.found, grid, signed))
        if worth < SHALLOW:
            candidates = survey(self.exchange.net, self.exchange.images, cuts_only=False)
            branches = [c for c in candidates if not c.why and not c.cut]
            blocks = [c for c in branches if any(find_layer(self.exchange.net, c.name).children())]
            self.found += spread(blocks or branches, BRANCHES)
            _, best = self._best(ranked(self.found, grid, signed))
        return best

    def _best(self, candidates: Sequence[Candidate]) -> tuple[float, Chosen | None]:
        """The candidate whose depth times the share of the answer that it carries is largest, after that product."""
        worth, best = 0.0, None
        for candidate in candidates:
            if best is None or candidate.depth > worth:
                chosen = self.measured(candidate)
                if best is None or candidate.depth * self._share(chosen) > worth:
                    worth, best = candidate.depth * self._share(chosen), chosen
                if chosen.whole:  # no deeper one follows, but for some that are only as good
                    break
        return worth, best

    def _share(self, one: Chosen) -> float:
        """What counts as the share of the answer that a layer carries."""
        bears = self.carries(one, whole=False)
        share = 1.0 if one.whole else 1 - one.bypass
        if one.candidate.special and bears:
            share = max(share, BESIDE)
        return share if share >= HALF else LITTLE * bears


def ranked(candidates: Sequence[Candidate], grid: int, signed: bool = True) -> list[Candidate]:
    """Those with a grid of at least `grid` x `grid`, without negative values unless `signed`, the best first.

    Deeper is better. Where less than a twentieth of a pass is computed between two, one without negative values is
    better, then the outer one.
    """
    left = [c for c in candidates if c.side >= grid and (signed or c.output.minimum >= 0)]
    best: list[Candidate] = []
    while left:
        deepest = max(c.depth for c in left)
        near = [c for c in left if c.depth > deepest - NEAR and c.output.minimum >= 0] or left
        equal = [c for c in near if c.work == max(c.work for c in near)]
        best.append(min(reversed(equal), key=lambda c: (c.output.minimum < 0, c.name.count("."))))
        left = [c for c in left if c is not best[-1]]
    return best


def spread(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """`count` of the candidates, or all where there are fewer, the last and others evenly spread over the work to it.

    Of those between which nothing is computed the outermost, then one without negative values, then the last. From
    each to the next an even share of the work that is left; a layer within others is taken only where it lies nearer
    to its place by `INNER`.
    """
    by_work: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        by_work.setdefault(candidate.work, []).append(candidate)
    outer = partial(min, key=lambda c: (c.name.count("."), c.output.minimum < 0))
    steps: list[Candidate] = [outer(reversed(equal)) for _, equal in sorted(by_work.items())]
    chosen: list[Candidate] = []
    for left in range(min(count, len(steps)), 0, -1):
        at = steps.index(chosen[-1]) + 1 if chosen else 0
        before = chosen[-1].work if chosen else 0
        place = before + (steps[-1].work - before) / left
        among = steps[at : len(steps) - left + 1] if left > 1 else steps[-1:]
        cost = [abs(c.work - place) / steps[-1].work + INNER * c.name.count(".") for c in among]
        chosen.append(among[cost.index(min(cost))])
    return chosen
