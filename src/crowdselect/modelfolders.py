"""Models of transformers: what can be checked without loading one, or asking the Hub."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Timer

from crowdselect._optional import optional
from crowdselect.errors import InputError, MissingExtraError
from crowdselect.hubaccess import cache_alone, hub_trouble, is_absent
from crowdselect.terminal import note, visible

_PATIENCE = 3.0  # seconds


def check_model_folder(model: str) -> None:
    """Refuse a model whose folder does not exist or holds none; what looks like a name on the hub is not looked up.

    Args:
        model: A folder, or a name on the hub.

    Raises:
        InputError: It is a file, a path to nothing, or a folder without a config.json.

    Example:
        >>> check_model_folder("owner/name")
    """
    folder = Path(model)
    looks_local = model.startswith((".", "/", "~")) or model.endswith("/") or model.count("/") > 1
    if folder.is_dir() and not (folder / "config.json").is_file():
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        raise InputError(
            f"{model}: not a model: there is no config.json in this folder; found {found}; wanted a folder "
            "that save_pretrained wrote"
        )
    if folder.is_file():
        raise InputError(f"{model}: this is a file; wanted a model's folder, or its name on the hub")
    if looks_local and not folder.exists():
        raise InputError(f"{model}: no such folder; wanted a model's folder, or its name on the hub")


def is_here(model: str) -> bool:
    """Say whether a model is on this machine: a folder, or in the Hub's cache. The Hub is not asked.

    Args:
        model: A folder, or a name on the hub; what can be neither counts as here, so that loading it says what is wrong.
            Without huggingface_hub nothing of its cache can be loaded, so that it is not here.
    """
    if Path(model).is_dir():
        return True
    try:
        hub = optional("huggingface_hub", extra="reward")
    except MissingExtraError:
        return False
    try:
        return isinstance(hub.try_to_load_from_cache(model, "config.json"), str)
    except ValueError:  # no name of the Hub's
        return True


@contextmanager
def quiet_hub(model: str, *, extra: str = "reward") -> Iterator[None]:
    """Load a model without the Hub's library warning of each retry: what it ends with is said in one line.

    Where the Hub cannot be asked, what is loaded comes from its cache, and nothing is tried again and again.

    Args:
        model: What is loaded; where it comes from the Hub and that takes three seconds, a line says so.
        extra: The extra of crowdselect that loads it.

    Raises:
        ConnectionError: The Hub cannot be asked, and what is in the cache is not enough.
    """
    if Path(model).expanduser().is_dir():
        yield
        return
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    waiting = Timer(
        _PATIENCE, note, [f"{visible(model)} is not on this machine: asking the Hub, which may take a while"]
    )
    waiting.daemon = True
    if not is_here(model):
        waiting.start()
    trouble = hub_trouble(extra=extra)
    try:
        with nullcontext() if trouble is None else cache_alone(extra=extra):
            yield
    except (OSError, ValueError, RuntimeError) as error:
        if trouble is None or not (isinstance(error, OSError) or is_absent(error)):
            raise
        said = " ".join(str(error).split())
        raise ConnectionError(
            f"not all of it is on this machine, and {trouble}"
            if is_absent(error)
            else f"{trouble}. With what is on this machine: {said}"
        ) from error
    finally:
        waiting.cancel()
        logger.setLevel(before)


@contextmanager
def no_bars_in_a_pipe() -> Iterator[None]:
    """Silence the progress bar that transformers draws while loading weights, unless stderr is a terminal."""
    transformers = sys.modules.get("transformers")
    bars = transformers.utils.logging if transformers is not None and not sys.stderr.isatty() else None
    if bars is None or not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()
