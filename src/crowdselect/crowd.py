"""The crowd: each model's family and size, from a crowd file or its name; and the keys of that file."""

import json
import math
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.errors import InputError, near_miss
from crowdselect.names import read_name
from crowdselect.textfile import not_utf8
from crowdselect.types import FloatArray

UNKNOWN = "unknown"
"""What a file writes for an unknown family or size; it overrides what the model's name says."""
TEXTS = ("base_url", "model", "api_key_env", "system", "local", "family")
NUMBERS = ("temperature", "top_p", "timeout", "requests_per_minute", "tokens_per_minute", "size_b")
PRICES = ("price_in", "price_out")
WHOLE = ("max_tokens", "seed", "max_concurrency", "batch_size")
ALIASES = "aliases"
"""Other names of a model, under which rewards may be filed: a list of texts."""
LOGPROBS = "logprobs"
"""Of a judge: whether log-probabilities are asked for."""
DEFAULT = "default"
"""What a file writes for `temperature` where the server is to decide, also if a command would set one."""
KEYS = (*TEXTS, *NUMBERS, *PRICES, *WHOLE, "extra_body", ALIASES)
"""Keys of a model, a student or a judge, besides `name`."""

_TABLES = ("defaults", "model", "student", "judge", "notes")
_DEFAULT_KEYS = tuple(key for key in KEYS if key not in {"model", "family", "size_b", "local", ALIASES})
_FREE = "x_"  # prefix of keys that are the user's own, like everything in [notes]
_NO_SECRET = {"api_key_env"}
_SECRET = re.compile(
    r"(^|[_-])(api[_-]?key|apikey|secret|password|passwd|authorization|bearer|credentials?)($|[_-])"
    r"|(access|auth|api|bearer)[_-]?token$",
    re.IGNORECASE,
)


def check_document(document: Mapping[str, Any], *, where: str) -> None:
    """Refuse unknown keys in a crowd file; values that should be tables but are not are left to the reader.

    Args:
        document: The parsed TOML file.
        where: The file, for messages.

    Raises:
        InputError: A key is unknown; the message names file, table, key and the nearest known one.
    """
    check_keys(document, _TABLES, where=f"{where}: top level")
    defaults = document.get("defaults")
    if isinstance(defaults, dict):
        check_keys(defaults, _DEFAULT_KEYS, where=f"{where}: [defaults]")
    for kind in ("model", "student", "judge"):
        tables = document.get(kind)
        for number, table in enumerate(tables if isinstance(tables, list) else [], start=1):
            if isinstance(table, dict):
                name = table.get("name")
                label = f"{kind} {name!r}" if isinstance(name, str) else f"[[{kind}]] number {number}"
                own = (LOGPROBS,) if kind == "judge" else ()
                check_keys(table, ("name", *KEYS, *own), where=f"{where}: {label}")


def check_keys(names: Iterable[str], known: tuple[str, ...], *, where: str) -> None:
    """Refuse unknown keys, and those that look like a secret.

    Args:
        names: The keys of a table. Those that begin with `x_` are allowed.
        known: The keys it may have.
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
    """Refuse a key whose name suggests that its value is a secret.

    Raises:
        InputError: It does.
    """
    if name not in _NO_SECRET and _SECRET.search(name):
        raise InputError(
            f"{where}: {name!r} looks like a secret, which does not belong in this file; put it into an "
            "environment variable and name it with api_key_env"
        )


_LEFT_OUT = f'leave it out to have it read off the name, or write "{UNKNOWN}"'
_SHOWN = 5  # names listed in a message before "and N more"
_DEAREST = 1e15


@dataclass(frozen=True, slots=True)
class Member:
    """One model of the crowd.

    Attributes:
        name: As the pool spells it.
        family: Shared by the models of one series that differ in size. None = unknown.
        size_b: Billions of parameters, all experts of a mixture included. None = unknown.
        source: Where family and size come from: `"file"`, `"name"` (at least one was read off the name) or
            `"unknown"`.
    """

    name: str
    family: str | None
    size_b: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Crowd:
    """The models that answered, each with its family and size where known.

    Attributes:
        members: One per model; names differ.
        origin: Where the crowd comes from, for messages.
        aliases: Other names of members and students, each with the name that it stands for.
        students: Models that the file names as students: they may learn from the crowd and are no part of it.
        prices: Of each model of the file that has both: money per million tokens of prompts, and of answers.

    Example:
        >>> crowd = Crowd.from_names(["gemma-2-9b-it", "gemma-2-27b-it", "gpt-4o"])
        >>> crowd.families, crowd.sizes, crowd.has_order
        (['gemma-2-it', 'gemma-2-it', None], array([ 9., 27., nan]), True)
    """

    members: tuple[Member, ...]
    origin: str = field(default="the models' names", compare=False)
    aliases: Mapping[str, str] = field(default_factory=dict, compare=False)
    students: tuple[str, ...] = field(default=(), compare=False)
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict, compare=False)

    @classmethod
    def from_names(cls, names: Iterable[str]) -> "Crowd":
        """Read family and size off the names; see `names.read_name`.

        Args:
            names: The models' names, all different.

        Returns:
            One member per name, in the given order. Nothing is guessed: show the result before trusting it.

        Raises:
            InputError: There is no name, or one occurs twice.
        """
        return cls(_distinct([_named(name) for name in names], origin="the models' names"))

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> "Crowd":
        """Read a crowd file.

        Args:
            path: TOML with `[[model]]` tables of `name`, `family`, `size_b`, and perhaps a `[[student]]`, or JSON
                `{name: {"family": ..., "size_b": ...}}`. What is absent is read off the name; `"unknown"`
                (or null) is unknown, whatever the name says. Prices may be there too. Other keys configure how to reach
                a model: their values are not checked here.

        Returns:
            One member per model, in the file's order.

        Raises:
            InputError: The file is missing or broken, a key is unknown, a value has the wrong type, a name
                occurs twice or there is no model in it; the message names file and entry.
        """
        file = Path(path)
        readers = {".toml": _toml_entries, ".json": _json_entries}
        reader = readers.get(file.suffix.lower())
        if reader is None:
            raise InputError(
                f"{str(file)!r}: a crowd file ends in .toml or .json, this one in {file.suffix!r}"
            )
        try:
            entries = reader(_text(file), str(file))
        except RecursionError:
            raise InputError(f"{str(file)!r}: values are nested too deeply for a crowd file") from None
        origin, students = repr(str(file)), [name for kind, name, _ in entries if kind == "student"]
        members = [_member(name, entry, where=f"{origin}: {kind} {name!r}") for kind, name, entry in entries]
        known = _distinct(members, origin=origin)
        crowd = tuple(member for member in known if member.name not in students)
        if not crowd:
            raise InputError(f"{origin}: there is no [[model]], only a student; a crowd needs at least one")
        named = [(name, entry) for _, name, entry in entries]
        return cls(
            crowd,
            origin=origin,
            aliases=_aliases(named, where=origin),
            students=tuple(students),
            prices=_prices(named, where=origin),
        )

    def aligned(self, models: Sequence[str]) -> tuple["Crowd", list[str]]:
        """Align the crowd with a pool's models.

        Args:
            models: The pool's models, the columns of its score matrix.

        Returns:
            A crowd with exactly one member per model, in that order, read off the name if this crowd has
            no entry; and one-line warnings: entries not in the pool, models without an entry.

        Raises:
            InputError: Not one model of the pool has an entry.

        Example:
            >>> crowd, warnings = Crowd.from_names(["a-7b", "b-7b"]).aligned(["b-7b", "c"])
            >>> crowd.names, warnings[0]
            (['b-7b', 'c'], "the models' names: 1 of 2 entries is not in the pool: 'a-7b'")
        """
        by_name = {member.name: member for member in self.members}
        for alias, name in self.aliases.items():
            if alias in models and name not in models and name in by_name:
                by_name[alias] = replace(by_name.pop(name), name=alias)
        missing = [name for name in models if name not in by_name]
        if len(missing) == len(models):
            raise InputError(
                f"{self.origin}: no entry matches a model of the pool; the entries are {_listed(list(by_name))}, "
                f"the pool's models {_listed(missing)}"
            )
        wanted = set(models)
        absent = [name for name in by_name if name not in wanted]
        warnings = []
        if absent:
            warnings.append(
                f"{self.origin}: {_count(absent, len(by_name), 'entries')} not in the pool: {_listed(absent)}"
            )
        if missing:
            warnings.append(
                f"{self.origin}: {_count(missing, len(models), 'models of the pool')} without an entry, "
                f"so family and size are read off the name: {_listed(missing)}"
            )
        members = tuple(by_name.get(name) or _named(name) for name in models)
        return replace(self, members=members), warnings

    def price(self, name: str) -> tuple[float, float] | None:
        """Return the prices of a model, known by its name or an alias; None if they are unknown."""
        return self.prices.get(self.aliases.get(name, name))

    @property
    def names(self) -> list[str]:
        """The models' names, length M."""
        return [member.name for member in self.members]

    @property
    def families(self) -> list[str | None]:
        """The models' families, length M. None = unknown."""
        return [member.family for member in self.members]

    @property
    def sizes(self) -> FloatArray:
        """Billions of parameters, shape (M,). NaN = unknown."""
        return np.array([math.nan if member.size_b is None else member.size_b for member in self.members])

    @property
    def has_order(self) -> bool:
        """Whether some family has two different known sizes; stability is undefined without one."""
        sizes: dict[str, set[float]] = {}
        for member in self.members:
            if member.family is not None and member.size_b is not None:
                sizes.setdefault(member.family, set()).add(member.size_b)
        return any(len(known) > 1 for known in sizes.values())

    def to_toml(self) -> str:
        """Write the crowd as TOML for a person to check and edit.

        Returns:
            Text that `from_file` reads back to the same names, families and sizes, whatever characters
            the names hold. Comments say what was inferred and what is missing.

        Raises:
            InputError: A name or family holds half a surrogate pair, which UTF-8 cannot encode.

        Example:
            >>> print(Crowd.from_names(["sim-oak-7b"]).to_toml())
            # Family and size (billions of parameters) of each model. Models of one family are compared by size;
            # a model without family or size_b takes no part in stability.
            <BLANKLINE>
            [[model]]
            name = "sim-oak-7b"
            # read off the name: please check
            family = "sim-oak"
            size_b = 7
            <BLANKLINE>
        """
        head = (
            "# Family and size (billions of parameters) of each model. Models of one family are compared by size;\n"
            "# a model without family or size_b takes no part in stability.\n"
        )
        students = (f"[[student]]\nname = {_quoted(name)}\n" for name in self.students)
        return "\n".join([head, *(_toml_table(member) for member in self.members), *students])


def students_in(models: Iterable[str], *, marked: Collection[str], crowd: Crowd | None) -> tuple[str, ...]:
    """Find the students among a pool's models: they may learn from the crowd and are no part of it.

    Args:
        models: The pool's models.
        marked: Those of them that the pool itself marks; see `crowdselect.pool.pool.Pool.students`.
        crowd: From a crowd file, which may name students; None = there is none.

    Returns:
        Of the models those that are marked, or that the crowd file names as students, in the given order.

    Example:
        >>> students_in(["a-7b", "b-7b", "tiny"], marked=["tiny"], crowd=None)
        ('tiny',)
    """
    named: Collection[str] = () if crowd is None else crowd.students
    aliases: Mapping[str, str] = {} if crowd is None else crowd.aliases
    return tuple(name for name in models if name in marked or aliases.get(name, name) in named)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{str(file)!r}: no such crowd file") from None
    except OSError as error:
        raise InputError(f"{str(file)!r}: the crowd file cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(file)!r}: {not_utf8(error)}") from error


_Entries = list[tuple[str, str, Mapping[str, Any]]]
"""`"model"` or `"student"`, the name, and the keys of each."""


def _toml_entries(text: str, path: str) -> _Entries:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path!r}: broken TOML: {' '.join(str(error).split())}") from error
    check_document(document, where=repr(path))
    defaults = document.get("defaults")
    usual = {key: defaults[key] for key in PRICES if key in defaults} if isinstance(defaults, dict) else {}
    entries: _Entries = []
    for kind in ("model", "student"):
        tables = document.get(kind, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise InputError(
                f"{path!r}: {kind!r} is not a list of tables; write each {kind} under its own [[{kind}]]"
            )
        for number, table in enumerate(tables, start=1):
            name = table.get("name")
            if not isinstance(name, str) or not name.strip():
                raise InputError(
                    f"{path!r}: [[{kind}]] number {number} needs a name as text, got {_short(name)}"
                )
            entries.append((kind, name, usual | table))
    return entries


def _json_entries(text: str, path: str) -> _Entries:
    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise InputError(f"{path!r}: {key!r} appears twice; keep one")
            seen[key] = value
        return seen

    try:
        document = json.loads(text, object_pairs_hook=without_repeats)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path!r}: broken JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error
    if not isinstance(document, dict):
        raise InputError(
            f'{path!r}: wanted {{name: {{"family": ..., "size_b": ...}}}}, got {_short(document)}'
        )
    for name, entry in document.items():
        if not isinstance(entry, dict):
            raise InputError(
                f"{path!r}: model {name!r}: wanted an object with family and size_b, got {_short(entry)}"
            )
        check_keys(entry, KEYS, where=f"{path!r}: model {name!r}")
    return [("model", name, entry) for name, entry in document.items()]


def _named(name: str) -> Member:
    """Build a member from its name alone."""
    family, size_b = read_name(name)
    known = family is not None or size_b is not None
    return Member(name, family, size_b, "name" if known else "unknown")


def _member(name: str, entry: Mapping[str, Any], *, where: str) -> Member:
    """Build a member from its entry in the file, reading what is missing off the name."""
    read = _named(name)
    family = _family(entry["family"], where) if "family" in entry else read.family
    size_b = _size(entry["size_b"], where) if "size_b" in entry else read.size_b
    try:
        (name + (family or "")).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{where}: its name or family holds half a surrogate pair, which UTF-8 cannot encode; rename it"
        ) from None
    inferred = [
        value for key, value in (("family", read.family), ("size_b", read.size_b)) if key not in entry
    ]
    if any(value is not None for value in inferred):
        return Member(name, family, size_b, "name")
    return Member(name, family, size_b, "unknown" if len(inferred) == 2 else "file")


def _family(value: object, where: str) -> str | None:
    if value is None or value == UNKNOWN:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: family must be text, got {_short(value)}; {_LEFT_OUT}")
    return value


def _size(value: object, where: str) -> float | None:
    if value is None or value == UNKNOWN:
        return None
    wanted = f"{where}: size_b must be a positive number (billions of parameters), got {_short(value)}; {_LEFT_OUT}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(wanted)
    try:
        size = float(value)
    except OverflowError:
        raise InputError(wanted) from None
    if not (math.isfinite(size) and size > 0):
        raise InputError(wanted)
    return size


def _aliases(entries: Sequence[tuple[str, Mapping[str, Any]]], *, where: str) -> dict[str, str]:
    """The other names that a file gives to models, each with the model's name."""
    names = {name for name, _ in entries}
    found: dict[str, str] = {}
    for name, entry in entries:
        listed = entry.get(ALIASES, [])
        if not isinstance(listed, list) or not all(isinstance(alias, str) and alias for alias in listed):
            raise InputError(
                f"{where}: model {name!r}: aliases must be a list of names, got {_short(listed)}"
            )
        for alias in listed:
            if alias in names or found.get(alias, name) != name:
                raise InputError(
                    f"{where}: model {name!r}: the alias {alias!r} is another model's too; keep one"
                )
            found[alias] = name
    return found


def _prices(
    entries: Sequence[tuple[str, Mapping[str, Any]]], *, where: str
) -> dict[str, tuple[float, float]]:
    """The prices of the models that have both; a model that runs in this process costs nothing unless they are given."""
    found: dict[str, tuple[float, float]] = {}
    for name, entry in entries:
        free = 0.0 if entry.get("local") is not None else None
        price_in, price_out = (
            _price(entry.get(key, free), key, f"{where}: model {name!r}") for key in PRICES
        )
        if price_in is not None and price_out is not None:
            found[name] = (price_in, price_out)
    return found


def _price(value: object, key: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _DEAREST:
        raise InputError(
            f"{where}: {key} must be a number of at least 0 (money per million tokens), got {_short(value)}"
        )
    return float(value)


def _distinct(members: list[Member], *, origin: str) -> tuple[Member, ...]:
    if not members:
        raise InputError(f"{origin}: there is no model; a crowd needs at least one")
    seen: set[str] = set()
    for member in members:
        if member.name in seen:
            raise InputError(f"{origin}: model {member.name!r} appears twice; keep one")
        seen.add(member.name)
    return tuple(members)


def _toml_table(member: Member) -> str:
    lines = ["[[model]]", f"name = {_quoted(member.name)}"]
    if member.source == "name":
        lines.append("# read off the name: please check")
    if member.family is not None:
        lines.append(f"family = {_quoted(member.family)}")
    if member.size_b is not None:
        whole = member.size_b.is_integer() and member.size_b < 2**53
        lines.append(f"size_b = {int(member.size_b) if whole else repr(member.size_b)}")
    read = _named(member.name)
    unknown = []
    for key, value, stated in (
        ("family", member.family, read.family),
        ("size_b", member.size_b, read.size_b),
    ):
        if value is None and stated is not None:  # left out, it would be read off the name
            lines.append(f'{key} = "{UNKNOWN}"')
        elif value is None:
            unknown.append(key)
    if unknown:
        lines.append(f"# unknown, add if you know: {', '.join(unknown)}")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """Write a TOML basic string, with unprintable characters as escapes."""
    out = []
    for character in text:
        code = ord(character)
        if 0xD800 <= code < 0xE000:
            raise InputError(
                f"{text!r}: a name with half a surrogate pair cannot be encoded in UTF-8; rename it"
            )
        if character in '"\\':
            out.append("\\" + character)
        elif character.isprintable():
            out.append(character)
        else:
            out.append(f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}")
    return '"' + "".join(out) + '"'


def _short(value: object) -> str:
    try:
        shown = repr(value)
    except ValueError:  # Python does not print integers of thousands of digits
        shown = "a very long integer"
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more


def _count(some: Sequence[str], total: int, what: str) -> str:
    return f"{len(some)} of {total} {what} {'is' if len(some) == 1 else 'are'}"
