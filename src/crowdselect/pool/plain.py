"""Files of any form, rewritten once into one plain form: a row per answer, in Parquet, in the cache folder.

A rewritten pool is an ordinary `long` pool: id, instruction or messages (JSON), tools, model, sample, response,
finish_reason, and every other scalar as text. What cannot be chosen stays, with the reason in a column of its own.
It is found again by the content of the files and by how they are read; a part is made of each file, a batch at a time.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from crowdselect import __version__
from crowdselect.cache import folder, keep_newest
from crowdselect.errors import InputError, LayoutError
from crowdselect.finish import spoken
from crowdselect.malformed import left_out_rows, malformed_rows
from crowdselect.pool.answerkeys import scores_beside, stray_file
from crowdselect.pool.batchservice import Requests, asked_in, is_batch
from crowdselect.pool.battles import fit_battles, unread_answers
from crowdselect.pool.columns import Kind
from crowdselect.pool.content import (
    Asked,
    Counted,
    NotTextError,
    Repairs,
    Said,
    TurnsError,
    prompt_of,
    said,
    spelt_parts,
    turns_of,
    with_reasoning,
    written,
)
from crowdselect.pool.files import FoundFiles, fingerprint
from crowdselect.pool.forms import fitted, no_instruction, textless
from crowdselect.pool.goldanswers import GoldAnswer
from crowdselect.pool.howread import LISTS, PARTS, HowRead
from crowdselect.pool.inner import (
    chat_inside,
    list_on_the_way,
    parts_inside,
    path_to,
    ratings_inside,
    value_at,
    within,
)
from crowdselect.pool.inspectlogs import READ_AS
from crowdselect.pool.layouts import FEWEST_COUNTED
from crowdselect.pool.listscores import wants_letters, wants_mean
from crowdselect.pool.lmeval import Log, columns_in, rows_in
from crowdselect.pool.mergedcells import merged_cells
from crowdselect.pool.modelcolumns import is_named_as, is_score
from crowdselect.pool.parts import Names, may_be_nested, names_of
from crowdselect.pool.pathmodels import named_in
from crowdselect.pool.rendered import DECODED, NEARLY_ALL, decoded
from crowdselect.pool.rowfiles import (
    Broken,
    Row,
    Seen,
    columns_of,
    is_index,
    number_of,
    rows_of,
    said_of_document,
)
from crowdselect.pool.rowforms import Answer, Fitted, MalformedError, is_number
from crowdselect.pool.textscores import REWARD, wants_number, written_scores
from crowdselect.pool.wideforms import unlisted
from crowdselect.terminal import counted

LEFT_OUT = "_left_out"
"""The column with the reason why an instruction cannot be chosen: a code, perhaps with words after a colon."""
NOT_TEXT = "_not_text"
"""The column that is true where an answer is something other than text."""
NEEDS = "_needs"
"""The column of what an export has to hold: `turns` that do not alternate, `tools`."""
ROW = "_row"
"""The column of the row's number in the user's file."""
OWN = (LEFT_OUT, NOT_TEXT, NEEDS, ROW)

_FACTS = "facts.json"
_VERSION = 12  # of what is written here: another one is written anew
_KEPT = 20  # rewritten pools that stay in the cache folder
_BATCH = 2000
_TEXTS = ("id", "instruction", "messages", "tools", "model", "response", "finish_reason", LEFT_OUT, NEEDS)
_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Plain:
    """A rewritten pool."""

    files: tuple[Path, ...]
    facts: Mapping[str, Any]
    """`form`, `notes`, `rows`, `numbers` (columns of numbers), `unused` (columns that hold nothing), `sources`, `evaluations`."""


def facts_of(file: Path) -> dict[str, Any] | None:
    """The facts of the rewritten pool that a file is a part of; None where it is of none."""
    place = file.parent / _FACTS
    if file.parent.parent != folder() / "plain" or not place.exists():
        return None
    found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return found


def rewritten(found: FoundFiles, how: HowRead, *, answers: bool = True) -> Plain:
    """Rewrite a pool, unless that was done before.

    Args:
        found: Its files.
        how: How they are read.
        answers: Whether there have to be answers; instructions to ask have none.

    Returns:
        Its parts.

    Raises:
        LayoutError: The columns fit no form.
        InputError: A row is malformed, and `skip_invalid` is not set; the message counts them all.
    """
    home = folder() / "plain" / _key(found, how, answers=answers)
    if not (home / _FACTS).exists():
        beside = home.with_name(f".{uuid4().hex}.tmp")
        beside.mkdir(parents=True)
        try:
            facts = _Rewriting(found, how, answers=answers).into(beside)
            (beside / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
            if not home.exists():
                beside.rename(home)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        keep_newest(home.parent, _KEPT)
    facts = json.loads((home / _FACTS).read_text(encoding="utf-8"))
    facts["sources"] = [
        str(file.absolute()) for file in found.files
    ]  # the same content may lie elsewhere now
    return Plain(tuple(home / name for name in facts["parts"]), facts)


def _key(found: FoundFiles, how: HowRead, *, answers: bool) -> str:
    times = [file.stat().st_mtime_ns for file in found.files]  # the fingerprint reads both ends only
    read = {
        name: value
        for name, value in how.as_dict().items()
        if name not in {"missing", "reasoning", "aliases"}
    }
    logged = [(log.model, log.task, sorted(log.lower_better), log.split) for log in found.logs]
    what = [fingerprint(found.files), times, read, found.models, found.kind, logged, answers]
    said_ = json.dumps([__version__, _VERSION, *what])
    names = [file.name for file in found.files]  # in messages and ids of rows without one
    return hashlib.sha256(f"{said_}{names}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


class _Rewriting:
    """Rewrites the files of one pool."""

    def __init__(
        self,
        found: FoundFiles,
        how: HowRead,
        *,
        answers: bool,
        numeric: frozenset[str] = frozenset(),
        decoded: bool = False,
    ) -> None:
        self._found = found
        self._how = how
        self._answers = answers
        self._numeric = numeric
        self._decoded = decoded
        self._columns = self._found_columns()
        if not self._columns:
            raise self._without_objects()
        self._counters: list[str] = []
        self._index = [name for name in self._columns if is_index(name)]
        for name in self._index:
            del self._columns[name]
        self._requests: Requests | None = None
        if is_batch(self._columns):
            self._how = how = replace(how, columns=asked_in(self._columns) | how.named)
            if found.kind == "json" and "body" in self._columns:
                self._requests = Requests(found.files)
        if "reward" in how.named:
            reward = list_on_the_way(self._columns, how.named["reward"])
            self._how = how = replace(how, columns=how.named | {"reward": reward})
        inside = {name: path_to(self._columns, name) for name in how.named.values()}
        self._paths = {name: at[0] for name, at in inside.items() if at is not None and len(at[0]) > 1}
        self._columns |= {name: at[1] for name, at in inside.items() if at is not None}
        self._bare = self._bare_question() if found.kind == "lm-eval" else None
        self._told = found.models if "model" not in self._columns else ()
        if self._told:
            self._columns = {**self._columns, "model": Kind("text")}
        self._form, self._names = self._understood(answers=answers)
        self._carried = self._carriable()
        taken = self._form.taken if self._form else frozenset[str]()
        inner = {n: path for n, path in within(self._columns).items() if path[0] not in taken}
        self._inner = {n: path for n, path in inner.items() if n not in self._columns}
        self._hidden = {n: path for n, path in inner.items() if n in self._columns and n not in self._paths}
        self._repairs = Repairs()
        self._seen: dict[str, Seen] = {}
        self._used: set[str] = set()
        self._counts = Counted()
        self._spelt: dict[str, str] = {}
        """Of the file that is read: the number that an id is → as it is written there."""
        self._bad: list[str] = []
        self._rows = self._unasked = 0
        self._texts = self._rendered = 0
        """Rows that ask with a text, and those of them whose text may be a rendered prompt."""

    def _without_objects(self) -> InputError:
        for file in self._found.files:
            for at, row in rows_of(file, self._found.kind):
                if isinstance(row, Broken):
                    return InputError(
                        f"{file}: row {at} {row.what}; wanted objects with names (pandas: orient='records')"
                    )
        return InputError(
            f"{self._found.path}: the file is empty (no JSON object); wanted one object per line"
        )

    def into(self, home: Path) -> dict[str, Any]:
        """Write a part of each file into a folder, and give the facts."""
        parts = []
        strays: list[tuple[Path, str, int]] = []
        for number, file in enumerate(self._found.files):
            parts.append(f"part-{number:05d}.parquet")
            bad, rows = len(self._bad), self._rows
            self._write(home / parts[-1], self._plain_rows(number, file))
            if self._is_stray(bad, rows):
                strays.append((file, self._bad[bad], self._rows - rows))
        slips = self._rewards_with_slips() if self._how.skip_invalid else frozenset()
        split = self._decoded or 0 < NEARLY_ALL * self._texts <= self._rendered
        if slips - self._numeric or split != self._decoded:
            again = _Rewriting(self._found, self._how, answers=self._answers, numeric=slips, decoded=split)
            return again.into(home)
        if self._form is not None and self._form.name == "long" and (self._bad or self._unasked):
            merged = merged_cells(self._found.files, self._found.kind, self._names)
            if merged is not None:
                raise merged
            files, path = self._found.files, self._found.path
            scores = scores_beside(files, self._found.kind, self._names, self._how.named, path=path)
            if scores is not None:
                raise scores
        if 0 < len(strays) < len(self._found.files) and not self._how.skip_invalid:
            others = [file for file in self._found.files if file not in {stray for stray, _, _ in strays}]
            raise stray_file(*strays[0], others)
        if self._bad and not self._how.skip_invalid:
            raise malformed_rows(self._bad, self._rows)
        if not self._rows:
            raise InputError(f"{self._found.path}: the file holds no rows; wanted at least one instruction")
        self._refuse_named()
        numbers = {name: seen.kind().name for name, seen in self._seen.items()}
        every = (
            "instruction",
            "messages",
            "tools",
            "sample",
            "response",
            "finish_reason",
            LEFT_OUT,
            NOT_TEXT,
            NEEDS,
        )
        return {
            "parts": parts,
            "sources": [str(file) for file in self._found.files],
            "form": "instructions" if self._form is None else self._form.name,
            "id_made": self._names.id is None,
            "read_as": self._read_as(),
            "evaluations": self._evaluations(),
            "many": self._form is not None and self._form.many,
            "side_by_side": 1 if self._form is None else self._form.side_by_side,
            "fields": list(map(_own_name, self._form.fields if self._form is not None else ())),
            "notes": self._notes(),
            "rows": self._rows,
            "malformed": len(self._bad),
            "numbers": {name: kind for name, kind in numbers.items() if kind in {"number", "bool"}},
            "unused": [name for name in every if name not in self._used],
        }

    def _found_columns(self) -> dict[str, Kind]:
        if self._found.kind != "lm-eval":
            return dict(columns_of(self._found.files, self._found.kind, nested=self._may_be_nested))
        return columns_in(self._found.logs, chosen=self._how.filter, path=self._found.path)

    def _bare_question(self) -> str | None:
        """What holds the question without solved examples, unless it is named; what a log holds of a document is else no column."""
        inside = parts_inside({"doc": self._columns.pop("doc", Kind("text"))})
        if {"instruction", "messages"}.isdisjoint(self._how.named):
            return inside.get("instruction")
        sent = {"instruction", "messages"} - set(self._how.named.values())
        self._columns = {name: kind for name, kind in self._columns.items() if name not in sent}
        return None

    def _may_be_nested(self, name: str) -> bool:
        """Whether texts of a column may be lists or objects: by its name, or by what it, or something inside it, is named as."""
        lists = {named for what, named in self._how.named.items() if what in LISTS or what not in PARTS}
        inside = any(named.startswith(f"{name}.") for named in self._how.named.values())
        return may_be_nested(name) or inside or name in lists

    def _logged(self, log: Log) -> Iterator[tuple[int, Row | Broken]]:
        """The rows of a log of lm-evaluation-harness."""
        return rows_in(log, chosen=self._how.filter, path=self._found.path)

    def _read(self, number: int, wanted: list[str]) -> Iterator[tuple[int, Row | Broken]]:
        """The rows of a file, with their numbers."""
        file, outer = self._found.files[number], [path[0] for path in self._paths.values()]
        if self._found.kind == "lm-eval":
            rows = self._logged(self._found.logs[number])
        else:
            rows = rows_of(file, self._found.kind, [*wanted, *outer], nested=self._may_be_nested)
            rows = rows if self._requests is None else self._requests.joined(rows)
        for at, row in rows:
            if not isinstance(row, Broken):
                row |= {name: value_at(row, path) for name, path in self._paths.items()}
            yield at, row

    @property
    def _numbered(self) -> bool:
        """Whether the rows have nothing but numbers, so that their place is their id."""
        return (
            self._form is not None
            and self._form.name == "matrix"
            and not self._names.asked
            and not self._names.id
        )

    def _understood(self, *, answers: bool) -> tuple[Fitted | None, Names]:
        found, how, columns = self._found, self._how, self._columns
        gold = GoldAnswer(columns, self._by_model)
        names = names_of(columns, how, path=found.path, why_gold=gold, tells_apart=self._tells_apart)
        if not answers:
            if not names.asked and "turns" not in columns:
                raise LayoutError(
                    f"{found.path}: nothing to ask: found the columns {', '.join(columns)}; wanted instruction, messages or "
                    "turns; name the column with `columns='instruction=COLUMN'`"
                )
            return None, names
        gold.refuse_doubt(names, found.path)
        try:
            form = fitted(columns, names, how, path=found.path, named_in=named_in(found.files))
        except LayoutError:
            self._refuse_text_scores(names.taken, every=True)
            raise
        if form.many or form.side_by_side > 1:
            slips = {name for name, kind in columns.items() if kind.slips}
            others = {n for n in columns if is_score(n) and not is_named_as(n, form.taken - {n})}
            others = others if form.name in {"matrix", "column pairs"} else set()
            self._refuse_text_scores(names.taken | (form.taken - slips) | others, every=False)
        if form.name == "matrix":
            numbers = {name for name, kind in columns.items() if kind.name == "number"}
            self._counters = self._counting(form.taken | (numbers - names.taken))
            self._columns = columns = {n: kind for n, kind in columns.items() if n not in self._counters}
            form = fitted(columns, names, how, path=found.path)
        text = textless(form, columns)
        if text is not None:
            raise no_instruction(found.path, text)
        return form, form.names

    def _refuse_text_scores(self, taken: Collection[str], *, every: bool) -> None:
        """Stop where scores are texts, as with decimal commas, or 8/10.

        Raises:
            LayoutError: A column that is no part of a row holds such scores; see `written_scores`.
        """
        texts = [name for name, kind in self._columns.items() if kind.name == "text" and name not in taken]
        for file in self._found.files if self._found.kind != "lm-eval" else ():
            found = written_scores(file, self._found.kind, texts, every=every)
            if found is not None:
                columns, at, value = found
                wanted = wants_number(value, columns, str(file))
                raise LayoutError(
                    f"{file}: row {at}: {columns[0]} is {value!r}; {wanted or 'wanted numbers, and an empty cell where there is none'}"
                )

    def _carriable(self) -> dict[str, str]:
        """The columns that go over as they are, scalars and lists of scalars, and what each is called then."""
        taken = self._names.taken | (self._form.taken if self._form else frozenset())
        scalar = {"text", "number", "bool"}
        found = [
            name
            for name, kind in self._columns.items()
            if name not in taken
            and name.casefold() != "id"  # of the file, where the id is made of the text
            and (
                kind.name in scalar
                or (kind.name == "list" and kind.item is not None and kind.item.name in scalar)
            )
        ]
        named = {name: what for what, name in self._how.named.items() if name in found}
        return {name: named.get(name, name) for name in found if name in named or name not in named.values()}

    def _rewards_with_slips(self) -> frozenset[str]:
        """The columns that are named as rewards and hold mostly numbers, and a text in some row."""
        found = set(self._numeric)
        named = {what for what in self._how.named if what not in PARTS}
        found.update(n for n, seen in self._seen.items() if (REWARD.search(n) or n in named) and seen.slips)
        return frozenset(found)

    def _refuse_named(self) -> None:
        """Stop where `columns` names a reward that holds something other than numbers.

        Raises:
            InputError: The place and the value.
        """
        taken = self._form.taken if self._form else frozenset[str]()
        named = {
            name: what for what, name in self._how.named.items() if what not in PARTS and name not in taken
        }
        odd = [
            name
            for name, what in named.items()
            if self._columns[name].name
            in {"list", "struct"}  # a column of its own may be called as it is to be
            or what not in self._seen
            or not is_number(self._seen[what].kind())
        ]
        for number in range(len(self._found.files) if odd else 0):
            for at, row in self._read(number, [*self._wanted, *odd]):
                values = {} if isinstance(row, Broken) else {name: row.get(name) for name in odd}
                for name, value in values.items():
                    if not _is_number(value):
                        raise InputError(
                            f"{self._found.files[number]}: row {at}: {name} is "
                            f"{self._wants(number, name, value, named[name])}"
                        )
        if odd:
            raise InputError(
                f"{self._found.path}: {odd[0]} holds no number; `columns` names it as the reward {named[odd[0]]!r}"
            )

    def _wants(self, number: int, name: str, value: object, called: str) -> str:
        """Say what a column that is named as a reward should hold instead of a value, and what leads there."""
        path, kind = str(self._found.files[number]), self._columns[name]
        steps, taken = self._paths.get(name, (name,)), called in self._columns
        if isinstance(value, list):
            lists = (each for each in self._values(number, name) if isinstance(each, list))
            column = f"{called}_mean" if taken else called
            return wants_mean(path, steps, kind, column=column, lists=lists)
        texts = (each for at in range(len(self._found.files)) for each in self._values(at, name))
        column = f"{called}_number" if taken else called
        letters = wants_letters([*map(str, self._found.files)], steps, texts, column=column)
        wanted = letters or (wants_number(str(value), [name], path) if name not in self._paths else None)
        told = f"{str(value)[:60]!r}, not a number; `columns` names it as the reward {called!r}"
        return told if wanted is None else f"{told}; {wanted}"

    def _values(self, number: int, name: str) -> Iterator[Any]:
        """The values of a column in a file."""
        rows = self._read(number, [*self._wanted, name])
        return (row.get(name) for _, row in rows if not isinstance(row, Broken))

    def _read_as(self) -> str:
        read = "instructions" if self._form is None else f"{self._form.name}: {self._form.says}"
        if self._found.kind == "lm-eval":
            read = "lm-evaluation-harness: the newest logged samples of each model and task"
            if {"instruction", "messages"}.isdisjoint(self._how.named):
                read += (
                    "; a prompt is all that the model was sent, with the solved examples of a few-shot task"
                )
            if self._bare is not None:
                read += f" (the question alone: `columns='instruction={self._bare}'`)"
        if self._found.runs:
            read = READ_AS
        if self._requests is not None and self._requests.count:
            read += f", joined with {self._requests.count} requests by custom_id"
            read += " (as the id: `columns='id=custom_id'`)" if self._names.id is None else ""
        if self._decoded:
            rows = counted(self._rendered, "row")
            read += f"; the prompts of {rows} are read as the messages that a chat template was applied to ({DECODED})"
        return "; ".join((read, *self._names.notes))

    def _evaluations(self) -> list[str]:
        """The benchmarks whose questions the rows are, where the form says so."""
        if self._found.kind == "lm-eval":
            return sorted({log.task for log in self._found.logs if log.is_test})
        if self._found.runs:
            return sorted({run.task for run in self._found.runs})
        return ["RouterBench"] if self._form is not None and self._form.name == "routerbench" else []

    def _notes(self) -> list[str]:
        names, counts = self._names, self._counts.of
        notes = [*self._found.notes, *([self._found.models_from] if self._told else [])]
        documents = self._found.files if self._found.kind == "json" else ()
        notes += dict.fromkeys(said for file in documents if (said := said_of_document(file)) is not None)
        notes += self._requests.notes if self._requests is not None else []
        unread = unread_answers(self._columns, names)
        if unread:
            both = fit_battles(self._columns, names, HowRead()) is not None
            notes.append(
                f"not read: {', '.join(unread)}, since `columns` names {names.response or names.model}"
                + ("; without model and response in it the answers of both models are read" if both else "")
            )
        ratings = ratings_inside(self._columns) if names.response in self._paths else None
        if ratings is not None and set(self._how.named) <= set(PARTS):
            notes.append(
                f"{ratings} holds ratings in lists, which are no rewards as they stand; `columns='reward={ratings}'` says what "
                "makes numbers of them"
            )
        chat = chat_inside(self._columns) if names.asked else None
        if chat is not None and chat not in {*names.taken, *self._paths}:
            notes.append(
                f"{chat} holds conversations that end with what a user says, and is not read; if these are the prompts, name it "
                f"with `columns='instruction={chat}'`"
            )
        if self._counters:
            notes.append(f"left out, a number of the row: {', '.join(self._counters)}")
        notes += [
            f"not read: {path[1]} inside the object {path[0]}, since a column is called {name}; rename one to read both"
            for name, path in self._hidden.items()
        ]
        if self._numbered:
            notes.append("there is no id: the rows are numbered from 1, in the order of the files")
        if self._index:
            notes.append(
                f"left out, an index that pandas wrote: {', '.join(n or '(no name)' for n in self._index)}"
            )
        if names.input is not None and names.input in self._used:
            notes.append("the prompt is the instruction, and on a new line the input")
        if self._repairs.texts:
            notes.append(
                f"{self._repairs.texts} texts held half a surrogate pair or a control character, now U+FFFD"
            )
        notes += [f"{count} {words}" for words, count in counts.items()]
        if self._bad:
            notes.append(left_out_rows(self._bad, self._rows))
        return notes

    def _counting(self, names: frozenset[str]) -> list[str]:
        """The columns of a matrix that count its rows, from 0 or 1: they are no models."""
        counting, count = {(name, first) for name in names for first in (0, 1)}, 0
        for file in self._found.files:
            for _, row in rows_of(file, self._found.kind, list(names)):
                if not counting:
                    return []
                if not isinstance(row, Broken):
                    counting = {
                        (name, first)
                        for name, first in counting
                        if str(row.get(name)) in {str(first + count), f"{first + count}.0"}
                    }
                    count += 1
        counters = {name for name, _ in counting}
        return sorted(counters) if count >= FEWEST_COUNTED and counters < names else []

    def _by_model(self, columns: Sequence[str], model: str | None) -> Iterator[tuple[str, Row]]:
        """Some columns of every row, each with the model that the file is of, or that a column names."""
        for number in range(len(self._found.files)):
            for _, row in self._read(number, [*columns, *([model] if model else [])]):
                if not isinstance(row, Broken):
                    yield str(self._told[number] if self._told else row.get(model or "")), row

    def _tells_apart(self, key: str, column: str) -> bool:
        """Whether some rows share a key, and none of these the value of a column."""
        known: dict[str, set[str]] = {}
        for number in range(len(self._found.files)):
            for _, row in self._read(number, [key, column]):
                if isinstance(row, Broken) or row.get(key) is None:
                    continue
                values, value = known.setdefault(str(row[key]), set()), str(row.get(column))
                if value in values:
                    return False
                values.add(value)
        return any(len(values) > 1 for values in known.values())

    # From rows to plain rows

    @cached_property
    def _wanted(self) -> list[str]:
        """The columns to read."""
        if self._found.kind not in {"parquet", "arrow"}:
            return list(self._columns)
        taken = self._form.taken if self._form else frozenset()
        inner = {path[0] for path in self._inner.values()}
        needed = self._names.taken | taken | set(self._carried) | inner | {"turns"}
        return [name for name in self._columns if name in needed]

    def _plain_rows(self, number: int, file: Path) -> Iterator[Row]:
        model = self._told[number] if self._told else None
        self._spelt = {}
        for at, row in self._read(number, self._wanted):
            self._rows += 1
            place = f"{file}: row {at}"
            if isinstance(row, Broken):
                line = "line" if self._found.kind in {"json", "lm-eval"} else "row"
                self._bad.append(f"{file}: {line} {at} {row.what}")
                yield self._left_out(row.what, f"{file.name}:{at}", at)
                continue
            if model is not None:
                row["model"] = model
            yield from self._of_row(row, place, f"{file.name}:{at}", at)

    def _is_stray(self, bad: int, rows: int) -> bool:
        """Whether all rows of the file that was read are malformed for one reason; before it there were so many."""
        reasons = {re.sub(r"^.*?: (?:row|line) \d+:? ", "", what) for what in self._bad[bad:]}
        return 0 < self._rows - rows == len(self._bad) - bad and len(reasons) == 1

    def _malformed(self, place: str, what: str, id_: str, at: int) -> Row:
        self._bad.append(f"{place}: {what}")
        return self._left_out(what, id_, at)

    def _left_out(self, what: str, id_: str, at: int) -> Row:
        return {"id": self._repairs(id_), LEFT_OUT: f"malformed:{self._repairs(what)}", ROW: at}

    def _of_row(self, row: Row, place: str, unnamed: str, at: int) -> Iterator[Row]:
        parted = None if self._form is None else self._form.parted
        try:
            parts = [row] if parted is None else list(parted(row))
            if not parts:
                self._counts.add("rows are of requests that failed: they hold no answer, and are left out")
            yield from [made for part in parts for made in self._of_part(part, unnamed, at)]
        except (MalformedError, TurnsError) as error:
            yield self._malformed(place, str(error), self._id_of(row) or unnamed, at)

    def _of_part(self, row: Row, unnamed: str, at: int) -> Iterator[Row]:
        own = self._id_of(row)
        asked = self._asked(row)
        self._check_id(own, row)
        answers = [] if self._form is None else list(self._form.answers(row))
        plain = [self._answer(answer, asked) for answer in answers]
        carried = {own: self._scalar(own, row.get(name)) for name, own in self._carried.items()}
        carried |= {own: self._scalar(own, value_at(row, path)) for own, path in self._inner.items()}
        id_ = own if self._names.id is not None else self._made_id(row, asked, plain)
        if id_ is None and (self._form is None or self._numbered):
            id_ = str(self._rows) if self._numbered else unnamed  # there may be turns
        if id_ is None:
            raise MalformedError("it has neither an id nor text to make one from")
        asked = self._split(asked)
        base = {**carried, **self._base(row, asked, self._repairs(id_), at)}
        if not plain:
            if self._form is not None:
                base[LEFT_OUT] = base.get(LEFT_OUT) or "no_answer"
            elif asked.last is not None:
                self._counts.add("conversations end with an answer, which is not sent")
            yield base
        prompted = asked.problem is None and any(_system(answer) is not None for answer in answers)
        for answer, values in zip(answers, plain, strict=True):
            yield {**base, **values, **(self._own_prompt(answer, asked) if prompted else {})}

    @cached_property
    def _torn(self) -> set[str]:
        """The ids of rows that contradict each other, where these are left out; the first of them need not be the right one."""
        names, seen, torn = self._names, dict[str, str](), set[str]()
        if not self._how.skip_invalid or names.id is None or self._form is None:
            return torn
        for _, row in (each for at in range(len(self._found.files)) for each in self._read(at, self._wanted)):
            own = None if isinstance(row, Broken) else self._id_of(row)
            if own is None or isinstance(row, Broken):
                continue
            alike = row if self._form.many else {n: row.get(n) for n in (names.instruction, names.input) if n}
            digest = hashlib.md5(
                repr(alike).encode("utf-8", "surrogatepass"), usedforsecurity=False
            ).hexdigest()
            if seen.setdefault(own, digest) != digest:
                torn.add(own)
        return torn

    def _check_id(self, own: str | None, row: Row) -> None:
        if self._names.id is None:
            return
        if own is None:
            raise MalformedError("the id is missing; wanted one in every row")
        value = row[self._names.id]
        if self._found.kind == "csv" and self._spelt.setdefault(own, value) != value:
            raise MalformedError(
                f"the id is {value}, and {self._spelt[own]} in another row, which is one number; write it alike in all rows, "
                "or as another text where these are two instructions"
            )
        if own in self._torn:
            raise MalformedError(f"another row has the id {own!r} too, and asks or holds something else")

    def _id_of(self, row: Row) -> str | None:
        name = self._names.id
        value = row.get(name) if name else None
        if name is None or value is None or value == "" or value != value:  # noqa: PLR0124  (NaN)
            return None
        text = isinstance(value, str) and self._found.kind != "csv"  # which has no others
        is_number = self._columns[name].name == "number" and not text
        return re.sub(r"\.0+$", "", str(value)) if is_number else str(value)

    def _asked(self, row: Row, system: Any = None) -> Asked:  # noqa: ANN401  (whatever a file holds)
        names = self._names
        value = row.get(names.instruction) if names.instruction else None
        asked = prompt_of(
            instruction=unlisted(value),
            input=row.get(names.input) if names.input else None,
            system=system or (row.get(names.system) if names.system else None),
            messages=row.get(names.messages) if names.messages else None,
            history=row.get(names.history) if names.history else None,
            tools=row.get(names.tools) if names.tools else None,
        )
        if names.input and row.get(names.input):
            self._used.add(names.input)
        return asked

    def _split(self, asked: Asked) -> Asked:
        """A prompt that was decoded without its special tokens as its messages, where nearly all are so; else as it is."""
        if asked.instruction is None or asked.messages is not None or asked.problem is not None:
            return asked
        turns = decoded(asked.instruction)
        self._texts += 1
        self._rendered += turns is not None
        return (
            asked if turns is None or not self._decoded else replace(asked, instruction=None, messages=turns)
        )

    def _base(self, row: Row, asked: Asked, id_: str, at: int) -> Row:
        """What all plain rows of a row have in common."""
        base: Row = {"id": id_, ROW: at}
        self._unasked += asked.instruction is None and asked.messages is None
        if asked.instruction is not None:
            base["instruction"] = self._repairs(asked.instruction)
        turns = asked.messages
        if turns is None and asked.instruction is not None and self._names.system is not None:
            # Other rows of the id may have a system turn.
            turns = [{"role": "user", "content": asked.instruction}]
        if turns is not None and asked.problem is None:
            base["messages"] = self._repairs(_encoded(list(turns)))
        tools = row.get(self._names.tools) if self._names.tools else None
        if written(tools):
            base["tools"] = self._repairs(_encoded(written(tools)))
        if asked.needs:
            base[NEEDS] = " ".join(asked.needs)
        if asked.problem == "bad_turns" and self._form is None and row.get("turns"):
            base["messages"] = self._repairs(_encoded(turns_of(row.get(self._names.messages or ""))))
        elif asked.problem is not None:
            base[LEFT_OUT] = asked.problem
        return base

    def _own_prompt(self, answer: Answer, asked: Asked) -> Row:
        """The messages of an answer where answers have system prompts of their own."""
        system = _system(answer)
        turns = list(asked.messages or [{"role": "user", "content": asked.instruction or ""}])
        if system is not None:
            turns = turns[1:] if turns[0]["role"] == "system" else turns
            turns = [{"role": "system", "content": system}, *turns]
        return {"messages": self._repairs(_encoded(turns))}

    def _answer(self, answer: Answer, asked: Asked) -> Row:
        """The columns of an answer's own."""
        if answer.model is None:
            raise MalformedError("the model is missing; wanted its name")
        values: Row = {"model": self._repairs(answer.model), "sample": answer.sample}
        text, odd, finish = self._text(answer, asked)
        values["response"] = None if text is None else self._repairs(text)
        values[NOT_TEXT] = odd is not None
        if odd is not None:
            self._counts.add(f"answers are {odd}: their rewards count, but only texts are trained on")
        finish = answer.finish_reason if finish is None else finish
        values["finish_reason"] = str(finish) if finish is not None and finish != "" else None
        for name, value in answer.values.items():
            column = _own_name(name)
            values[column] = self._scalar(column, value)
        return values

    def _text(self, answer: Answer, asked: Asked) -> tuple[str | None, str | None, Any]:
        """An answer's text with its reasoning before it; what it is where it is something other than text; how it ended."""
        try:
            own = said(spelt_parts(answer.response))
            thought = said(answer.reasoning).text if answer.reasoning is not None else None
        except NotTextError:
            return None, "something other than text", None
        if asked.last is not None and self._form is not None and not self._form.many and self._names.response:
            own = self._ended(own, asked.last)
        elif asked.last is not None and self._form is not None and self._form.name == "long":
            own = asked.last
        if own.calls:
            beside = bool(spoken(own.text or "").strip())
            return None, "texts with calls of tools" if beside else "calls of tools without a text", None
        whole = with_reasoning(own.text, own.reasoning if thought is None else thought)
        return whole, None, own.finish_reason

    def _ended(self, own: Said, last: Said) -> Said:
        """Compare the answer that the messages end with to the row's own."""
        if own.calls:
            return own
        if own.text is None or not own.text.strip():
            return last
        if self._form is not None and self._form.name != "long":
            return (
                own  # a list of answers of its own: what the messages end with is one of them, or another's
            )
        if last.text is not None and spoken(last.text).strip() != spoken(own.text).strip():
            raise MalformedError(
                f"messages end with another answer ({last.text[:40]!r}) than `response` ({own.text[:40]!r})"
            )
        finish = own.finish_reason or last.finish_reason
        return replace(own, reasoning=own.reasoning or last.reasoning, calls=last.calls, finish_reason=finish)

    def _scalar(self, name: str, value: Any) -> str | None:  # noqa: ANN401  (whatever a file holds)
        """A value as text, and take note of what it is."""
        if isinstance(value, float) and value in {float("inf"), float("-inf")}:
            raise MalformedError(f"{name} is {value}, not a finite number")
        if name in self._numeric and isinstance(value, str):
            try:
                number_of(value)
            except ValueError:
                raise MalformedError(f"{name} is {value[:60]!r}, not a number") from None
        self._seen.setdefault(name, Seen()).add(value)
        if value is None or value != value:  # noqa: PLR0124  (NaN)
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float | int):
            return repr(value)
        return self._repairs(value if isinstance(value, str) else _encoded(value))

    def _made_id(self, row: Row, asked: Asked, plain: Sequence[Row]) -> str | None:
        """A hash of what the row holds: of the prompt, and where a row is an instruction of its answers too."""
        text = asked.instruction
        if text is None and asked.messages is not None:
            text = _encoded([turn for turn in asked.messages if turn["role"] != "assistant"])
        if text is None or not text.strip():
            names = self._names
            parts = [row.get(n) for n in (names.instruction, names.input, names.system, names.messages) if n]
            text = _encoded(parts) if any(part is not None for part in parts) else None
        if text is None:
            return None
        if self._form is not None and self._form.many:
            pairs = [
                {"model": p["model"], "response": p["response"]} for p in plain if p["response"] is not None
            ]
            text += chr(31) + _encoded(sorted(pairs, key=lambda pair: (pair["model"], pair["response"])))
        return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()

    def _write(self, target: Path, rows: Iterable[Row]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.string()
        own = [(NOT_TEXT, pa.bool_()), (ROW, pa.int64()), ("sample", pa.float64())]
        others = dict.fromkeys(
            (*self._carried.values(), *self._inner, *map(_own_name, self._form.fields if self._form else ()))
        )
        schema = pa.schema([*((name, text) for name in _TEXTS), *own, *((name, text) for name in others)])
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in _batches(rows):
                for row in batch:
                    self._used.update(
                        name for name, value in row.items() if value is not None and value is not False
                    )
                writer.write_table(pa.Table.from_pylist(batch, schema))


def _is_number(value: Any) -> bool:  # noqa: ANN401  (whatever a file holds)
    """Whether it is a number, written as a text perhaps, or missing."""
    try:
        number_of(value)
    except (TypeError, ValueError):
        return False
    return True


def _system(answer: Answer) -> str | None:
    """The system prompt that an answer has of its own; None where it has none."""
    try:
        text = said(answer.system).text
    except NotTextError:
        return None
    return text if text is not None and text.strip() else None


def _own_name(name: str) -> str:
    """The column of a value of an answer's own; those of our own names get another."""
    return f"answer_{name}" if name in {*_TEXTS, *OWN, "sample"} else name


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
