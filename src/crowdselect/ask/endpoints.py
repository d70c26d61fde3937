"""How to reach a crowd's models and judges, read from crowd.toml."""

import hashlib
import ipaddress
import json
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from crowdselect._optional import check_optional
from crowdselect.ask.redact import Redactor
from crowdselect.crowd import (
    DEFAULT,
    LOGPROBS,
    NUMBERS,
    PRICES,
    TEXTS,
    UNKNOWN,
    WHOLE,
    check_document,
    refuse_secret,
)
from crowdselect.errors import InputError, OptionError
from crowdselect.modelfolders import check_model_folder
from crowdselect.textfile import not_utf8

Role = Literal["model", "student", "judge"]

_OURS = frozenset({"model", "messages", "n", "stream", "stream_options"})  # never in extra_body
_WORDS = {("size_b", UNKNOWN), ("temperature", DEFAULT)}  # that stand for a number
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def settings_text(settings: Mapping[str, Any]) -> str:
    """Write an endpoint's settings as the ledger stores them; equal settings give equal texts."""
    return json.dumps(settings, sort_keys=True, allow_nan=False, default=str)


def settings_digest(text: str) -> bytes:
    """Hash an endpoint's settings as written by `settings_text`."""
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model, a student or a judge: how to reach it, and its generation settings.

    Attributes:
        name: As spelt in the crowd and the pool.
        role: `"model"` of the crowd, `"student"` that is to learn from it, or `"judge"`.
        base_url: Of an OpenAI-compatible server, up to and including `/v1`; None for a local model.
        local: Name or path of a model that runs in this process; None for a server.
        model: The name sent to the server; for a local model the same as `local`.
        api_key_env: The environment variable that holds the key; None = no key is sent.
        system: A system message put before every conversation.
        temperature: None = not sent, so the server decides. `top_p`, `max_tokens` and `seed` likewise.
        default_temperature: No command sets a temperature either; written as `temperature = "default"`.
        logprobs: Whether a judge is asked for log-probabilities; None = the command decides.
        extra_body: Further fields of the request, sent unchanged.
        waived: Fields that a command added by itself, which are left out for a server that refuses them.
        timeout: Seconds allowed for one answer.
        max_concurrency: Maximum number of requests in flight.
        requests_per_minute: None = no limit; `tokens_per_minute` likewise.
        price_in: Money per million prompt tokens. None = unknown, which is not 0; for a local model, which is free,
            it becomes 0. `price_out` likewise.
        batch_size: Prompts per batch, for a local model.
    """

    name: str
    role: Role = "model"
    base_url: str | None = None
    local: str | None = None
    model: str = ""
    api_key_env: str | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    default_temperature: bool = False
    logprobs: bool | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    waived: frozenset[str] = frozenset()
    timeout: float = 600.0
    max_concurrency: int = 64
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    price_in: float | None = None
    price_out: float | None = None
    batch_size: int = 8
    digest: bytes = field(init=False, repr=False, compare=False, default=b"")
    """SHA-256 of all settings that change answers: part of the key of every request."""

    def __post_init__(self) -> None:
        for name in PRICES if self.local is not None else ():
            if getattr(self, name) is None:
                object.__setattr__(self, name, 0.0)
        object.__setattr__(self, "digest", settings_digest(self.settings()))

    def settings(self) -> str:
        """Write the settings that change answers as JSON with sorted keys; without the server's address or rate limits."""
        names = ("name", "model", "system", "temperature", "top_p", "max_tokens", "seed")
        values = {name: getattr(self, name) for name in names} | {"extra_body": dict(self.extra_body)}
        return settings_text(values)

    def fields(self) -> dict[str, Any]:
        """Return the fields that every request has, besides the model and the messages.

        Example:
            >>> Endpoint("m", temperature=0.0, extra_body={"top_k": 20}).fields()
            {'temperature': 0.0, 'top_k': 20}
        """
        names = ("temperature", "top_p", "max_tokens", "seed")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return {**given, **self.extra_body}

    @property
    def host(self) -> str:
        """Where requests go, for people: scheme, host and port, or the local model."""
        if self.base_url is None:
            return f"this process ({self.local})"
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def is_loopback(self) -> bool:
        """Whether requests stay on this machine."""
        return self.base_url is None or _is_loopback(urlsplit(self.base_url).hostname or "")

    @property
    def most_tokens(self) -> int | None:
        """Maximum number of tokens of an answer; None = unknown."""
        limits = [
            self.max_tokens,
            self.extra_body.get("max_completion_tokens"),
            self.extra_body.get("max_tokens"),
        ]
        known = [value for value in limits if isinstance(value, int)]
        return max(known) if known else None

    def cost(self, prompt_tokens: float | None, completion_tokens: float | None) -> float | None:
        """Return what some tokens cost; None if a needed count or price is unknown.

        Example:
            >>> Endpoint("m", price_in=1.0, price_out=2.0).cost(500_000, 250_000)
            1.0
            >>> Endpoint("m", price_in=1.0).cost(500_000, 250_000) is None
            True
        """
        total = 0.0
        for tokens, price in ((prompt_tokens, self.price_in), (completion_tokens, self.price_out)):
            if price is None or (tokens is None and price > 0):
                return None
            total += (tokens or 0) * price / 1e6
        return total


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A crowd file's models, students and judges, each in the file's order."""

    models: tuple[Endpoint, ...]
    students: tuple[Endpoint, ...]
    judges: tuple[Endpoint, ...]

    @property
    def answering(self) -> tuple[Endpoint, ...]:
        """Those that answer instructions: the models, then the students."""
        return (*self.models, *self.students)

    @property
    def names(self) -> set[str]:
        """All names, of models, students and judges."""
        return {endpoint.name for endpoint in (*self.answering, *self.judges)}


def load_endpoints(path: str | os.PathLike[str]) -> Endpoints:
    """Read a crowd file.

    Args:
        path: TOML: `[defaults]`, a `[[model]]` table per model of the crowd, a `[[student]]` table per model that is to
            learn, a `[[judge]]` table per judge.

    Returns:
        The models, the students and the judges; a table with neither `base_url` nor `local` cannot be reached, which
        `check_reachable` reports.

    Raises:
        InputError: The file is missing or broken, a key is unknown or a value makes no sense; the message
            names file, table and key.
    """
    where = repr(os.fspath(path))
    document = _document(path)
    _refuse_values(document, path)
    check_document(document, where=where)
    defaults = document.get("defaults", {})
    if not isinstance(defaults, dict):
        raise InputError(f"{where}: 'defaults' is not a table; write [defaults]")
    roles: tuple[Role, ...] = ("model", "student", "judge")
    models, students, judges = (
        tuple(_endpoint(table, defaults, role, place) for table, place in _tables(document, role, where))
        for role in roles
    )
    for some in ((*models, *students), judges):
        names = [endpoint.name for endpoint in some]
        twice = next((one for one in some if names.count(one.name) > 1), None)
        if twice is not None:
            raise InputError(f"{where}: {twice.role} {twice.name!r} appears twice; keep one")
    return Endpoints(models, students, judges)


def check_reachable(endpoints: Endpoints | tuple[Endpoint, ...], *, path: str | os.PathLike[str]) -> None:
    """Refuse endpoints that cannot be reached, before anything is sent.

    Raises:
        InputError: There is none, or one has neither a `base_url` nor a `local` model.
        OptionError: The variable that should hold a key is not set.
    """
    found = endpoints if isinstance(endpoints, tuple) else endpoints.answering
    if not found:
        raise InputError(
            f"{str(path)!r}: there is no [[model]] table and no [[student]]; name who is to answer"
        )
    for endpoint in found:
        if endpoint.base_url is None and endpoint.local is None:
            raise InputError(
                f"{str(path)!r}: {endpoint.role} {endpoint.name!r} has neither base_url nor local; "
                "say how to reach it, or set base_url in [defaults]"
            )
        key(endpoint)


def check_installed(endpoint: Endpoint) -> None:
    """Refuse an endpoint that this machine has not what it takes to ask; nothing is loaded.

    Raises:
        MissingExtraError: The package is not installed.
        InputError: The folder of a local model is not there.
    """
    if endpoint.local is None:
        check_optional("openai", extra="collect")
        return
    for module in ("torch", "transformers"):
        check_optional(module, extra="local")
    adapter = Path(endpoint.local) / "adapter_config.json"
    if not adapter.is_file():
        check_model_folder(endpoint.local)


def key(endpoint: Endpoint) -> str | None:
    """Read an endpoint's key from its environment variable.

    Returns:
        The key; None if the endpoint needs none.

    Raises:
        OptionError: The variable is not set, is empty, or holds characters not allowed in an HTTP header.
    """
    name = endpoint.api_key_env
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise OptionError(
            f"{endpoint.role} {endpoint.name!r}: the environment variable {name} is not set; "
            "put the key of that server into it"
        )
    if not (value.isascii() and value.isprintable()):
        raise OptionError(f"the environment variable {name} holds characters that no key has; set it again")
    return value


def _document(path: str | os.PathLike[str]) -> dict[str, Any]:
    where = repr(os.fspath(path))
    if Path(path).suffix.lower() != ".toml":
        raise InputError(f"{where}: wanted a TOML file that says how to reach the models (crowd.toml)")
    try:
        return tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{where}: no such crowd file") from None
    except OSError as error:
        raise InputError(f"{where}: the crowd file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: {not_utf8(error)}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: broken TOML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise InputError(f"{where}: values are nested too deeply for a crowd file") from None


def _refuse_values(document: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuse a file that contains, anywhere, the value of a key that it names; the message does not show it."""
    known = Redactor.of_variables({name for name in _variables(document) if _VARIABLE.fullmatch(name)})
    places = [(place, known.held(text)) for place, text in _texts(document, "")]
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    places += [(f"line {number}", known.held(line)) for number, line in enumerate(lines, start=1)]
    for place, variable in places:
        if variable is not None:
            raise InputError(
                f"{os.fspath(path)!r}: {known.error(place)} holds the value of the environment variable {variable}; "
                "a key has no place in this file: remove it there"
            )


def _variables(value: object) -> Iterator[str]:
    """Yield the environment variables that tables name in `api_key_env`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "api_key_env" and isinstance(inner, str):
                yield inner
            yield from _variables(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _variables(inner)


def _texts(value: object, place: str) -> Iterator[tuple[str, str]]:
    """Yield all texts of a document, names of keys included, with a readable description of their place."""
    if isinstance(value, dict):
        for name, inner in value.items():
            here = f"{place}: {name}" if place else str(name)
            yield here, str(name)
            yield from _texts(inner, here)
    elif isinstance(value, list):
        for number, inner in enumerate(value, start=1):
            named = inner.get("name") if isinstance(inner, dict) else None
            yield from _texts(
                inner, f"{place} {named!r}" if isinstance(named, str) else f"{place} number {number}"
            )
    elif isinstance(value, str):
        yield place, value


def _tables(document: Mapping[str, Any], kind: str, where: str) -> list[tuple[dict[str, Any], str]]:
    tables = document.get(kind, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{where}: {kind!r} is not a list of tables; write each under its own [[{kind}]]")
    named = []
    for number, table in enumerate(tables, start=1):
        name = table.get("name")
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}: [[{kind}]] number {number} needs a name as text, got {_short(name)}")
        named.append((table, f"{where}: {kind} {name!r}"))
    return named


def _endpoint(table: Mapping[str, Any], defaults: Mapping[str, Any], role: Role, where: str) -> Endpoint:
    reach = {"base_url": None} if "local" in table and "base_url" not in table else {}
    settings = {**defaults, **reach, **table}
    for name, value in settings.items():
        _check(name, value, where)
    if settings.get("temperature") == DEFAULT:
        settings |= {"temperature": None, "default_temperature": True}
    settings["extra_body"] = {**defaults.get("extra_body", {}), **table.get("extra_body", {})}
    _check_extra(settings["extra_body"], where)
    if settings.get("local") is not None and settings.get("base_url") is not None:
        raise InputError(f"{where}: has both base_url and local; keep one")
    if settings.get("base_url") is not None:
        settings["base_url"] = settings["base_url"].rstrip("/")
        _check_url(settings["base_url"], where, has_key=settings.get("api_key_env") is not None)
    wanted = {entry.name for entry in fields(Endpoint) if entry.init}
    values = {name: value for name, value in settings.items() if name in wanted}
    for name in (*NUMBERS, *PRICES):
        if values.get(name) is not None:
            values[name] = float(values[name])
    values["model"] = settings.get("local") or settings.get("model") or table["name"]
    return Endpoint(**values, role=role)


def _check(name: str, value: object, where: str) -> None:
    """Check one value's type and range."""
    if name in TEXTS and (not isinstance(value, str) or not value.strip()) and value is not None:
        raise InputError(f"{where}: {name} must be text, got {_short(value)}")
    if name == "api_key_env" and not _VARIABLE.fullmatch(str(value)):
        raise InputError(
            f"{where}: api_key_env must be the name of an environment variable (letters, digits, _), "
            "not the key itself"
        )
    is_word = isinstance(value, str) and (name, value) in _WORDS
    if name in (*NUMBERS, *PRICES, *WHOLE) and not is_word:
        _check_number(name, value, where)
    if name == LOGPROBS and not isinstance(value, bool):
        raise InputError(f"{where}: logprobs must be true or false, got {_short(value)}")
    if name == "extra_body" and not isinstance(value, dict):
        raise InputError(f"{where}: extra_body must be a table, got {_short(value)}")


def _check_number(name: str, value: object, where: str) -> None:
    whole = name in WHOLE
    ok = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    least = 0.0 if name in {"temperature", "seed", *PRICES} else 1.0 if whole else math.ulp(0.0)
    most = 1.0 if name == "top_p" else 2.0**53 if whole else 1e15
    if not ok or not least <= value <= most:  # type: ignore[operator]  # a number where ok
        kind = "a whole number" if whole else "a number"
        bound = "of at least 0" if least == 0 else "of at least 1" if whole else "above 0"
        top = " and at most 1" if name == "top_p" else ""
        raise InputError(f"{where}: {name} must be {kind} {bound}{top}, got {_short(value)}")


def _check_extra(extra: Mapping[str, Any], where: str) -> None:
    for name in extra:
        if name in _OURS:
            raise InputError(f"{where}: extra_body cannot hold {name!r}, which is set for every request")
    try:
        json.dumps(extra, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: extra_body cannot be sent as JSON: {error}") from error
    _refuse_secrets_within(extra, where)


def _refuse_secrets_within(value: object, where: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            refuse_secret(name, where)
            _refuse_secrets_within(inner, where)
    elif isinstance(value, list):
        for inner in value:
            _refuse_secrets_within(inner, where)


def _check_url(url: str, where: str, *, has_key: bool) -> None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InputError(f"{where}: base_url is not a URL: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise InputError(
            f"{where}: base_url holds user information; keys go into an environment variable (api_key_env)"
        )
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise InputError(
            f"{where}: base_url has a query or fragment; wanted it to end in the path, as in /v1"
        )
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not url.isascii()
        or not url.isprintable()
    ):
        raise InputError(
            f"{where}: base_url must begin with http:// or https:// and name a host, got {_short(url)}"
        )
    if has_key and parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise InputError(
            f"{where}: a key over plain http goes to this machine only, not to {parts.hostname!r}; "
            "use https, or leave api_key_env out"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _short(value: object) -> str:
    return repr(value)[:60]
