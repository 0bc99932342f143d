"""Refuse what Hydra accepts silently, and say how to mend what it refuses; imports nothing heavy."""

import errno
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp.errors import UserError, unknown
from interp.files import explained
from interp.lit.secrets import hide, hide_in_streams, remember_arguments
from interp.signals import interrupt, signal_of
from interp.terminal import visible

CONF = Path(__file__).parent
T = TypeVar("T")
UNWRITABLE = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST)


def groups() -> list[str]:
    """The configuration groups: the folders of conf/."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and any(path.glob("*.yaml")))


def check(cfg: DictConfig, primary: str) -> None:
    """Raise UserError for a setting in `cfg` that nothing reads; `primary` is the name of its main YAML."""
    known = {*groups(), *map(str, _yaml(CONF / f"{primary}.yaml"))} - {"defaults"}
    for key in cfg:
        if key not in known:
            raise unknown("setting or group", str(key), sorted(known))
    for key, node in (cfg.get("plugin") or {}).items():
        _check_plugin(str(key), node)
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{missing[0]} is not set: give it as {missing[0]}=VALUE")
    _check_objective(cfg)
    OmegaConf.resolve(cfg.copy())


def _check_plugin(name: str, node: object) -> None:
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UserError(f"plugin.{name} is set, but that plugin is not loaded: add +plugin={name}. {_plugins()}")
    module = str(node["_target_"]).rpartition(".")[0]
    if not _exists(module):
        raise UserError(f"plugin.{name}._target_={node['_target_']}: there is no module {module!r}")
    for path in (CONF / "plugin").glob("*.yaml"):
        own = _yaml(path)
        if own.get("_target_") == node["_target_"]:
            allowed = {*own, *_yaml(CONF / "study.yaml"), "name"} - {"defaults"}
            for key in node.keys() - allowed:
                raise unknown("setting", str(key), sorted(map(str, allowed - {"_target_"})), owner=f"plugin.{name}")


def _check_objective(cfg: DictConfig) -> None:
    """What a plugin that is not loaded would have to find is noticed before the training, not after it."""
    named = cfg.get("objective") or []
    for objective in [named] if isinstance(named, str) else named:
        prefix = str(objective).partition("/")[0]
        plugins = {str(node.get("name", key)) for key, node in (cfg.get("plugin") or {}).items()}
        if prefix not in plugins and (CONF / "plugin" / f"{prefix}.yaml").is_file():
            raise UserError(f"objective={objective}: the plugin {prefix} is not loaded: add +plugin={prefix}")


def _yaml(path: Path) -> DictConfig:
    return cast(DictConfig, OmegaConf.load(path))


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _plugins() -> str:
    return f"Plugins: {', '.join(sorted(path.stem for path in (CONF / 'plugin').glob('*.yaml')))}"


def mendable(error: Exception) -> str | None:
    """The one message for what the user can mend, None for anything else."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain(error)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        error = explained(error, Path(str(error.filename or ".")))
        return f"{error.filename}: {error.strerror}. If this is where the run should go, choose output=FOLDER"
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return f"{error.object!r} is not UTF-8, and a logger takes nothing else: rename it, or choose output=FOLDER"
    return None


@contextmanager
def clear_errors() -> Iterator[None]:
    """Print what the user can mend as one message, anything else with its traceback, and exit with code 1.

    Both without secrets. Ctrl-C before or after the training ends with code 130 and SIGTERM with 143, as within it.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        number = signal_of(error)
        print("interrupted" if number == signal.SIGINT else f"ended by {number.name}", file=sys.stderr)
        sys.exit(128 + number)
    except Exception as error:
        fail(mendable(error), error)


def told_clearly(main: Callable[..., T]) -> Callable[..., T]:
    """`main` with its errors printed by `clear_errors`; a plain function, which launchers can send to processes.

    In a sweep an error ends its job alone: the message is raised as a UserError, and `interp.lit.sweep` keeps it.
    """

    @wraps(main)
    def told(*arguments: Any) -> T:
        hide_in_streams()  # a launcher's worker has no other place for it
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
    import traceback

    text = f"error: {message}" if message is not None else "".join(traceback.format_exception(error)).rstrip()
    text = visible(hide(text))
    for handler in logging.root.handlers:
        if isinstance(handler, logging.FileHandler):
            said = text.removeprefix("error: ")
            handler.handle(logging.LogRecord("epochscope", logging.ERROR, "", 0, said, None, None))
    print(text, file=sys.stderr)
    sys.exit(1)


def explain(error: Exception) -> str:
    """Hydra's or OmegaConf's message in one line, with the nearest name that exists."""
    text = str(error).strip()
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        if group.startswith("hydra/"):
            return f"no {group} {option!r} is installed: pip install -e '.[sweep]' brings joblib, submitit, optuna"
        options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        return str(unknown(f"{group} option", option, options, hint="Other packages: hydra.searchpath"))
    if match := re.search(r"Could not override '([^']+)'", text):
        return f"no setting {match[1]!r}; {_nearest_setting(match[1])}"
    return text


def _nearest_setting(key: str) -> str:
    parent, _, leaf = key.rpartition(".")
    names = _siblings(parent)
    if not names and parent.startswith("plugin."):
        return f"is that plugin loaded? Add +{parent.replace('.', '=', 1).split('.')[0]}. {_plugins()}"
    near = get_close_matches(leaf, names, n=1, cutoff=0.5)
    guess = f"did you mean {f'{parent}.' if parent else ''}{near[0]}? " if near else ""
    return (
        f"{guess}{'There' if parent else 'Top level'} is: {', '.join(names)}"
        if names
        else "nothing by that name exists"
    )


def _siblings(parent: str) -> list[str]:
    """The keys beside the one that was meant, in the configuration that the other overrides make."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    overrides = [a for a in sys.argv[1:] if re.match(r"^\+?(plugin|data|model|optimizer|scheduler|trainer|logger)=", a)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(Path(sys.argv[0]).stem if Path(sys.argv[0]).stem == "analyze" else "train", overrides)
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return sorted({*map(str, node), *([] if parent else groups())}) if isinstance(node, DictConfig) else []


def hydras_own(argument: str) -> list[str]:
    """`output=FOLDER` as the settings by which Hydra puts its own files there too; other arguments as they are.

    >>> hydras_own("output=here")
    ['hydra.run.dir=here', 'hydra.sweep.dir=here']
    """
    folder = argument.removeprefix("output=")
    return [argument] if folder == argument else [f"hydra.run.dir={folder}", f"hydra.sweep.dir={folder}"]


def run_stamp() -> str:
    """The time, to the millisecond, as a folder is named."""
    import time

    return f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{time.time_ns() // 10**6 % 1000:03d}"


def launch(main: Callable[[], None]) -> None:
    """Run a Hydra main function so that errors reach `clear_errors` instead of Hydra's own printing."""
    import os

    if "TORCHELASTIC_RUN_ID" in os.environ:
        from interp.lit.torchrun import agree_on_folder

        agree_on_folder(run_stamp())
    os.environ.setdefault("RUN_STAMP", run_stamp())  # one folder for all processes of a run, and no other run's
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.path.append(str(CONF.parent / "interp" / "lit" / "launchers"))  # Hydra looks for packages `hydra_plugins` there
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, interrupt)
    sys.argv[1:] = [argument for given in sys.argv[1:] for argument in hydras_own(given)]
    hide_in_streams()
    with clear_errors():
        remember_arguments(sys.argv[1:])
        main()
