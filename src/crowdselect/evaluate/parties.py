"""Who is asked: endpoints of a crowd file, or models in folders of this machine."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowdselect._optional import optional
from crowdselect.ask.ask import Opener, open_client
from crowdselect.ask.calls import Client
from crowdselect.ask.endpoints import Endpoint, load_endpoints
from crowdselect.errors import InputError, OptionError
from crowdselect.evaluate.protocols import Protocol
from crowdselect.pool.files import fingerprint

_LARGE = 2 << 20  # bytes: of larger files the fingerprint sees both ends, so their time counts too
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Party:
    """Whom to ask, how to reach it, and where that was said."""

    name: str
    endpoint: Endpoint
    open: Opener
    source: str


def is_party(text: str) -> bool:
    """Tell `crowd.toml#NAME` and a folder from a file of answers.

    Example:
        >>> is_party("crowd.toml#gpt-4"), is_party("gpt-4.jsonl")
        (True, False)
    """
    return is_named(text) or Path(text).is_dir()


def is_named(text: str) -> bool:
    """Tell `crowd.toml#NAME` from a folder.

    Example:
        >>> is_named("crowd.toml#gpt-4"), is_named("models/student")
        (True, False)
    """
    return ".toml#" in text


def answering(text: str, *, option: str, name: str | None = None, opener: Opener = open_client) -> Party:
    """Find a model that is to answer.

    Args:
        text: `crowd.toml#NAME`, or a folder with a model or a LoRA adapter.
        option: For errors.
        name: What to call it; None = its own name.
        opener: Makes the client of a server.

    Raises:
        InputError: There is no such folder or file.
        OptionError: The file has no such model.
        MissingExtraError: An adapter needs peft.
    """
    if is_named(text):
        endpoint = _from_file(text, "model", option)
    elif Path(text).is_dir():
        endpoint = Endpoint(_folder_name(text), local=text, model=text)
    else:
        raise InputError(
            f"{option} {text}: there is no such folder; wanted a folder with a model, or crowd.toml#NAME "
            '(a model of the hub stands there with local = "NAME")'
        )
    if endpoint.local is None:
        return Party(name or endpoint.name, endpoint, opener, text)
    if Path(endpoint.local).is_dir():
        # The content, and not the place, is what answers: another model in the same folder is asked anew.
        endpoint = replace(
            endpoint, model=f"{_folder_name(endpoint.local)}@{_content(Path(endpoint.local))[:24]}"
        )
    return Party(name or endpoint.name, endpoint, _local_opener(), text)


def judging(text: str, protocol: Protocol, *, opener: Opener = open_client) -> tuple[Party, list[str]]:
    """Find a judge; temperature 0 and a limit of tokens, unless the file says otherwise.

    Returns:
        The judge, and facts to tell the user.
    """
    if not is_named(text):
        raise OptionError(f"--judge {text}: wanted crowd.toml#NAME, where NAME is a [[judge]] of that file")
    found = _from_file(text, "judge", "--judge")
    endpoint = replace(
        found, system=None, temperature=0.0 if found.temperature is None else found.temperature
    )
    if endpoint.most_tokens is None:
        endpoint = replace(endpoint, max_tokens=protocol.judge_tokens)
    notes = [f"judge {found.name}: its system text is left out"] if found.system is not None else []
    return Party(found.name, endpoint, opener if found.local is None else _local_opener(), text), notes


def limited(endpoint: Endpoint, *, tokens: int, temperature: float) -> Endpoint:
    """Set how long answers may be and how they are drawn; a limit in `extra_body` is set there."""
    extra = {
        name: tokens if name in {"max_tokens", "max_completion_tokens"} else value
        for name, value in endpoint.extra_body.items()
    }
    own = None if extra != dict(endpoint.extra_body) or "max_completion_tokens" in extra else tokens
    return replace(endpoint, max_tokens=own, extra_body=extra, temperature=temperature)


def _from_file(text: str, role: str, option: str) -> Endpoint:
    path, _, name = text.rpartition("#")
    endpoints = load_endpoints(path)
    known = endpoints.models if role == "model" else endpoints.judges
    found = next((endpoint for endpoint in known if endpoint.name == name), None)
    if found is None:
        listed = ", ".join(endpoint.name for endpoint in known) or "none"
        raise OptionError(f"{option} {text}: there is no [[{role}]] named {name!r}; found {listed}")
    return found


def _folder_name(folder: str) -> str:
    return Path(folder).resolve().name


def _content(folder: Path) -> str:
    """Hash what is in a folder of a model, and in the one that an adapter builds on."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    # What training leaves beside a model is no part of it.
    kept = [file for file in files if not any(part.startswith("checkpoint-") for part in file.parts[-2:-1])]
    names = "\n".join(
        f"{file.relative_to(folder)} {file.stat().st_mtime_ns if file.stat().st_size > _LARGE else ''}"
        for file in kept
    )
    base = _base_of(folder)
    beneath = _content(base) if base is not None else ""
    return hashlib.sha256(f"{names}\n{fingerprint(kept)}\n{beneath}".encode()).hexdigest()


def _base_of(folder: Path) -> Path | None:
    """Give the folder of the model that an adapter builds on; None where it is none, or on the hub."""
    place = folder / _ADAPTER
    if not place.is_file():
        return None
    optional("peft", extra="train")
    try:
        named = json.loads(place.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{place}: broken: {' '.join(str(error).split())[:200]}") from error
    base = Path(str(named))
    return base if base.is_dir() and base.resolve() != folder.resolve() else None


def _local_opener() -> Opener:
    """Make clients of one local model that share its weights, however the answers are drawn."""
    shared: list[tuple[Any, Any]] = []

    def opened(endpoint: Endpoint) -> Client:
        from crowdselect.ask.local_client import LocalClient

        return LocalClient(endpoint, shared=shared)

    return opened
