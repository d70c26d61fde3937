"""Texts of a selection: those of its chosen rows, and of any row if its pool can be reopened through the manifest."""

import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from crowdselect.engine.here import Run
from crowdselect.errors import InputError, MissingExtraError, RewardError, SplitError
from crowdselect.pool.batches import Numbers
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.prompts import Chat
from crowdselect.pool.shards import answers_in
from crowdselect.selection.benchmarks import read_questions
from crowdselect.selection.options import BEST_STUDENT
from crowdselect.selection.overlap import shared_words
from crowdselect.selection.own_answers import opened
from crowdselect.selection.reading import Shards, shards_of
from crowdselect.selection.rewards import empty_answers
from crowdselect.selection.selection import Selection
from crowdselect.selection.student import Student

Pair = tuple[str, str]
"""(id, model)."""
Key = tuple[str, str | None, float | None]
"""(id, model, sample); no model where no answer is wanted."""


class Chosen(Protocol):
    """The texts that can be read of chosen rows; a `Pool` is one."""

    @property
    def path(self) -> str:
        """The pool's path, as the user wrote it."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The pool's files."""
        ...

    @property
    def has_text(self) -> bool:
        """Whether some instruction has text."""
        ...

    @property
    def has_responses(self) -> bool:
        """Whether the pool has a column for responses."""
        ...

    def prompts(self, pairs: Sequence[Pair], samples: Numbers | None = None) -> list[Chat]:
        """See `Pool.prompts`."""
        ...

    def responses(self, pairs: Sequence[Pair], samples: Numbers | None = None) -> list[str | None]:
        """See `Pool.responses`."""
        ...

    def texts_of(self, ids: Sequence[str]) -> list[str | None]:
        """See `Pool.texts_of`."""
        ...

    def exported(self, pairs: Sequence[Pair], samples: Numbers | None = None) -> list[str | None]:
        """See `Pool.exported`."""
        ...

    def tools(self, ids: Sequence[str]) -> list[str | None]:
        """See `Pool.tools`."""
        ...

    def asked(self, ids: Sequence[str]) -> list[Chat]:
        """See `Pool.asked`."""
        ...

    def values_of(self, name: str, ids: Sequence[str]) -> list[str | None]:
        """See `Pool.values_of`."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """The chosen rows of a pool that is read file by file, all fetched at once."""

    path: str
    files: tuple[Path, ...]
    has_responses: bool
    found: Mapping[Key, Mapping[str, str | None]]

    @property
    def has_text(self) -> bool:
        """See `Chosen`: if one chosen row has text, all have, as rows without text cannot be chosen."""
        return any(row["instruction"] is not None for row in self.found.values())

    def prompts(self, pairs: Sequence[Pair], samples: Numbers | None = None) -> list[Chat]:
        """See `Chosen`."""
        return [json.loads(row["messages"] or "[]") for row in self._of(pairs, samples)]

    def responses(self, pairs: Sequence[Pair], samples: Numbers | None = None) -> list[str | None]:
        """See `Chosen`."""
        return [row["response"] for row in self._of(pairs, samples)]

    def exported(self, pairs: Sequence[Pair], samples: Numbers | None = None) -> list[str | None]:
        """See `Chosen`."""
        return [row["exported"] for row in self._of(pairs, samples)]

    def asked(self, ids: Sequence[str]) -> list[Chat]:
        """See `Chosen`."""
        return [json.loads(text or "[]") for text in self._per_id(ids, "messages")]

    def values_of(self, name: str, ids: Sequence[str]) -> list[str | None]:
        """See `Chosen`; only of columns that were fetched."""
        return [json.loads(text or "{}")[name] for text in self._per_id(ids, "columns")]

    def tools(self, ids: Sequence[str]) -> list[str | None]:
        """See `Chosen`."""
        return self._per_id(ids, "tools")

    def texts_of(self, ids: Sequence[str]) -> list[str | None]:
        """See `Chosen`."""
        return self._per_id(ids, "instruction")

    def _per_id(self, ids: Sequence[str], name: str) -> list[str | None]:
        known = {id_: row[name] for (id_, *_), row in self.found.items()}
        missing = next((id_ for id_ in ids if id_ not in known), None)
        if missing is not None:
            raise InputError(f"{self.path}: no id {missing!r} in the pool")
        return [known[id_] for id_ in ids]

    def _of(self, pairs: Sequence[Pair], samples: Numbers | None) -> list[Mapping[str, str | None]]:
        """The rows of some answers; where no sample is named, of any."""
        named = samples or [None] * len(pairs)
        any_of = {(id_, model): row for (id_, model, _), row in self.found.items()}
        found = []
        for pair, sample in zip(pairs, named, strict=True):
            row = self.found.get((*pair, sample)) or any_of.get(pair)
            if row is None:
                raise InputError(f"{self.path}: no id {pair[0]!r} in the pool")
            found.append(row)
        return found


def chosen_of(pool: "Pool | Chosen", selection: Selection, *, run: Run | None = None) -> Chosen:
    """Open the texts of a selection's rows: the pool as a whole, or a large one file by file.

    Args:
        pool: The pool that it was chosen from; a result of this function is returned unchanged.
        selection: The selection.
        run: What reads the files one by one; None = this process, and only for large pools.

    Raises:
        SplitError: With `run`, an instruction is in two files.
    """
    if not isinstance(pool, Pool):
        return pool
    shards = shards_of(pool, run=run)
    if shards.whole:
        return pool
    wanted = _wanted(selection)
    columns = list((selection.facts.get("checked") or {}).get("needed", ()))
    try:
        found = _fetch(shards, wanted, selection.files, columns=columns)
    except SplitError:
        if run is not None:
            raise
        return pool
    complete = len(found) == len(set(wanted))
    return Fetched(pool.path, pool.files, pool.has_responses, found) if complete or run is not None else pool


def absent_texts(*, has_text: bool) -> str:
    """Say which texts a pool without a training file lacks: the instructions, or else the answers.

    Example:
        >>> absent_texts(has_text=True)
        'the pool holds no answers (wanted a column response)'
    """
    absent, wanted = ("answers", "response") if has_text else ("instruction text", "instruction or messages")
    return f"the pool holds no {absent} (wanted a column {wanted})"


def _wanted(selection: Selection) -> list[Key]:
    """List the answers to train on and to reject; of data for reinforcement learning no answers."""
    rows = selection.rows()
    if selection.facts.get("checked") is not None:
        return [(row["id"], None, None) for row in rows]
    here = [""] if _student_apart(selection) else ["", "rejected_"]
    kinds = [kind for kind in here if f"{kind}model" in selection.table.column_names]
    found = [(row["id"], row[f"{kind}model"], row.get(f"{kind}sample")) for kind in kinds for row in rows]
    more = [
        (row["id"], each["model"], each.get("sample")) for row in rows for each in row.get("answers") or ()
    ]
    return list(dict.fromkeys([*found, *more]))


def _fetch(
    shards: Shards, answers: Sequence[Key], homes: Mapping[str, str], *, columns: Sequence[str]
) -> dict[Key, dict[str, str | None]]:
    """Fetch rows from their files; if the file of a row is not known, from every file.

    Raises:
        SplitError: An instruction is in two files.
    """
    known = {str(file) for file in shards.files}
    wanted: dict[str, dict[str, Any]] = {}
    for id_, model, sample in answers:
        home = homes.get(id_)
        for path in [home] if home in known and home is not None else sorted(known):
            empty: dict[str, Any] = {"path": path, "ids": [], "models": [], "samples": [], "columns": columns}
            source = wanted.setdefault(path, empty)
            source["ids"].append(id_)
            source["models"].append(model)
            source["samples"].append(sample)
    found: dict[Key, dict[str, str | None]] = {}
    first: dict[str, str] = {}
    for table in shards.call(answers_in, list(wanted.values())):
        for row in table.to_pylist():
            if first.setdefault(row["id"], row["path"]) != row["path"]:
                raise SplitError(f"{row['path']}: id {row['id']!r} is in {first[row['id']]} too")
            found[row["id"], row["model"], row["sample"]] = row
    return found


@contextmanager
def rejected_in(selection: Selection, pool: Chosen) -> Iterator[Chosen]:
    """Open what holds the rejected answers of pairs: the pool, or that of the student's own answers.

    Args:
        selection: The selection.
        pool: Its pool.

    Raises:
        InputError: The pool of the student's answers is gone, or has changed since.
    """
    student = _student_apart(selection)
    if student is None:
        yield pool
        return
    with opened(student, HowRead.from_dict(selection.facts["read"])) as own:
        if own.fingerprint() != selection.facts["student"]["fingerprint"]:
            raise InputError(
                f"{own.path}: the student's answers are not those that this selection was made with; select again"
            )
        yield own


def _student_apart(selection: Selection) -> Student | None:
    """The student whose answers are rejected and are in a pool of their own; None = all answers are in the selection's pool."""
    found = selection.facts.get("student")
    if selection.options.get("pairs") != BEST_STUDENT or found is None or found["answers"] is None:
        return None
    return Student(name=found["name"], answers=found["answers"])


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts behind a row of a selection."""

    instruction: str | None = None
    """None if the pool has none, or cannot be opened."""
    answer: str | None = None
    """The answer to train on; None if the pool has none, or cannot be opened."""
    empty: Mapping[str, int] | None = None
    """The models of the crowd whose answers have a reward but no text, with how many each; None if that is not known."""
    problem: str | None = None
    """What the user should know: that the pool is gone, or has changed since."""

    def empty_line(self, selection: Selection) -> str | None:
        """Say whether the rewards of the answers without a text count in a selection; None where there are none.

        Example:
            >>> counted = Selection(table=None, options={}, facts={"read": {}})
            >>> Texts(empty={"a-7b": 1}).empty_line(counted)
            "an answer without a text has a reward that counts, that of a-7b; `missing='empty'` leaves it out"
            >>> left_out = Selection(table=None, options={}, facts={"read": {"missing": ["empty"]}})
            >>> Texts(empty={"a-7b": 2, "b-7b": 1}).empty_line(left_out)
            'the rewards of answers without a text were left out: a-7b (2), b-7b'
        """
        if not self.empty:
            return None
        who = ", ".join(f"{name} ({many})" if many > 1 else name for name, many in self.empty.items())
        one = sum(self.empty.values()) == 1
        if _read_of(selection.facts).not_empty:
            whose = "the reward of an answer" if one else "the rewards of answers"
            return f"{whose} without a text {'was' if one else 'were'} left out: {who}"
        if one:
            return f"an answer without a text has a reward that counts, that of {who}; `missing='empty'` leaves it out"
        return f"answers without a text have rewards that count, those of {who}; `missing='empty'` leaves them out"


def texts_of(selection: Selection, row: Mapping[str, Any], *, pool: str | None = None) -> Texts:
    """Read the texts of a row from its pool.

    Args:
        selection: From `crowdselect.load_selection`.
        row: One of its rows.
        pool: The pool's current path; None = the path in the manifest.

    Returns:
        The texts, or why they cannot be read.

    Raises:
        InputError: `pool` is given and cannot be opened.

    Example:
        >>> facts = {"pool": "gone.parquet", "layout": "long", "rewards": None}
        >>> gone = texts_of(Selection(table=None, options={}, facts=facts), {})
        >>> gone.problem.endswith("pass its current path as `pool`")
        True
    """
    opened, problem = _reopened(selection, pool, gone="the texts are not shown", unsure="texts")
    if opened is None:
        return Texts(problem=problem)
    with closing(opened):
        try:
            instruction, answer = _read(opened, row)
            empty = _empty_of(opened, selection, row["id"])
        except InputError as error:
            return Texts(problem=f"the texts are not shown: {error}")
    return Texts(instruction, answer, empty, problem)


def _empty_of(pool: Pool, selection: Selection, id_: str) -> dict[str, int] | None:
    """Count the answers to an instruction, by model of the crowd, that have a reward but no text, whether it counted or not.

    None where the rewards are gone, or the instruction is, of which the user is told: the pool has changed.
    """
    rewards, crowd = selection.facts["reward"], {member["name"] for member in selection.facts["crowd"]}
    if id_ not in pool.ids:
        return None
    if rewards is None or not pool.has_responses or not _may_lack_text(pool, id_, crowd):
        return {}
    try:
        if not pool.read.not_empty:
            return _empty_in(pool, rewards, id_, crowd)
        as_given = replace(pool.read, missing=pool.read.no_rewards)
        with open_pool(pool.path, read=as_given, rewards=pool.rewards_path) as given:
            return _empty_in(given, rewards, id_, crowd)
    except RewardError:
        return None


def _may_lack_text(pool: Pool, id_: str, crowd: AbstractSet[str]) -> bool:
    """Whether some model has no text for an instruction, which is cheap to know; of samples it is not known."""
    models = [model for model in pool.models if model in crowd]
    return pool.sampled or None in pool.responses([(id_, model) for model in models])


def _empty_in(pool: Pool, rewards: str | Sequence[str], id_: str, crowd: AbstractSet[str]) -> dict[str, int]:
    named = [rewards] if isinstance(rewards, str) else rewards
    row = pool.ids.tolist().index(id_)
    counts = empty_answers(pool, [pool.reward_name(name) for name in named])[row].tolist()
    found = zip(pool.models, counts, strict=True)
    return {model: count for model, count in found if count and model in crowd}


def instructions_of(
    selection: Selection, ids: Sequence[str | None], *, pool: str | None = None
) -> tuple[list[str | None], str | None]:
    """Read the instructions of some rows from their pool.

    Args:
        selection: From `crowdselect.load_selection`.
        ids: Of its rows; what is no id of a row has no text.
        pool: The pool's current path; None = the path in the manifest.

    Returns:
        The texts, and what the user should know, as `Texts` has it.

    Raises:
        InputError: `pool` is given and cannot be opened.
    """
    opened, problem = _reopened(selection, pool, gone="the texts are not shown", unsure="texts")
    if opened is None:
        return [None] * len(ids), problem
    with closing(opened):
        there = set(opened.ids)
        wanted = [id_ for id_ in dict.fromkeys(ids) if id_ in there and id_ is not None]
        texts = dict(zip(wanted, opened.texts_of(wanted), strict=True))
    return [None if id_ is None else texts.get(id_) for id_ in ids], problem


def shared_with_benchmark(
    selection: Selection, row: Mapping[str, Any], instruction: str | None
) -> str | None:
    """Return the words that a contaminated row shares with the question that bars it; None if that cannot be read.

    Args:
        selection: From `crowdselect.load_selection`.
        row: One of its rows.
        instruction: Its text.
    """
    code, _, name = str(row["reason"]).partition(":")
    if code != "contaminated" or instruction is None:
        return None
    for path in selection.options["decontaminate"]:
        try:
            asked = [question for question in read_questions(path) if question.id == name]
        except InputError:
            continue  # the file is gone: the words are not known, and nothing else is lost
        if asked:
            return shared_words(instruction, asked[0])
    return None


def reopen_pool(selection: Selection, path: str | None = None) -> tuple[Pool | None, str | None]:
    """Open the pool of a selection, with its rewards; the caller closes it.

    Args:
        selection: From `crowdselect.load_selection`.
        path: The pool's current path; None = the path in the manifest.

    Returns:
        The pool, or None if it is no longer at the manifest's path; and what the user should know: that it is
        missing, or that its content has changed since.

    Raises:
        InputError: `path` is given and cannot be opened.

    Example:
        >>> gone = Selection(table=None, options={}, facts={"pool": "gone.csv", "layout": "long", "rewards": None})
        >>> reopen_pool(gone)[0] is None
        True
    """
    return _reopened(selection, path, gone="the pool cannot be opened", unsure="texts and rewards")


def _reopened(
    selection: Selection, path: str | None, *, gone: str, unsure: str
) -> tuple[Pool | None, str | None]:
    """Do the same as `reopen_pool`; `gone` states what a missing pool means, `unsure` what may differ after a change."""
    facts = selection.facts
    try:
        pool, problem = _open(path or facts["pool"], facts)
    except (InputError, MissingExtraError, OSError) as error:
        if path is not None:
            raise
        return None, f"{gone}: {error}; pass its current path as `pool`"
    if problem is None and pool.fingerprint() != facts["fingerprint"]:
        problem = f"{pool.path}: its content is not what this selection was made from; {unsure} may differ"
    return pool, problem


def _open(path: str, facts: Mapping[str, Any]) -> tuple[Pool, str | None]:
    """Open the pool, with its second file of rewards if that still exists: the texts do not need it."""
    how = _read_of(facts)
    try:
        return open_pool(path, read=how, rewards=facts["rewards"]), None
    except InputError as error:
        if facts["rewards"] is None:
            raise
        problem = f"the rewards cannot be read ({error}), so it is not known whether the texts have changed"
        return open_pool(path, read=how), problem


def _read_of(facts: Mapping[str, Any]) -> HowRead:
    """How the pool of a selection is read."""
    return HowRead.from_dict(facts["read"] if "read" in facts else {"layout": facts["layout"]})


def _read(pool: Pool, row: Mapping[str, Any]) -> tuple[str | None, str | None]:
    instruction = answer = None
    if pool.has_text:
        instruction = dict(zip(pool.ids, pool.instructions(), strict=True)).get(row["id"])
    if pool.has_responses and row["model"] is not None:
        answer = pool.responses([(row["id"], row["model"])], [row.get("sample")])[0]
    return instruction, answer
