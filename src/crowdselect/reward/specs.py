"""How scorers are named (`hf:`, `http:`, `judge:`, `verify:`, `python:`, `import:`), and the column each makes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from crowdselect.errors import OptionError, near_miss
from crowdselect.pool.layouts import NOT_REWARDS
from crowdselect.verify.verifiers import VERIFIERS

KINDS = ("hf", "http", "judge", "verify", "python", "import")
COLUMNS = ("id", "model", "sample", "truncated", "reason")
"""The columns of a rewards file that are not scores."""
ENDPOINTS = ("classify", "pooling", "score", "predict")
"""Last parts of a URL that name an API rather than a server."""

_VERIFY = f"verify:{'|'.join(VERIFIERS)}#COLUMN"
_FORMS = (
    f"hf:NAME_OR_PATH[@REVISION][#OUTPUT], http:URL[#MODEL], judge:crowd.toml#NAME, {_VERIFY}, "
    "python:MODULE_OR_FILE:FUNCTION or import:FILE[#COLUMN]"
)


@dataclass(frozen=True, slots=True)
class Spec:
    """One scorer, as the user names it.

    Attributes:
        text: As the user wrote it.
        kind: One of `KINDS`.
        target: A model, a URL, a file, a verifier, or `MODULE:FUNCTION` (or `FILE.py:FUNCTION`).
        revision: Revision of a model on a hub.
        part: The output of a model, the name of a judge, the served model, the column of a file, or the pool's column
            of right answers.
        column: The column of scores it makes; None = those of the imported file.
    """

    text: str
    kind: str
    target: str
    revision: str | None = None
    part: str | None = None
    column: str | None = None


def parse_spec(text: str, *, name: str | None = None) -> Spec:
    """Parse a scorer's name.

    Args:
        text: See `KINDS`.
        name: The column to make; None = the last part of the scorer's path, or the verifier.

    Raises:
        OptionError: It is not in any of the forms.

    Example:
        >>> parse_spec("hf:Skywork/Skywork-Reward-Llama-3.1-8B").column
        'Skywork-Reward-Llama-3.1-8B'
        >>> parse_spec("http://localhost:8000/classify#org/model").column
        'model'
        >>> parse_spec("verify:math#answer").part, parse_spec("python:rewards/mine.py:length").column
        ('answer', 'length')
    """
    kind, colon, target = text.partition(":")
    if kind in {"http", "https"} and target.startswith("//"):
        kind, target = "http", text
    if not colon or kind not in KINDS or not target:
        raise OptionError(f"`with` {text!r}: not a scorer; wanted {_FORMS}")
    spec = _READERS[kind](text, target)
    return spec if name is None else Spec(text, spec.kind, spec.target, spec.revision, spec.part, name)


def parse_specs(texts: Sequence[str], names: Sequence[str]) -> list[Spec]:
    """Parse scorers' names, with the names of their columns.

    Args:
        texts: At least one.
        names: As many, or none.

    Raises:
        OptionError: There is none, or the numbers of the two differ.

    Example:
        >>> [spec.column for spec in parse_specs(["python:mine:length", "hf:a/b"], ["first", "second"])]
        ['first', 'second']
    """
    if not texts:
        raise OptionError(f"say what to score with: `with` {_FORMS}")
    if names and len(names) != len(texts):
        raise OptionError(
            f"{len(names)} `name` for {len(texts)} `with`; give one for each, in the same order, or none"
        )
    chosen: Sequence[str | None] = names or [None] * len(texts)
    return [parse_spec(text, name=name) for text, name in zip(texts, chosen, strict=True)]


def check_columns(columns: Sequence[str], *, pool_path: str, pool_columns: Sequence[str]) -> None:
    """Refuse column names that clash.

    Args:
        columns: The score columns to make.
        pool_path: The pool's path, for the message.
        pool_columns: The reward columns of the pool that the result will be joined to.

    Raises:
        OptionError: Two differ only in case, or one is taken.

    Example:
        >>> check_columns(["a", "b"], pool_path="pool.parquet", pool_columns=["score"])
    """
    seen = {name.casefold(): "never read as a reward" for name in NOT_REWARDS}
    seen |= {name.casefold(): "a column of every rewards file" for name in COLUMNS}
    seen |= {name.casefold(): f"a reward of {pool_path} already" for name in pool_columns}
    for name in columns:
        if not name.strip() or not name.isprintable():
            raise OptionError(f"`name` {name!r}: a column needs a name of printable characters")
        if name.casefold() in seen:
            raise OptionError(f"column {name!r} is {seen[name.casefold()]}; choose another with `name`")
        seen[name.casefold()] = "made by two of the scorers"


def _model(text: str, target: str) -> Spec:
    """Parse `hf:`; an existing path is taken whole, so that it may contain `@` and `#`."""
    if os.path.lexists(target):
        return Spec(text, "hf", target, column=_last(target))
    place, _, part = target.partition("#")
    if os.path.lexists(place):
        return Spec(text, "hf", place, None, part or None, _last(place))
    name, _, revision = place.partition("@")
    return Spec(text, "hf", name, revision or None, part or None, _last(name))


def _served(text: str, target: str) -> Spec:
    url, _, model = target.partition("#")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise OptionError(
            f"`with` {text!r}: not the URL of a server; wanted http://HOST[:PORT][/classify|/pooling|/score|/predict], "
            "without user information and query"
        )
    last = _last(parts.path)
    host = parts.netloc.replace(":", "-")
    return Spec(
        text,
        "http",
        url.rstrip("/"),
        None,
        model or None,
        _last(model) or (host if last in {"", *ENDPOINTS} else last),
    )


def _judge(text: str, target: str) -> Spec:
    file, _, name = target.rpartition("#")
    if not file or not name:
        raise OptionError(
            f"`with` {text!r}: wanted judge:FILE#NAME, the name of a [[judge]] table in that file"
        )
    return Spec(text, "judge", file, None, name, _last(name))


def _verifier(text: str, target: str) -> Spec:
    name, _, column = target.partition("#")
    if name not in VERIFIERS or not column:
        hint = near_miss(name, VERIFIERS) if name not in VERIFIERS else ""
        raise OptionError(
            f"`with` {text!r}: wanted {_VERIFY}, COLUMN being the pool's column of right answers{hint}"
        )
    return Spec(text, "verify", name, None, column, name)


def _function(text: str, target: str) -> Spec:
    module, _, function = target.rpartition(":")
    names = [function] if module.endswith(".py") else [*module.split("."), function]
    if not module or not all(name.isidentifier() for name in names):
        raise OptionError(
            f"`with` {text!r}: wanted python:MODULE:FUNCTION, two names of Python, or python:FILE.py:FUNCTION"
        )
    return Spec(text, "python", target, column=function)


def _file(text: str, target: str) -> Spec:
    if os.path.lexists(target) or "#" not in target:
        return Spec(text, "import", target)
    file, _, column = target.rpartition("#")
    return Spec(text, "import", file, None, column, column)


def _last(path: str) -> str:
    """Return the last part of a path or a name; for `.` and the like the folder's name."""
    if path in {"", "/"}:
        return ""
    return path.rstrip("/").rsplit("/", 1)[-1] if path.strip("./") else Path(path).resolve().name


_READERS = {
    "hf": _model,
    "http": _served,
    "judge": _judge,
    "verify": _verifier,
    "python": _function,
    "import": _file,
}
