"""The rewards of a pool: columns of its own, and of a second file, and those of several samples.

The second file is joined by (id, model), and by sample where both have it.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from crowdselect.errors import InputError, RewardError, near_miss
from crowdselect.numeric.candidates import Candidates
from crowdselect.numeric.telling import tells_of_rows_alone
from crowdselect.pool.answerkeys import filed_by_answer
from crowdselect.pool.batches import Texts
from crowdselect.pool.cells import CellRewards, cell_rewards, not_numeric
from crowdselect.pool.codes import first_null, to_numpy
from crowdselect.pool.columns import quote
from crowdselect.pool.howread import HowRead
from crowdselect.pool.index import Index
from crowdselect.pool.keys import DROP_ONE, AnswerKeys, first_not_number, sample_numbers, sorted_keys
from crowdselect.pool.layouts import (
    FIRST_REWARDS,
    ID_COLUMNS,
    NUMERIC,
    candidates,
    no_reward,
    reward_columns,
    says_reward,
    unlikely,
)
from crowdselect.pool.listscores import answer_lists
from crowdselect.pool.missing import without_values
from crowdselect.pool.prompts import PoolPrompts
from crowdselect.pool.source import Source
from crowdselect.pool.tall import TallAnswers
from crowdselect.pool.textscores import WRITTEN
from crowdselect.pool.views import Directed, RewardColumns, Tall, Wide, direction_of
from crowdselect.pool.wide import WideAnswers
from crowdselect.terminal import counted
from crowdselect.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa


_LOWER = re.compile(
    r"difficulty|fail|error|loss|ppl|perplexit|(?<![a-z])(rank|ranking|place|position|rang|platz)s?(?![a-z])|順位",
    re.IGNORECASE,
)  # names of what is better, or may be, when it is lower
_PERPLEXITY = re.compile("perplexity", re.IGNORECASE)
"""Names of what is never below 0, unless it is a logarithm, or reversed."""
_GRADES = re.compile(r"grades?|points?|marks?", re.IGNORECASE)
"""Names of texts that would be rewards if they were numbers, where there is no other."""
_ONE_TURN = "keep the rows of one `turn`, the one that the pool's answers are of (the first, in FastChat's judgments: turn = 1)"
_SEVERAL = "`select` combines several: give `reward` twice, and `ensemble`"


class RewardsFile:
    """The rewards of a file, as far as they belong to answers of the pool."""

    def __init__(
        self,
        source: Source,
        columns: RewardColumns,
        index: Index,
        answers: WideAnswers | TallAnswers,
        *,
        read: HowRead,
        texts: bool,
        part: bool,
    ) -> None:
        self._part = part
        self._not_empty = read.not_empty and texts
        self._source = source
        self._columns = replace(columns, rewards=Directed(columns.rewards))
        self._index = index
        self._answers = answers
        self._aliases = dict(read.aliases)
        self._named = read.named.get("id")
        self._notes: list[str] = []
        self.lost = 0
        """How many rows belong to no answer; known once the file was read."""

    def scores(self, reward: str) -> FloatArray:
        """Read a reward, shape (N, M) of the pool, NaN = none; the mean over samples."""
        return self.cells(reward).means()

    def cells(self, reward: str) -> CellRewards:
        """Read the rewards in each cell of the pool's matrix."""
        values = to_numpy(self._source.fetch(self._columns.rewards[reward]).column(0))
        names, path = self._answers.models, self._source.path
        return cell_rewards(values, self._keys, index=self._index, names=names, path=path, reward=reward)

    def rewards(self, reward: str, answers: TallAnswers) -> FloatArray:
        """Read the reward of every answer of the pool, shape (A,), NaN = none; one of all samples where they are not told apart."""
        if self._columns.sample is None or not answers.sampled:
            return self.scores(reward)[answers.keys.row, answers.keys.model]
        values, keys = to_numpy(self._source.fetch(self._columns.rewards[reward]).column(0)), self._keys
        at = answers.places(keys.row[keys.order], keys.model[keys.order], keys.sample[keys.order])
        out = np.full(len(answers.keys.row), np.nan)
        out[at] = values[keys.order]
        return out

    @property
    def notes(self) -> list[str]:
        """What to tell the user once the file was read."""
        name, path = self._columns.id_name, self._source.path
        taken = [] if name in ID_COLUMNS else [f"rewards: {name} of {path} is taken for the id"]
        lost = lost_note(path, self.lost)
        return [*taken, *self._notes, *([] if lost is None else [lost])]

    @cached_property
    def _keys(self) -> AnswerKeys:
        ids, names = self._source.fetch(self._columns.id, self._columns.model).columns
        self._refuse_missing("id", ids)
        self._refuse_missing("model", names)
        models = self._models_of(names)
        rows, known = self._index.find(ids)
        if not known.any():
            other = respelt(ids)
            rows, known = self._index.find(other)
            if known.any():
                ids = other
                self._notes.append(respelt_note(self._source.path))
        sample = self._columns.sample
        numbers = np.zeros(len(rows)) if sample is None else sample_numbers(self._source, sample)
        samples = np.where(np.isnan(numbers), 0.0, numbers)
        here = (rows >= 0) & (models >= 0)
        beyond_limit = known & (rows < 0) & (models >= 0)
        asked = None if sample is None else samples[here]
        here[here] = self._answers.holds(rows[here], models[here], asked)
        self.lost = int(np.count_nonzero(~here & ~beyond_limit))
        if len(rows) and self.lost == len(rows) and not self._part:
            raise self._apart(ids, names, known, models)
        self._note_models(names, models)
        if self._not_empty:
            asked = None if sample is None else samples[here]
            here[here] = self._answers.with_text(rows[here], models[here], asked)
        part = np.where(here, rows, -1)
        path, names = self._source.path, self._answers.models
        way_out = _ONE_TURN if "turn" in self._columns.fields else DROP_ONE
        return sorted_keys(part, models, samples, index=self._index, names=names, path=path, way_out=way_out)

    def _models_of(self, names: "pa.ChunkedArray") -> IntArray:
        """The place of each model among the pool's, -1 = none; under its name or another that a crowd file gives it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        places = {name: place for place, name in enumerate(self._answers.models)}
        ours = {self._aliases.get(name, name): place for name, place in places.items()}
        distinct = pc.unique(names).to_pylist()
        found = [places.get(name, ours.get(self._aliases.get(name, name), -1)) for name in distinct]
        which = to_numpy(pc.index_in(names, pa.array(distinct, type=names.type))).astype(np.int64)
        return np.array(found, dtype=np.int64)[which] if found else np.empty(0, dtype=np.int64)

    def _apart(
        self, ids: "pa.ChunkedArray", names: "pa.ChunkedArray", known: BoolArray, models: IntArray
    ) -> InputError:
        """Say that no row of the file belongs to an answer, with a name of either side and what would join them."""
        path, ours = self._source.path, self._answers.models
        if not known.any():
            name = self._columns.id_name
            column = (
                ""
                if name in {*ID_COLUMNS, self._named}
                else f"; `columns='id={name}'` takes those of the pool from its {name}, too"
            )
            return InputError(
                f"{path}: none of its {len(ids):,} rows has an id of the pool; it says {ids[0].as_py()!r}, the pool "
                f"{self._index.id(0)!r}; write the ids alike, or name its column{column}"
            )
        if (models < 0).all():
            theirs = sorted(set(names.to_pylist()))
            lines = alias_lines(theirs, ours)
            joined = f"; in the crowd file these lines join them: {lines}" if lines else ""
            return InputError(
                f"{path}: none of its {len(ids):,} rows belongs to an answer of the pool: none of its {len(theirs)} models is "
                f"one of the {len(ours)} of the pool; it says {theirs[0]!r}, the pool {ours[0]!r}{joined}"
            )
        return InputError(
            f"{path}: none of its {len(ids):,} rows belongs to an answer of the pool, though ids and models are known; it "
            f"says id {ids[0].as_py()!r} of model {names[0].as_py()!r}"
        )

    def _note_models(self, names: "pa.ChunkedArray", models: IntArray) -> None:
        """Say which models of the file are unknown while models of the pool have no reward."""
        import pyarrow as pa

        theirs = sorted(set(names.filter(pa.array(models < 0)).to_pylist()))
        without = [name for place, name in enumerate(self._answers.models) if not (models == place).any()]
        if theirs and without:
            lines = alias_lines(theirs, without)
            joined = f"; in the crowd file these lines join them: {lines}" if lines else ""
            self._notes.append(
                f"rewards: {len(theirs)} models of {self._source.path} are not in the pool, such as {theirs[0]!r}, and "
                f"{len(without)} of the pool have no reward, such as {without[0]!r}{joined}"
            )

    def _refuse_missing(self, what: str, values: "pa.ChunkedArray") -> None:
        missing = first_null(values)
        if missing is not None:
            raise missing_in(self._source, what, missing)


def alias_lines(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """Write the lines of a crowd file that make names of a rewards file names of the pool's models, as far as they are alike.

    Example:
        >>> alias_lines(["Qwen/Qwen2.5-7B"], ["qwen2.5-7b"])
        '[[model]] name = "qwen2.5-7b" aliases = ["Qwen/Qwen2.5-7B"]'
    """
    by_key: dict[str, list[str]] = {}
    for name in ours:
        by_key.setdefault(_bare(name), []).append(name)
    pairs = [(by_key[_bare(name)][0], name) for name in theirs if len(by_key.get(_bare(name), [])) == 1]
    quoted = (
        (json.dumps(own, ensure_ascii=False), json.dumps(other, ensure_ascii=False)) for own, other in pairs
    )
    return "; ".join(f"[[model]] name = {own} aliases = [{other}]" for own, other in quoted)


def _bare(name: str) -> str:
    """A model's name without its owner, case and signs."""
    return re.sub(r"[^a-z0-9.]", "", re.split(r"/|__", name.casefold())[-1])


def respelt(ids: "pa.Array | pa.ChunkedArray") -> "pa.Array | pa.ChunkedArray":
    """Spell whole numbers among ids the other way: 3.0 for 3, and 3 for 3.0.

    Example:
        >>> import pyarrow as pa
        >>> respelt(pa.array(["3", "4.0", "-5", "a", "6.00"])).to_pylist()
        ['3.0', '4', '-5.0', 'a', '6.00']
    """
    import pyarrow.compute as pc

    bare = pc.replace_substring_regex(ids, r"^(-?\d+)\.0$", r"\1")
    long = pc.replace_substring_regex(ids, r"^(-?\d+)$", r"\1.0")
    return pc.if_else(pc.equal(bare, ids), long, bare)


def are_respelt(ids: "pa.Array", known: "pa.Array") -> bool:
    """Say whether two lists of ids have none in common, and some where whole numbers are spelt the other way.

    Example:
        >>> import pyarrow as pa
        >>> are_respelt(pa.array(["3.0", "b"]), pa.array(["3", "a"])), are_respelt(pa.array(["3"]), pa.array(["4"]))
        (True, False)
    """
    import pyarrow.compute as pc

    def shares(own: "pa.Array") -> bool:
        return bool(pc.any(pc.is_in(own, known)).as_py())

    return not shares(ids) and shares(respelt(ids))


def respelt_note(path: str) -> str:
    """Say that a rewards file spells the whole numbers among its ids otherwise than the pool."""
    return f"rewards: the ids of {path} differ from the pool's only as 3 and 3.0 do, and are joined"


def missing_in(source: Source, what: str, row: int) -> InputError:
    """Say that a row of a rewards file has no id, or no model."""
    return InputError(
        f"{source.place(row)}: the {what} is missing; wanted one in every row; fill it in or drop the row"
    )


def lost_note(path: str, lost: int) -> str | None:
    """Say how many rows of a rewards file belong to no answer; None where all do.

    Example:
        >>> lost_note("r.parquet", 2)
        'rewards: left out: 2 rows of r.parquet whose (id, model) is not in the pool'
    """
    return (
        f"rewards: left out: {counted(lost, 'row')} of {path} whose (id, model) is not in the pool"
        if lost
        else None
    )


def refuse_unnamed(source: Source, columns: RewardColumns) -> None:
    """Refuse a row that names no answer, a batch at a time.

    Raises:
        InputError: A row has no id, or no model.
    """
    at = 0
    for batch in source.batches(f"{columns.id} IS NULL", f"{columns.model} IS NULL", rows=1 << 20):
        for what, missing in zip(("id", "model"), batch.columns, strict=True):
            if missing.true_count:
                raise missing_in(source, what, at + int(np.argmax(to_numpy(missing))))
        at += len(batch)


class Rewards:
    """Which rewards there are: of the pool itself, and of a second file."""

    def __init__(
        self,
        source: Source,
        own: Tall | Wide,
        second: Source | None,
        *,
        id_: str,
        read: HowRead,
    ) -> None:
        self._read = read
        self._part = False
        self.notes: list[str] = []
        """Why a reward was taken that was not named, where its name does not say it; one line, or none."""
        self._source = source
        self._own = own
        self._id = id_
        self.second = second
        self._columns = None if second is None else self._match(second)

    @property
    def names(self) -> tuple[str, ...]:
        """Candidates: numeric columns that are not counts, costs or numbers of a sample."""
        second = () if self._columns is None else candidates(self._columns.rewards)
        return candidates(self._own.rewards) + second

    def name(self, reward: str | None, answers: Callable[[], WideAnswers | TallAnswers]) -> str:
        """Find which reward is meant; see `Pool.reward_name`. The answers are read only where it is not numeric."""
        path, found = self._source.path, self.names
        listed = ", ".join(found) or "none"
        if reward is None:
            reward = self.usual
            nearly = self.nearly(answers)
            if nearly is not None:
                raise nearly
            self.notes = [] if reward is None or says_reward(reward) else self._alone(reward)
        if reward is None and found:
            many = "several reward columns" if len(self.likely) > 1 else self._none_likely
            other = ", or score the answers with `crowdselect reward`; to choose without: `crowdselect select --method random --answer random`"
            combined = f" ({_SEVERAL})" if len(self.likely) > 1 else other
            listed = ", ".join(self.likely or sorted(found, key=unlikely))
            raise RewardError(f"{path}: {many}: {listed}; name the one to use with `reward`{combined}")
        if reward is None:
            raise RewardError(
                f"{path}: no reward: no numeric column for one among {', '.join(self._source.columns)}; "
                "wanted one, or a second file of rewards, which `crowdselect reward` makes"
            )
        if self.owns(reward) or (self._columns is not None and reward in Directed(self._columns.rewards)):
            self._check_direction(reward, answers)
            return reward
        self._refuse_text(reward, answers)
        if all(part.strip() in found for part in reward.split(",")):
            raise RewardError(f"{path}: {reward!r} is not one reward column; {_SEVERAL}")
        outer = self._source.columns.get(reward.partition(".")[0])
        inside = (
            f"; inside an object it is named with `columns='reward={reward}'`"
            if outer is not None and outer.fields
            else ""
        )
        raise RewardError(
            f"{path}: no reward column {reward!r}; found {listed}{near_miss(reward, found)}{inside}"
        )

    def _alone(self, reward: str) -> list[str]:
        """Say that a number is the reward because no other may be one; nothing where there is no other."""
        others = ", ".join(name for name in self.names if name != reward)
        told = (
            f"the reward is {reward}; of the others ({others}) none is a number that may be one by its name and differs between "
            "the answers to an instruction; if it is another, name it with `reward`"
        )
        return [told] if others else []

    @property
    def _none_likely(self) -> str:
        """Say why no number may be the reward."""
        same = [name for name in self.names if name in self._same and says_reward(name)]
        verb = "is" if len(same) == 1 else "are"
        told = f"{', '.join(same)} {verb} the same for all answers to an instruction, and no other"
        return f"{told if same else 'no'} column has the name of a reward"

    @property
    def usual(self) -> str | None:
        """The reward that is meant where none is named: the only one, or the only one of the usual names or of numbers."""
        first = [name for name in self.names if FIRST_REWARDS.fullmatch(name)]
        if len(first) == 1:
            return first[0]
        bools = self._own.bools | (frozenset() if self._columns is None else self._columns.bools)
        numbers = [name for name in self.likely if name not in bools]
        return next((names[0] for names in (self.likely, numbers) if len(names) == 1), None)

    @property
    def likely(self) -> tuple[str, ...]:
        """The candidates that may be meant where none is named, the likeliest first.

        Numbers with the name of an index, a count, a person or an effort are not, nor are those that are the same for all
        answers to each instruction, which tell of it and not of an answer. The only number of a second file is one whatever its
        name.
        """
        second = () if self._columns is None else candidates(self._columns.rewards)
        found = [name for name in self.names if not no_reward(name) or second == (name,)]
        return tuple(sorted((name for name in found if name not in self._same), key=unlikely))

    @cached_property
    def _same(self) -> frozenset[str]:
        """The pool's numbers that are the same for all answers to each instruction; one of the usual names is never one."""
        answers = self._own
        found = {n: answers.rewards[n] for n in candidates(answers.rewards) if not FIRST_REWARDS.fullmatch(n)}
        if not found:
            return frozenset()
        values = [sql if isinstance(sql, str) else f"[{', '.join(sql.values())}]" for sql in found.values()]
        key = self._id if isinstance(answers, Tall) and not answers.nested else None
        same = self._source.same_for_each(key, values)
        return frozenset(name for name, is_same in zip(found, same, strict=True) if is_same)

    def _check_direction(self, reward: str, answers: Callable[[], WideAnswers | TallAnswers]) -> None:
        """Ask which way a reward counts whose name says that lower is better, or may be.

        Raises:
            RewardError: It has such a name, and no direction; or it is the same for all answers to each instruction.
        """
        called = self._read.named.get(
            reward, reward
        )  # a column that is read as the reward says more by its own name
        if direction_of(reward)[1] is not None or _LOWER.search(called) is None:
            return
        path, known = self._source.path, reward if called == reward else f"{reward} ({called})"
        values = answers().scores(reward) if self.owns(reward) else np.empty(0)
        values_there = values[~np.isnan(values)]
        if values.ndim > 1 and tells_of_rows_alone(values):
            raise RewardError(f"{path}: {same_for_all(known)}; {instead_of(reward)}")
        low, high = (values_there.min(), values_there.max()) if values_there.size else (0, 0)
        if high < 0 and _PERPLEXITY.search(called):
            return  # lm-evaluation-harness writes log-likelihoods, and what is lower is better is reversed in its logs
        goes = (
            f"{known} goes from {low:g} to {high:g}, and its name"
            if values_there.size
            else f"the name {known}"
        )
        scaled = f" (`reward={reward}:down/{high:g}` makes it 0 to 1)" if low >= 0 and high > 0 else ""
        raise RewardError(
            f"{path}: {goes} does not say which end is better; write `reward={reward}:down` where lower is better{scaled}, "
            f"`reward={reward}:up` where higher is"
        )

    def owns(self, name: str) -> bool:
        """Say whether a reward is a column of the pool itself."""
        return name in Directed(dict.fromkeys(self._own.rewards, ""))

    def joined(self, reward: str) -> bool:
        """Say whether a reward comes from the second file; if so, see that every row of that names an answer.

        Raises:
            InputError: A row has no id, or no model.
        """
        if self.second is None or self._columns is None or self.owns(reward):
            return False
        refuse_unnamed(self.second, self._columns)
        return True

    def lost_from(self, kept: int) -> str | None:
        """Say how many rows of the second file belong to no answer, where `kept` of them do; None where all do."""
        return None if self.second is None else lost_note(self.second.path, self.second.row_count - kept)

    def call(self, path: str) -> None:
        """Say what messages are to call the second file, where it is a copy of a part of another."""
        if self.second is not None:
            self.second.path = path
            self._part = True

    def file(self, index: Index, answers: WideAnswers | TallAnswers) -> RewardsFile | None:
        """Open the second file for the answers of the pool; None where there is none."""
        if self.second is None or self._columns is None:
            return None
        return RewardsFile(
            self.second,
            self._columns,
            index,
            answers,
            read=self._read,
            texts=self._own.has_texts,
            part=self._part,
        )

    def _match(self, second: Source) -> RewardColumns:
        """Find the columns of the second file; none may have the name of a reward of the pool."""
        if "model" not in second.columns:
            filed = filed_by_answer(self._source.originals, second, self._read.named)
            if filed is not None:
                raise filed
        columns = reward_columns(second.columns, path=second.path)
        both = sorted(set(candidates(self._own.rewards)) & set(candidates(columns.rewards)))
        if both:
            raise RewardError(
                f"{second.path}: {', '.join(both)} is a reward of {self._source.path} too; rename it in one of the two"
            )
        return without_values(columns, self._read)

    def nearly(self, answers: Callable[[], WideAnswers | TallAnswers]) -> RewardError | None:
        """Say what stands in a column that has the name of a reward, and would be it if all that it holds were numbers."""
        if self.usual is not None and FIRST_REWARDS.fullmatch(self.usual):
            return None
        for name, sql in self._own.fields.items():
            first = FIRST_REWARDS.fullmatch(name.casefold()) or (not self.names and _GRADES.fullmatch(name))
            if not first or name in self._own.rewards or (self.likely and self._is_of_rows(name)):
                continue
            if not self.names or (isinstance(sql, str) and any(self._source.any(self._some_number(sql)))):
                return self._text(name, answers)
        written = self._mostly_scores()
        if written is None:
            return None
        return RewardError(f"no reward; {written} may be it, as text: {self._text(written, answers)}")

    def _mostly_scores(self) -> str | None:
        """The first column of texts of which most are scores, and some no numbers, where no other may be the reward."""
        own = self._own
        if not isinstance(own, Tall) or own.nested or self.likely or self.second is not None:
            return None
        texts = {
            name: sql for name, sql in own.fields.items() if name not in own.rewards and not no_reward(name)
        }
        tests = [
            f"2 * count(*) FILTER (regexp_full_match({sql}, '{WRITTEN}')) > count(nullif(trim({sql}), '')) AND "
            f"bool_or(regexp_full_match({sql}, '{WRITTEN}') AND TRY_CAST({sql} AS DOUBLE) IS NULL)"
            for sql in texts.values()
        ]
        found = self._source.fetch(*tests).columns if tests else []
        return next((name for name, is_one in zip(texts, found, strict=True) if is_one[0].as_py()), None)

    def _some_number(self, sql: str) -> str:
        """SQL that is true where a text is a number, however it is written, or one of some is."""
        if isinstance(self._own, Tall) and self._own.nested:
            return f"len(list_filter({sql}, lambda value: {_is_number('value')})) > 0"
        return _is_number(sql)

    def _refuse_text(self, name: str, answers: Callable[[], WideAnswers | TallAnswers]) -> None:
        """Stop where a name is that of a column, but not of a numeric one."""
        if name in self._own.fields:
            raise self._text(name, answers)
        if self.second is not None and self._columns is not None and name in self._columns.fields:
            found = first_not_number(self.second, None, self._columns.fields[name])
            raise not_numeric(self.second.path, name, found, column=True)

    def _text(self, name: str, answers: Callable[[], WideAnswers | TallAnswers]) -> RewardError:
        column = isinstance(self._own, Tall) and not self._own.nested
        found = answers().not_a_number(name)
        if found is None and self._is_of_rows(name):
            return RewardError(f"{self._source.path}: {same_for_all(name)}; {instead_of(name)}")
        beside = (
            self._answers_beside(name) if column and found is not None and found[1].startswith("[") else []
        )
        return not_numeric(self._source.path, name, found, column=column, beside=beside)

    def _is_of_rows(self, name: str) -> bool:
        """Whether a column holds numbers and is no reward: one for all answers of a row."""
        kind = self._source.columns.get(name)
        if name in self._own.rewards or kind is None or kind.name not in NUMERIC:
            return False
        return self._source.any(f"{quote(name)} IS NOT NULL")[0]

    def _answers_beside(self, name: str) -> list[str]:
        """The columns with lists of texts as long as those of a column, in the first rows."""
        fields = {n: sql for n, sql in self._own.fields.items() if isinstance(sql, str)}
        rows = np.arange(min(self._source.row_count, _LOOKED_AT))
        texts = {
            n: self._source.take(fields[n], rows).to_pylist() for n in fields if n not in self._own.rewards
        }
        return answer_lists(texts.pop(name), texts)


def same_for_all(reward: str) -> str:
    """Say that a reward tells of the instruction alone."""
    return f"{reward} is the same for all answers to each instruction, so it tells of the instruction and of no answer"


def instead_of(reward: str) -> str:
    """Say what to do with a number that tells of the instruction alone."""
    column = direction_of(reward)[0]
    return (
        f"choose by it, the highest first, with `crowdselect select --method column:{column} --answer random`, or score the answers "
        "with `crowdselect reward`"
    )


def _is_number(text: str) -> str:
    return f"(TRY_CAST({text} AS DOUBLE) IS NOT NULL OR regexp_full_match({text}, '{WRITTEN}'))"


_LOOKED_AT = 100  # rows


class SampleRewards(NamedTuple):
    """Some samples of a pool, shape (S,) each."""

    row: IntArray
    """Instruction."""
    model: IntArray
    number: FloatArray
    """Among the samples of that model."""
    reward: FloatArray
    """NaN = none."""


class Samples:
    """The answers of a pool that numbers samples: a model may have several to an instruction."""

    def __init__(
        self, answers: TallAnswers, known: Rewards, second: RewardsFile | None, asked: PoolPrompts
    ) -> None:
        self._answers = answers
        self._known = known
        self._second = second
        self._asked = asked

    def rewards(self, name: str) -> FloatArray:
        """Read a reward of every answer, for `picked`.

        Args:
            name: From `Pool.reward_name`.

        Returns:
            Shape (A,), in an order of the pool's own; NaN = no reward.
        """
        if self._second is None or self._known.owns(name):
            return self._answers.rewards(name)
        return self._second.rewards(name, self._answers)

    def cells(self, name: str) -> CellRewards:
        """Read the rewards in each cell of the matrix.

        Args:
            name: From `Pool.reward_name`. A second file that does not tell samples apart has one for each cell.

        Raises:
            InputError: One is infinite, or a mean is.
        """
        if self._second is None or self._known.owns(name):
            return self._answers.cells(self._answers.rewards(name), name)
        return self._second.cells(name)

    def cells_of(self, rewards: FloatArray) -> CellRewards:
        """Put rewards that were made of several, ordered as `rewards` has them, into the cells of the matrix."""
        return self._answers.cells(rewards, "the ensemble")

    def candidates(
        self,
        rewards: FloatArray | None,
        *,
        seed: int,
        allow_cut: bool,
        prompts: bool = False,
        texts: Texts | None = None,
    ) -> Candidates:
        """Give the answers that may be trained on, each sample for itself.

        Args:
            rewards: Of every answer, as `rewards` orders them; None = there are none.
            seed: Of ties and draws: the hash of (id, model, sample) decides.
            allow_cut: Whether samples that were cut may be taken.
            prompts: Whether to tell apart what each was an answer to.
            texts: How to tell texts apart; None = not at all.
        """
        answers, history = self._answers, self._asked.told_by if prompts else None
        own = np.full(len(answers.keys.row), np.nan) if rewards is None else rewards
        may = answers.finished(allow_cut=allow_cut)
        told_apart = self._asked.told_apart
        return answers.candidates(
            own, may=may, seed=seed, history=history, told_apart=told_apart, texts=texts
        )

    def of_rows(self, rows: IntArray, rewards: FloatArray | None) -> SampleRewards:
        """Give all samples of some instructions, by instruction as given, then model, then number.

        Args:
            rows: Instructions.
            rewards: Of every answer, as `rewards` orders them; None = there are none.
        """
        keys, at = self._answers.keys, self._answers.places_of(rows)
        own = np.full(len(at), np.nan) if rewards is None else rewards[at]
        return SampleRewards(keys.row[at], keys.model[at], keys.sample[at], own)

    def lengths_of(self, *, rows: IntArray, models: IntArray, samples: FloatArray) -> FloatArray:
        """Measure some samples in characters, one each, as `rewards_of` is told which; NaN = no text."""
        return self._answers.lengths_of(rows, models, samples)

    def rewards_of(self, name: str, *, rows: IntArray, models: IntArray, samples: FloatArray) -> FloatArray:
        """Read a reward of some samples, one each; NaN = none.

        Args:
            name: From `Pool.reward_name`.
            rows: Instructions.
            models: Places in `Pool.models`.
            samples: Numbers of samples; NaN = none.
        """
        at = self._answers.places(rows, models, samples)
        return np.where(at >= 0, self.rewards(name)[at], np.nan)
