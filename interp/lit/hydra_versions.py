"""What Hydra 1.3 and 1.4 want to be told differently."""

import warnings
from typing import Any

import hydra

# 1.3 needs it, lest it behave as 1.1; 1.4 knows no other behaviour and calls the parameter deprecated.
BASE: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def allow_targets() -> None:
    """Let `_target_`s be built as by Hydra 1.3, without 1.4's advice to whoever calls `instantiate`.

    A user's own configuration may name anything that Hydra itself does not refuse; what comes out of a stranger's run
    has been checked by `interp.lit.safety.foreign`.
    """
    warnings.filterwarnings("ignore", r"hydra\.utils\.instantiate\(\) resolved _target_=", UserWarning)
