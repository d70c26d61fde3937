"""What a crowd file may hold: the keys of its tables; every command that reads one refuses others."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from crowdselect.errors import InputError, near_miss

UNKNOWN = "unknown"
"""What a file says in the place of a family or a size that nobody knows, whatever the model's name says."""
TEXTS = ("base_url", "model", "api_key_env", "system", "local", "family")
NUMBERS = ("temperature", "top_p", "timeout", "requests_per_minute", "tokens_per_minute", "size_b")
PRICES = ("price_in", "price_out")
WHOLE = ("max_tokens", "seed", "max_concurrency", "batch_size")
ALIASES = "aliases"
"""Other names of a model, under which rewards may be filed: a list of texts."""
KEYS = (*TEXTS, *NUMBERS, *PRICES, *WHOLE, "extra_body", ALIASES)
"""Of a model or a judge, beside its name."""

_TABLES = ("defaults", "model", "judge", "notes")
_DEFAULT_KEYS = tuple(key for key in KEYS if key not in {"model", "family", "size_b", "local", ALIASES})
_FREE = "x_"  # how a key begins that is nobody's business but the user's; so is what stands in [notes]
_NO_SECRET = {"api_key_env"}
_SECRET = re.compile(
    r"(^|[_-])(api[_-]?key|apikey|secret|password|passwd|authorization|bearer|credentials?)($|[_-])"
    r"|(access|auth|api|bearer)[_-]?token$",
    re.IGNORECASE,
)


def check_document(document: Mapping[str, Any], *, where: str) -> None:
    """Refuse keys that a crowd file does not have; what is no table is left to whoever reads it.

    Args:
        document: What the TOML file holds.
        where: The file, for messages.

    Raises:
        InputError: A key is unknown; the message names file, table, key and the nearest known one.
    """
    check_keys(document, _TABLES, where=f"{where}: top level")
    defaults = document.get("defaults")
    if isinstance(defaults, dict):
        check_keys(defaults, _DEFAULT_KEYS, where=f"{where}: [defaults]")
    for kind in ("model", "judge"):
        tables = document.get(kind)
        for number, table in enumerate(tables if isinstance(tables, list) else [], start=1):
            if isinstance(table, dict):
                name = table.get("name")
                called = f"{kind} {name!r}" if isinstance(name, str) else f"[[{kind}]] number {number}"
                check_keys(table, ("name", *KEYS), where=f"{where}: {called}")


def check_keys(names: Iterable[str], known: tuple[str, ...], *, where: str) -> None:
    """Refuse keys that are not known, and those that look like a secret.

    Args:
        names: The keys of a table. Those that begin with `x_` are free.
        known: What it may have.
        where: File and table, for messages.

    Raises:
        InputError: See `check_document`.

    Example:
        >>> check_keys(["size_b", "x_owner"], KEYS, where="crowd.toml")
    """
    for name in names:
        if name in known:
            continue
        refuse_secret(name, where)
        if name.startswith(_FREE):
            continue
        raise InputError(f"{where}: unknown key {name!r}{near_miss(name, known)}")


def refuse_secret(name: str, where: str) -> None:
    """Refuse a key whose name says that its value is a secret.

    Raises:
        InputError: It does.
    """
    if name not in _NO_SECRET and _SECRET.search(name):
        raise InputError(
            f"{where}: {name!r} looks like a secret, which has no place in this file; put it into an "
            "environment variable and name that with api_key_env"
        )
