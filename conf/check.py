"""Refuse what Hydra accepts silently, and say how to mend what it refuses; imports nothing heavy."""

import errno
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from conf.arguments import arranged
from conf.explain import explain
from conf.groups import BUILT, CONF, groups, options
from conf.kinds import check_kinds
from interp.errors import UserError, unknown
from interp.files import explained
from interp.lit.hydra_versions import allow_targets
from interp.lit.renamed import with_new_names
from interp.lit.safety.secrets import hide, hide_in_streams, remember_arguments
from interp.lit.terminal import visible
from interp.processes.signals import interrupt, signal_of

__all__ = [
    "CONF",
    "check",
    "clear_errors",
    "groups",
    "launch",
    "mendable",
    "objective_names",
    "sweeping",
    "told_clearly",
]
T = TypeVar("T")
_stamps = set[str]()  # that this process has given to runs of its own
UNWRITABLE = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST)


def check(cfg: DictConfig, primary: str, *, of_run: bool = False) -> None:
    """Raise UserError for a setting in `cfg` that nothing reads or of a wrong kind; `primary` names its main YAML.

    What a configuration of an earlier version calls by another name gets its new one in `cfg`.

    Where a checkpoint is given, settings of data, model and the like may be meant for those of its run: they are
    checked when these have been taken over, `of_run`.
    """
    given: Any = OmegaConf.to_container(cfg)
    for key in (key for key, node in with_new_names(given).items() if node != given[key]):
        OmegaConf.update(cfg, key, with_new_names(given[key]), merge=False)
    main: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{primary}.yaml"))
    known = {*groups(), *main} - {"defaults"}
    for key in cfg:
        if key not in known:
            raise unknown("setting or group", str(key), sorted(known))
    for key, node in (cfg.get("plugin") or {}).items():
        if not isinstance(node, DictConfig) or "_target_" not in node:
            raise UserError(f"plugin.{key} is set, but that plugin is not loaded: add +plugin={key}. {_plugins()}")
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} is not set: give it as {missing[0]}=VALUE")
    _check_objective(cfg)
    _check_weights(cfg, primary)
    OmegaConf.to_container(cfg, resolve=True)  # OmegaConf.resolve of 2.4rc stumbles over oc.dict.keys
    plain: Any = OmegaConf.to_container(cfg)
    check_kinds(plain, main, BUILT if of_run or not cfg.get("checkpoint") else ())
    if not 0 <= cfg.seed < 2**32:
        raise UserError(f"seed={cfg.seed}: wanted is a whole number from 0 to {2**32 - 1}")


def objective_names(cfg: DictConfig) -> list[str]:
    """The names of the scalars that a sweep sees."""
    names = cfg.get("objective") or []
    return list(map(str, names)) if isinstance(names, ListConfig) else [str(names)]


def _check_objective(cfg: DictConfig) -> None:
    """What a plugin that is not loaded would have to find is noticed before the training, not after it."""
    for objective in objective_names(cfg):
        prefix = str(objective).partition("/")[0]
        plugins = {str(node.get("name", key)) for key, node in (cfg.get("plugin") or {}).items()}
        if prefix not in plugins and prefix in options("plugin"):
            raise UserError(f"objective={objective}: the plugin {prefix} is not loaded: add +plugin={prefix}")


def _check_weights(cfg: DictConfig, primary: str) -> None:
    weights, head, checkpoint = (cfg.get(name) for name in ("weights", "weights_head", "checkpoint"))
    if head not in (None, "new"):
        raise UserError(f"weights_head={head}: wanted is new (the last layer is not read) or null")
    if head and weights is None:
        raise UserError("weights_head=new is of weights, and none are given: add weights=PATH")
    if primary == "analyze" and weights is not None and checkpoint is not None:
        raise UserError(
            f"weights={weights} and checkpoint={checkpoint} both say what the network knows: give checkpoint= for runs "
            "of train.py, weights= for any other file"
        )


def _plugins() -> str:
    return f"Plugins: {', '.join(options('plugin'))}"


def mendable(error: Exception, *, of_hydra: bool = False) -> str | None:
    """The one message for what the user can mend, None for anything else; `of_hydra`: it came from outside the run."""
    if isinstance(error, UserError) or _of_lightning(error):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error)
    if _of_workers(error):
        return (
            f"worker processes could not hand images over in shared memory ({_reason(error)}): set data.num_workers=0, "
            "or give /dev/shm more room, as docker run --shm-size=8g does"
        )
    if isinstance(error, OSError) and (error.errno in UNWRITABLE or of_hydra):
        error = explained(error, Path(str(error.filename or ".")))
        return f"{error.filename}: {error.strerror}. If this is where the run should go, choose output=FOLDER"
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return f"{error.object!r} is not UTF-8, and a logger takes nothing else: rename it, or choose output=FOLDER"
    return None


def _of_lightning(error: Exception) -> bool:
    """Whether Lightning complains of what it was told to do."""
    frames = traceback.extract_tb(error.__traceback__)
    raised_there = bool(frames) and "lightning" in Path(frames[-1].filename).parts
    return type(error).__name__ == "MisconfigurationException" or (isinstance(error, ValueError) and raised_there)


def _of_workers(error: Exception) -> bool:
    """Whether shared memory ran out: between processes, or because it is said so."""
    if isinstance(error, RuntimeError):
        return bool(re.search(r"shared memory|</?torch_\w+>", str(error)))
    if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
        return False
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return any(Path(file).parent.name == "multiprocessing" for file in files)


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].rpartition("Error: ")[2]


@contextmanager
def clear_errors(*, of_hydra: bool = False) -> Iterator[None]:
    """Print what the user can mend as one message, anything else with its traceback, and exit with code 1.

    Both without secrets. Ctrl-C before or after the training ends with code 130 and SIGTERM with 143, as within it. No
    folder stays of a command that ends so, or for what the user can mend, before it trains or studies.
    """
    from interp.lit.run_folder import claim

    try:
        yield
    except KeyboardInterrupt as error:
        claim.withdraw()
        number = signal_of(error)
        print("interrupted" if number == signal.SIGINT else f"ended by {number.name}", file=sys.stderr)
        sys.exit(128 + number)
    except Exception as error:
        if _of_workers(error):
            sys.unraisablehook = lambda unraisable: None  # torch's half-made iterator complains when it is deleted
        fail(mendable(error, of_hydra=of_hydra), error)


def told_clearly(main: Callable[..., T]) -> Callable[..., T]:
    """`main` with its errors printed by `clear_errors`; a plain function, which launchers can send to processes.

    In a sweep an error ends its job alone: the message is raised as a UserError, and `interp.lit.sweep` keeps it.
    """

    @wraps(main)
    def told(*arguments: Any) -> T:
        hide_in_streams()  # a launcher's worker has no other place for it
        allow_targets()
        if not sweeping():
            with clear_errors():
                return main(*arguments)
        try:
            return main(*arguments)
        except Exception as error:
            if (message := mendable(error)) is None:
                raise
            raise UserError(message) from error

    return told


def sweeping() -> bool:
    """Whether this is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def fail(message: str | None, error: Exception | None = None) -> NoReturn:
    """Print `message`, or the traceback of `error`, also to the run's log if there is one, and exit with code 1."""
    import logging

    from interp.lit.run_folder import claim

    text = (
        f"error: {' '.join(message.split())}"
        if message is not None
        else "".join(traceback.format_exception(error)).rstrip()
    )
    text = visible(hide(text))
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            line = text.removeprefix("error: ")
            handler.handle(logging.LogRecord("epochscope", logging.ERROR, "", 0, line, None, None))
    if message is not None:
        claim.withdraw()
    print(text, file=sys.stderr)
    sys.exit(1)


def run_stamp() -> str:
    """The time, to the millisecond, as a folder is named, and a number that tells runs of one millisecond apart."""
    import time
    from secrets import randbelow

    now = time.time_ns() // 10**6
    return f"{time.strftime('%Y-%m-%d_%H-%M-%S', time.localtime(now // 1000))}-{now % 1000:03d}-{randbelow(10**6):06d}"


def launch(main: Callable[[], None]) -> None:
    """Run a Hydra main function so that errors reach `clear_errors` instead of Hydra's own printing."""
    import os

    if "TORCHELASTIC_RUN_ID" in os.environ:
        from interp.lit.processes.torchrun import agree_on_folder

        agree_on_folder(run_stamp())
    if os.environ.get("RUN_STAMP", "") in {"", *_stamps}:  # one folder for all processes of a run, and no other run's
        _stamps.add(run_stamp())
        os.environ["RUN_STAMP"] = max(_stamps)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Hydra looks for packages `hydra_plugins` on the path.
    sys.path.append(str(CONF.parent / "interp" / "lit" / "sweep" / "launchers"))
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, interrupt)
    hide_in_streams()
    allow_targets()
    with clear_errors(of_hydra=True):
        remember_arguments(sys.argv[1:])
        sys.argv[1:] = arranged(sys.argv[1:])
        main()
