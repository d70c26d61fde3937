"""Files of any form, rewritten once into one plain form: a row per answer, in Parquet, in the cache folder.

A rewritten pool is an ordinary `long` pool: id, instruction or messages (JSON), tools, model, sample, response,
finish_reason, and every other scalar as text. What cannot be chosen stays, with the reason in a column of its own.
It is found again by the content of the files and by how they are read; a part is made of each file, a batch at a time.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

from crowdselect import __version__
from crowdselect.cache import folder, keep_newest
from crowdselect.errors import InputError
from crowdselect.malformed import left_out_rows, malformed_rows
from crowdselect.pool.answerkeys import scores_beside, stray_file
from crowdselect.pool.battles import fit_battles, unread_answers
from crowdselect.pool.columns import Columns
from crowdselect.pool.files import FoundFiles, fingerprint
from crowdselect.pool.howread import PARTS, HowRead
from crowdselect.pool.inner import beside_named, chat_inside, path_to, ratings_inside
from crowdselect.pool.inspectlogs import READ_AS
from crowdselect.pool.layouts import says_reward
from crowdselect.pool.listscores import wants_letters, wants_mean, wants_one_each
from crowdselect.pool.mergedcells import merged_cells
from crowdselect.pool.plainrows import LEFT_OUT, NEEDS, NOT_TEXT, ROW, TEXTS, PlainRows, own_name
from crowdselect.pool.promptfoo import READ_AS as PROMPTFOO
from crowdselect.pool.promptfoo import SENT, is_named, left_out
from crowdselect.pool.rendered import DECODED, NEARLY_ALL
from crowdselect.pool.rowfiles import Broken, Row, number_of, said_of_document
from crowdselect.pool.rowforms import is_number
from crowdselect.pool.textscores import REWARD, are_written_scores, for_each_file, wants_number
from crowdselect.terminal import counted

_FACTS = "facts.json"
_VERSION = 20  # of what is written here: another one is written anew
_KEPT = 20  # rewritten pools that stay in the cache folder
_BATCH = 2000
_LISTED = 5  # names


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


class _Rewriting(PlainRows):
    """Rewrites the files of one pool."""

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
            again = _Rewriting(
                self._found, self._asked_how, answers=self._answers, numeric=slips, decoded=split
            )
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
            "fields": list(map(own_name, self._form.fields if self._form is not None else ())),
            "notes": self._notes(),
            "rows": self._rows,
            "malformed": len(self._bad),
            "numbers": {name: kind for name, kind in numbers.items() if kind in {"number", "bool"}},
            "unused": [name for name in every if name not in self._used],
        }

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
        self._of_texts = {named[name]: name for name in odd if self._is_of_texts(name, named[name])}
        odd = [name for name in odd if named[name] not in self._of_texts]
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

    def _is_of_texts(self, name: str, called: str) -> bool:
        """Whether a column with a free name is one of texts, as of topics, and no reward, of which some cells are bad."""
        seen = self._seen.get(called)
        if seen is None or says_reward(called) or REWARD.search(called) or self._columns[name].fields:
            return False
        if seen.slips or not seen.names.get("text") or {"list", "struct", "map"} & set(seen.names):
            return False
        values = (each for at in range(len(self._found.files)) for each in self._values(at, name))
        return not are_written_scores(each for each in values if isinstance(each, str))

    def _wants(self, number: int, name: str, value: object, called: str) -> str:
        """Say what a column that is named as a reward should hold instead of a value, and what leads there."""
        paths, kind = [*map(str, self._found.files)], self._columns[name]
        steps, taken = self._paths.get(name, (name,)), called in self._columns
        values = (each for at in range(len(paths)) for each in self._values(at, name))
        if isinstance(value, list) and self._form is not None and self._form.many:
            return wants_one_each(kind)
        if isinstance(value, list):
            lists = (each for each in values if isinstance(each, list))
            column = f"{called}_mean" if taken else called
            return wants_mean(paths, steps, kind, column=column, lists=lists)
        column = f"{called}_number" if taken else called
        wanted = wants_letters(paths, steps, values, column=column)
        if wanted is None and name not in self._paths:
            wanted = for_each_file(wants_number(str(value), [name], paths[number]), len(paths))
        told = f"{str(value)[:60]!r}, not a number; `columns` names it as the reward {called!r}"
        return told if wanted is None else f"{told}; {wanted}"

    def _values(self, number: int, name: str) -> Iterator[Any]:
        """The values of a column in a file."""
        rows = self._read(number, [*self._wanted, name])
        return (row.get(name) for _, row in rows if not isinstance(row, Broken))

    def _read_as(self) -> str:
        named = self._asked_how.named
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
        if self._promptfoo and is_named(self._columns) and {"instruction", "messages"}.isdisjoint(named):
            read = PROMPTFOO
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
        notes += dict.fromkeys(
            said for file in documents if (said := said_of_document(file, self._named_prompts)) is not None
        )
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
        notes += self._notes_of_promptfoo() if self._promptfoo else []
        notes += [
            f"{name} is read as {what}, a column of texts and no reward"
            for what, name in self._of_texts.items()
        ]
        notes += self._notes_of_lists()
        if self._counters:
            notes.append(f"left out, a number of the row: {', '.join(self._counters)}")
        notes += [
            f"not read: {path[1]} inside the object {path[0]}, since a column is called {name}; rename one to read both"
            for name, path in self._hidden.items()
        ]
        read = {*self._paths.values(), *self._inner.values()}
        own = self._asked_how.named and not self._promptfoo
        beside = beside_named(self._columns, self._paths.values(), read) if own else []
        notes += [_left_out_beside(beside, self._columns)] if beside else []
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
        notes += [counted(count, one, several) for (one, several), count in counts.items()]
        if self._bad:
            notes.append(left_out_rows(self._bad, self._rows))
        return notes

    def _notes_of_lists(self) -> list[str]:
        """What lists of numbers may be rewards, and are not read since one is shorter or longer than the answers beside it."""
        read = () if self._form is None else self._form.fields
        return [
            f"not read: {name}, which has {place}; if it is a reward, name it with `columns='reward={name}'`"
            for name, place in self._nearly_beside.items()
            if name not in read
        ]

    def _notes_of_promptfoo(self) -> list[str]:
        """What is not read of results of promptfoo."""
        objects, named = left_out(self._columns), self._names.instruction or self._names.messages
        notes = [f"left out of promptfoo's results: {', '.join(objects)}"] if objects else []
        sent = path_to(self._columns, SENT)
        if sent is not None and not sent[1].asks and SENT not in self._paths and named is not None:
            notes.append(f"not read: {SENT}, which the models were sent, since `columns` names {named}")
        return notes

    def _is_stray(self, bad: int, rows: int) -> bool:
        """Whether all rows of the file that was read are malformed for one reason; before it there were so many."""
        reasons = {re.sub(r"^.*?: (?:row|line) \d+:? ", "", what) for what in self._bad[bad:]}
        return 0 < self._rows - rows == len(self._bad) - bad and len(reasons) == 1

    def _write(self, target: Path, rows: Iterable[Row]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.string()
        own = [(NOT_TEXT, pa.bool_()), (ROW, pa.int64()), ("sample", pa.float64())]
        others = dict.fromkeys(
            (*self._carried.values(), *self._inner, *map(own_name, self._form.fields if self._form else ()))
        )
        schema = pa.schema([*((name, text) for name in TEXTS), *own, *((name, text) for name in others)])
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for batch in _batches(rows):
                for row in batch:
                    self._used.update(
                        name for name, value in row.items() if value is not None and value is not False
                    )
                writer.write_table(pa.Table.from_pylist(batch, schema))


def _left_out_beside(names: Sequence[str], columns: Columns) -> str:
    """Say what objects hold beside the values that are named, and how one of these is read."""
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    own = {name: name.rpartition(".")[2] for name in names}
    known = {*PARTS, *(name.casefold() for name in columns)}
    free = next((n for n in names if own[n].casefold() not in known and not {",", "="} & set(n)), None)
    how = "" if free is None else f"; `columns='{own[free]}={free}'` reads {free}"
    return f"left out, beside what `columns` names inside objects: {listed}{how}"


def _is_number(value: Any) -> bool:  # noqa: ANN401  (whatever a file holds)
    """Whether it is a number, written as a text perhaps, or missing."""
    try:
        number_of(value)
    except (TypeError, ValueError):
        return False
    return True


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
