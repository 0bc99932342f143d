"""What could be studied in a network, where studies look unless a layer is named, and why not elsewhere: as a table."""

from contextlib import suppress

from torch import Tensor, nn

from interp.errors import UserError
from interp.network.bypass import Exchange
from interp.network.choice import LIMIT
from interp.network.layers import choose_layer, spread_layers, two_of
from interp.network.modules import find_layer
from interp.network.quiet import quiet
from interp.network.survey import Candidate, survey

COLUMNS = ("layer", "positions", "channels", "depth", "bypass", "remarks")
GRID = 4  # rows and columns of positions that a layer must have to be chosen


def layer_table(net: nn.Module, images: Tensor) -> list[tuple[str, ...]]:
    """Rows of `COLUMNS` for the layers that the answer passes through and for blocks that part of it goes past.

    In the order of execution, of those between which nothing is computed the outermost. Depth is the share of a pass's
    multiplications that is done, bypass the share of a change of the answer that goes past the layer. `images`
    (B, C, H, W) are those that the choice is made with. The network is left as it was. One pass for each row.
    """
    defaults, images = _defaults(net, images), two_of(images)
    with quiet(net, report=lambda _: None, backup=False):
        exchange, found = Exchange(net, images), survey(net, images, cuts_only=False)
        return [_row(one, exchange, defaults.get(one.name, "")) for one in found if _told(one, found, net, defaults)]


def _defaults(net: nn.Module, images: Tensor) -> dict[str, str]:
    """What is said of the layers that are looked at unless others are named."""
    wanted: dict[str, list[str]] = {}
    for count in (1, 3, 4, 8):
        with suppress(UserError):  # no layer will do, as each row says
            alone = count == 1
            for layer in [choose_layer(net, images, signed=True)] if alone else spread_layers(net, images, count):
                wanted.setdefault(layer.name, []).append(str(count))
    verbs = {name: "is" if counts == ["1"] else "are" for name, counts in wanted.items()}
    return {name: f"chosen where {', '.join(counts)} {verbs[name]} wanted" for name, counts in wanted.items()}


def _told(one: Candidate, found: list[Candidate], net: nn.Module, defaults: dict[str, str]) -> bool:
    if not one.cut or one.name in defaults:
        return one.name in defaults or any(find_layer(net, one.name).children())
    equal = [other for other in found if other.cut and other.work == one.work]
    outer = min(equal, key=lambda other: other.name.count("."))
    return one is outer and not any(other.name in defaults for other in equal)


def _row(candidate: Candidate, exchange: Exchange, default: str) -> tuple[str, ...]:
    at = candidate.layout
    past = exchange.bypass(candidate.name, at) if at else None
    why = "part of the answer goes past it" if past is not None and past > LIMIT else ""
    why = why or (f"fewer than {GRID} x {GRID} positions" if 0 < candidate.side < GRID else "")
    return (
        candidate.name,
        f"{at.height} x {at.width}" if at and candidate.positions else "vector" if at else "none",
        str(at.channels(candidate.output.shape)) if at else "",
        f"{candidate.depth:.2f}",
        "" if past is None else "not to be told" if past != past else f"{past:.2f}",
        default or candidate.why or why,
    )
