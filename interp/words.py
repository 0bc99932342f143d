"""Names of classes in settings, beside words such as true, predicted and top; and values in few letters."""

from collections.abc import Sequence, Sized
from typing import Any

import torch


def word(value: object) -> str:
    """A setting as it was written: YAML reads true, false and null as values of their own.

    >>> word(True), word("top"), word(7)
    ('true', 'top', '7')
    """
    return {"True": "true", "False": "false", "None": "null"}.get(str(value), str(value))


def class_index(name: str, names: Sequence[str]) -> int | None:
    """The place of the class called `name` in `names`, None where there is none.

    `class:true` is the class true where true is a word. Case counts where two names differ by it alone.

    >>> class_index("class:true", ["false", "true"]), class_index("false", ["True", "False"]), class_index("top", ["a"])
    (1, 1, None)
    """
    names, name = list(names), name.removeprefix("class:")
    if name in names:
        return names.index(name)
    alike = [index for index, other in enumerate(names) if other.lower() == name.lower()]
    return alike[0] if len(alike) == 1 else None


def brief(value: Any) -> str:
    """A value in a few letters: of a tensor its kind and shape, of what is long how many items it has.

    >>> brief(torch.zeros(2, 3)), brief(("cat", "dog")), brief(list(range(1000)))
    ('float32[2, 3]', "('cat', 'dog')", 'list of 1000')
    """
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    text = repr(value)
    if len(text) <= 60:
        return text
    return f"{type(value).__name__} of {len(value)}" if isinstance(value, Sized) else f"{text[:56]} ..."
