"""A pool: instructions, the crowd's responses and their rewards, read lazily from any layout."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, OptionError, RewardError, near_miss
from crowdselect.pool.batches import AnswerBatch, Numbers, Targets, Texts
from crowdselect.pool.cells import CellRewards
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.columns import Kind, as_number, as_text, quote
from crowdselect.pool.files import fingerprint
from crowdselect.pool.howread import HowRead
from crowdselect.pool.index import Index, build_index, one_per_id, values_per_id, vectors
from crowdselect.pool.layouts import NUMERIC, STUDENT
from crowdselect.pool.memory import Data, on_disk
from crowdselect.pool.opening import opened
from crowdselect.pool.prompts import Chat, PoolPrompts
from crowdselect.pool.rewards import Rewards, RewardsFile, Samples
from crowdselect.pool.source import Source
from crowdselect.pool.tall import TallAnswers
from crowdselect.pool.views import Tall, Wide
from crowdselect.pool.wide import WideAnswers
from crowdselect.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa

ObjectArray = NDArray[np.object_]


def open_pool(
    data: str | os.PathLike[str] | Data,
    *,
    rewards: str | os.PathLike[str] | Data | None = None,
    limit: int | None = None,
    seed: int = 0,
    read: HowRead | None = None,
    **how: Any,  # noqa: ANN401  (the fields of `HowRead`)
) -> "Pool":
    """Open a pool.

    A pool that is not tidy (see docs/pools.md) is rewritten once in the cache folder; `Pool.read_as` says how it was
    understood.

    Args:
        data: A file, a folder or a glob of Parquet, JSONL, CSV or Arrow files, or `hf://datasets/OWNER/NAME`. Or what is
            in memory: a `datasets.Dataset`, a table of pandas, polars or PyArrow, or a list of dicts; it is written to
            the cache folder, so that it is read as the same rows in a file are.
        rewards: A second file, or data in memory, with `id`, `model` and numeric columns, joined by (id, model).
        limit: Take only this many instructions, chosen by a seeded hash of their ids.
        seed: Of that choice.
        read: How it is read, as one object.
        how: The same as arguments: `layout`, `columns`, `model`, `model_from`, `subset`, `split`, `filter`, `missing`,
            `skip_invalid`, `reasoning`, and what a crowd file says; see `crowdselect.pool.howread.HowRead`.

    Returns:
        The pool; close it, or use it in a `with`.

    Raises:
        InputError: The file is missing, empty or broken, or a row is malformed.
        LayoutError: Its columns fit no layout.
        OptionError: `limit` is not positive, or another value makes no sense.

    Example:
        >>> import tempfile
        >>> lines = "id,instruction,model,score", "1,Hi,a,3", "1,Hi,b,4"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "pool.csv")
        ...     size = file.write_text(chr(10).join(lines))
        ...     with open_pool(file) as pool:
        ...         pool.models, pool.scores()
        (('a', 'b'), array([[3., 4.]]))
        >>> rows = [{"id": "1", "instruction": "Hi", "model": model, "score": len(model)} for model in ("a", "bb")]
        >>> with open_pool(rows) as pool:
        ...     pool.scores()
        array([[1., 2.]])
    """
    if limit is not None and limit <= 0:
        raise OptionError(f"`limit` is {limit}; wanted at least 1 instruction")
    return Pool(
        on_disk(data),
        read or HowRead(**how),
        rewards=None if rewards is None else on_disk(rewards),
        limit=limit,
        seed=seed,
    )


class Pool:
    """Instructions, models and rewards; each part is read when it is asked for.

    N instructions stand in code-point order of their ids, M models in that of their names, whatever the
    order of the file. Made by `open_pool`.
    """

    def __init__(
        self, path: str, read: HowRead, *, rewards: str | None, limit: int | None, seed: int
    ) -> None:
        self.path = path
        self.read = read
        self.rewards_path = rewards
        self.limit = limit
        self.seed = seed
        self._join_notes: list[str] = []
        found = opened(path, read)
        self._connection = found.connection
        try:
            self._source, self._view = found.source, found.view
            second = None if rewards is None else Source(self._connection, rewards)
            self.rewards = Rewards(self._source, self._view.answers, second, id_=self._view.id, read=read)
        except BaseException:
            self.close()
            raise
        self.layout = self._view.layout
        self.columns = tuple(self._source.columns)
        self.read_as = found.read_as
        """How its files were understood, in one line; None where they are tidy."""
        self.evaluations = found.evaluations
        """The benchmarks whose questions its rows are, where its form says so; the rest may hold some, too."""
        self.part = found.part
        """How one of its files is opened by itself."""
        self.parts = self._source.files
        """The files that hold its rows: its own, or what they were rewritten to."""
        self.malformed = found.malformed
        self._read_notes = found.notes
        self.files: tuple[Path, ...] = found.files + (second.files if second else ())

    def __repr__(self) -> str:
        """One line, without reading the rows, for example `Pool(pool.parquet, long layout, rewards: score)`."""
        rewards = ", ".join(self.reward_columns) or "none"
        return f"Pool({Path(self.path).name}, {self.layout} layout, rewards: {rewards})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files and of DuckDB's memory; what was read before stays."""
        self._connection.close()

    @property
    def notes(self) -> list[str]:
        """Facts to tell the user, one line each; more may come as data is read."""
        facts = list(self._read_notes)
        answers = self._view.answers
        if self._view.id_made:
            whole = self._view.row_is_instruction or (isinstance(answers, Tall) and answers.whole)
            what = "the instruction and its answers" if whole else "the instruction"
            unnamed = ("id", "") in self.read.columns or self.layout == "batch"
            lacks = "" if unnamed else "no id column (id, uuid or prompt_id): "
            facts.append(f"{lacks}an id is the hash (md5) of {what}")
        found = self.__dict__.get("_answers")
        more = [] if found is None else list(found.notes)
        asked = self.__dict__.get("_asked")
        more += [] if asked is None else asked.notes
        return list(
            dict.fromkeys(
                [
                    *facts,
                    *self._source.notes,
                    *self._view.notes,
                    *more,
                    *self.rewards.notes,
                    *self._join_notes,
                ]
            )
        )

    @property
    def answers_per_id(self) -> int:
        """How many answers stand in a row with an id, where those of other rows may be to the same instruction; 0 = there are none."""
        answers = self._view.answers
        if self._view.id_made or not isinstance(answers, Tall) or answers.nested or answers.whole:
            return 0
        return answers.side_by_side

    @property
    def reward_columns(self) -> tuple[str, ...]:
        """Candidates for the reward: numeric columns that are not counts, costs or numbers of a sample."""
        return self.rewards.names

    @property
    def likely_rewards(self) -> tuple[str, ...]:
        """Those of `reward_columns` that may be meant where none is named, the likeliest first: no indices, counts, or numbers of an instruction."""
        return self.rewards.likely

    @property
    def usual_reward(self) -> str | None:
        """The reward that is meant where none is named; None where there is none, or one has to be named."""
        return self.rewards.usual

    @cached_property
    def ids(self) -> ObjectArray:
        """Shape (N,), in code-point order."""
        return to_numpy(self._index.ids)

    @property
    def id_array(self) -> "pa.Array":
        """The same as Arrow has them: a fifth of the memory of Python strings."""
        return self._index.ids

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The M models that answered, in code-point order; `limit` takes none away."""
        return self._answers.models

    @cached_property
    def students(self) -> tuple[str, ...]:
        """Those of the models that are no part of the crowd, but may learn from it: the column `is_student` is true for them.

        In code-point order. One marked row is enough, so that files that were put together lose no mark.

        Raises:
            InputError: The column holds anything but true and false.
        """
        answers = self._view.answers
        if STUDENT not in self._source.columns or isinstance(answers, Wide) or answers.nested:
            return ()
        kind = self._source.columns[STUDENT]
        if kind.name not in NUMERIC:
            raise InputError(
                f"{self.path}: column {STUDENT!r} holds {kind.name}s; wanted true in the rows of a student, or another name"
            )
        mark = f"CASE WHEN {as_number(quote(STUDENT), kind)} = 1 THEN 1 END"
        models, marks, _ = self._source.grouped(answers.model, mark).columns
        pairs = zip(models.to_pylist(), marks.to_pylist(), strict=True)
        return tuple(sorted(model for model, marked in pairs if marked and model is not None))

    @property
    def has_text(self) -> bool:
        """Some instruction has text."""
        text = self._asked.text
        return text is not None and text.null_count < len(text)

    @property
    def has_responses(self) -> bool:
        """There is a place for responses, filled or not."""
        return self._view.answers.has_texts

    def instructions(self) -> ObjectArray:
        """Read the instructions' texts.

        Returns:
            Shape (N,), of str; None where there is none, or only white space. Chat messages of one user
            turn are its content, others `role: content` blocks; without the assistant's turns where those
            differ from model to model.
        """
        return self._texts

    @property
    def text_array(self) -> "pa.Array":
        """The same as `instructions` gives, as Arrow has it."""
        import pyarrow as pa

        text = self._asked.text
        return pa.nulls(len(self._index.ids), pa.string()) if text is None else text

    @property
    def prompt_forms(self) -> NDArray[np.int64]:
        """Shape (N,): what each prompt was found to be, a place in `crowdselect.pool.rendered.FORMS`."""
        return self._asked.forms

    def texts_of(self, ids: Sequence[str]) -> list[str | None]:
        """Read the texts of some instructions; see `instructions`.

        Raises:
            InputError: An id is not in the pool.
        """
        text, rows = self._asked.text, self._rows_of(ids)
        return [None] * len(rows) if text is None else [text[row].as_py() for row in rows]

    def prompts(self, pairs: Sequence[tuple[str, str]], samples: Numbers | None = None) -> list[Chat]:
        """Give the messages that stand before some answers.

        Args:
            pairs: (id, model) of each.
            samples: As for `responses`.

        Returns:
            For each its messages, {"role": ..., "content": ...}; an `instruction` is one user message. No messages
            where there is no text. Where models had conversations of their own, this model's, with its
            earlier answers; of several samples the one that `responses` gives.

        Raises:
            InputError: An id or a model is not in the pool.
        """
        return self._asked.prompts(self._cells_of(pairs), self._answers, samples)

    def prompts_of(self, batch: AnswerBatch) -> list[Chat]:
        """Give the messages that stand before each answer of a batch from `stream_responses`."""
        return self._asked.prompts_of(batch, self.models)

    def prompt_codes(self) -> NDArray[np.int64] | None:
        """Tell apart the prompts within an id: models may have had conversations of their own.

        Returns:
            Shape (N, M): answers of one id with the same number were given to the same messages, -1 = no
            answer. None where that is so for all answers of every id.
        """
        return self._asked.codes(self._answers)

    def asked(self, ids: Sequence[str]) -> list[Chat]:
        """Give the messages that all models were asked, of some instructions; no messages where there is no text.

        Raises:
            InputError: An id is not in the pool.
        """
        return self._asked.of_rows(self._rows_of(ids))

    def text_codes(self, texts: Texts = "folded") -> NDArray[np.int64]:
        """Tell apart the texts of answers within an id.

        Args:
            texts: "folded": but for case and white space; "spaced": but for white space, and with the reasoning before
                them, unless that is to be dropped.

        Returns:
            Shape (N, M): answers of the same number have the same text, -1 = no text.
        """
        return self._answers.text_codes(texts)

    def reward_name(self, reward: str | None) -> str:
        """Find which reward is meant.

        Args:
            reward: A column; None = the only candidate.

        Returns:
            Its name.

        Raises:
            RewardError: There is none, there are several and none is named, or the named one is not numeric.
        """
        return self.rewards.name(reward, lambda: self._answers)

    def text_reward(self) -> str | None:
        """Say what stands in a column that has the name of a reward, and holds texts; None = there is none."""
        nearly = self.rewards.nearly(lambda: self._answers)
        return None if nearly is None else str(nearly)

    def scores(self, reward: str | None = None) -> FloatArray:
        """Read the score matrix.

        Args:
            reward: See `reward_name`.

        Returns:
            Shape (N, M), column-major; higher is better, NaN = no reward. The mean where an answer was
            sampled several times.

        Raises:
            RewardError: See `reward_name`; or the reward is missing everywhere.
            InputError: Fewer than two models, an infinite reward, an answer that stands twice.
        """
        name = self.reward_name(reward)
        if len(self.models) < 2:
            found = f"only {self.models[0]!r}" if self.models else "none"
            raise InputError(
                f"{self.path}: a crowd needs at least two models; found {found}; without one choose with `method='reward'`"
            )
        scores = self.scores_of_part(name)
        if np.isnan(scores).all():
            raise RewardError(f"{self.path}: no reward: {name} is missing for every instruction and model")
        return scores

    def scores_of_part(self, name: str) -> FloatArray:
        """Do what `scores` does where this is one file of a larger pool: it may hold one model, or no reward.

        Args:
            name: From the whole pool's `reward_name`.

        Raises:
            InputError: As for `scores`.
        """
        cells = self.cells_of_part(name)
        if cells is not None:
            return cells.means()
        if self._joined is None or self.rewards.owns(name):
            return self._answers.scores(name)
        scores = self._joined.scores(name)
        self._join_notes = self._joined.notes
        return scores

    def cells_of_part(self, name: str) -> CellRewards | None:
        """Read the rewards in each cell of the matrix, where a model may have several; None where it has one.

        Args:
            name: From the whole pool's `reward_name`.

        Raises:
            InputError: As for `scores`.
        """
        samples = self.samples
        if samples is None:
            return None
        cells = samples.cells(name)
        if self._joined is not None and not self.rewards.owns(name):
            self._join_notes = self._joined.notes
        return cells

    @property
    def sampled(self) -> bool:
        """A model may have several answers to an instruction, by number."""
        return isinstance(self._answers, TallAnswers) and self._answers.sampled

    @property
    def samples(self) -> Samples | None:
        """The answers of a pool that numbers samples; None where it does not."""
        if not self.sampled or not isinstance(self._answers, TallAnswers):
            return None
        return Samples(self._answers, self.rewards, self._joined, self._asked)

    @property
    def lost_rewards(self) -> int:
        """How many rows of the second file belong to no answer; known once its rewards were read."""
        return 0 if self._joined is None else self._joined.lost

    def answered(self) -> BoolArray:
        """Say where there is a response that is not empty (null, or only white space).

        Returns:
            Shape (N, M), column-major. Says nothing where the pool has no place for responses: see
            `has_responses`.
        """
        return self._answers.answered()

    def empty(self, rewarded: BoolArray) -> IntArray:
        """Count the answers that have a reward but no text, nor anything else such as a call of tools, in each cell.

        Args:
            rewarded: Which answers have a reward: shape (A,) as `Samples.rewards` orders them, in a pool without samples (N, M).

        Returns:
            Shape (N, M). Says nothing where the pool has no place for responses.
        """
        return self._answers.empty(rewarded)

    def endings(self) -> list[dict[str, int]]:
        """Count, per model, how its answers with text ended, as `crowdselect.finish.ENDINGS`; nothing where that is not known."""
        return self._answers.endings_of_models()

    def targets(self, *, allow_cut: bool = False, models: Sequence[str] | None = None) -> Targets:
        """Say which answers may be trained on: those with text that came to their end, as far as the pool says so.

        Args:
            allow_cut: Take those as well that were cut.
            models: Whose answers count among the endings, which are not all trained on; None = all.

        Returns:
            As `answered`, and what was left out of that; a pool says so in a text column `finish_reason`.
        """
        wanted = self.models if models is None else models
        counted = np.flatnonzero([name in wanted for name in self.models])
        return self._answers.targets(allow_cut=allow_cut, counted=counted)

    def response_lengths(self) -> FloatArray:
        """Measure the responses; they are not read into memory.

        Returns:
            Shape (N, M), column-major: characters, the mean over samples. NaN where there is no text, and
            everywhere where the pool has no place for responses.
        """
        return self._answers.lengths()

    def responses(self, pairs: Sequence[tuple[str, str]], samples: Numbers | None = None) -> list[str | None]:
        """Read some responses, and no others.

        Args:
            pairs: (id, model) of each.
            samples: The number of the sample of each; None = the first with text. Says
                nothing in a pool without samples.

        Returns:
            Their texts; None where there is none or it is empty.

        Raises:
            InputError: An id or a model is not in the pool.
        """
        return self._answers.responses(self._cells_of(pairs), samples)

    def exported(self, pairs: Sequence[tuple[str, str]], samples: Numbers | None = None) -> list[str | None]:
        """Read some responses as they are written for training: with the reasoning before them, unless that is to be dropped.

        Args:
            pairs: See `responses`.
            samples: Likewise.

        Raises:
            InputError: An id or a model is not in the pool.
        """
        whole = self.read.reasoning == "keep"
        return self._answers.responses(self._cells_of(pairs), samples, whole=whole)

    def tools(self, ids: Sequence[str]) -> list[str | None]:
        """Read the tools that may be called for some instructions, as JSON; None where there are none.

        Raises:
            InputError: An id is not in the pool.
        """
        rows = self._rows_of(ids)
        sql = self._view.tools
        if sql is None:
            return [None] * len(rows)
        found = self._one_per_id(sql, "tools")
        return [found[row].as_py() for row in rows]

    def left_out(self) -> ObjectArray:
        """Say what bars instructions by what they are, shape (N,): a reason code, perhaps with words after a colon; else None."""
        out = np.full(len(self._index.ids), None, dtype=object)
        if self._view.left_out is not None:
            out = to_numpy(values_per_id(self._source, self._view, self._index, self._view.left_out)[0])
        answers = self._view.answers
        if isinstance(answers, Tall) and answers.not_text is not None:
            odd, _ = values_per_id(
                self._source, self._view, self._index, f"NULLIF({answers.not_text}, false)"
            )
            none = to_numpy(odd.is_valid()) & ~self.answered().any(axis=1) & (out == np.array(None))
            out[none] = "not_text"
        return out

    def needs(self) -> ObjectArray:
        """Say what an export of instructions has to hold, shape (N,): words of `turns` and `tools`; else an empty text."""
        out = np.full(len(self._index.ids), "", dtype=object)
        if self._view.needs is not None:
            low, high = values_per_id(self._source, self._view, self._index, self._view.needs)
            pairs = zip(to_numpy(low), to_numpy(high), strict=True)
            out[:] = [" ".join(part for part in pair if part is not None) for pair in pairs]
        return out

    def stream_responses(self, size: int = 1000, *, endings: bool = False) -> Iterator[AnswerBatch]:
        """Read all responses in the order of the file; memory holds one batch.

        Args:
            size: About so many at a time.
            endings: Say how each ended, as far as the pool knows.

        Yields:
            Batches of answers; an answer without text is among them, with None. Nothing else may be read from
            the pool before the last, but for `ids`, `models` and what was read already.

        Raises:
            InputError: The pool has no place for responses, or an answer stands twice.
        """
        if not self.has_responses:
            raise InputError(f"{self.path}: the pool holds no responses; found {', '.join(self.columns)}")
        _ = self.models  # before the first query of the stream
        self._asked.load()
        yield from self._answers.stream(size, self._asked.history, endings=endings)

    def column(self, name: str) -> ObjectArray:
        """Read a column that has one value per instruction.

        Args:
            name: Any of `columns`.

        Returns:
            Shape (N,), of str; None where missing.

        Raises:
            InputError: There is no such column, or its values differ within an id.
        """
        text = as_text(quote(name), self._kind(name))
        return to_numpy(self._one_per_id(f"nullif({text}, '')", f"column {name!r}"))

    def values_of(self, name: str, ids: Sequence[str]) -> list[str | None]:
        """Read a column that has one value per instruction, of some of them; see `column`.

        Raises:
            InputError: As for `column`; or an id is not in the pool.
        """
        values = self.column(name)
        return [values[row] for row in self._rows_of(ids)]

    def vector_column(self, name: str) -> NDArray[np.float32]:
        """Read a column of vectors.

        Args:
            name: Any of `columns` that holds lists of numbers.

        Returns:
            Shape (N, D).

        Raises:
            InputError: There is no such column, a vector is missing or of another length, or is not of numbers.
        """
        kind = self._kind(name)
        if kind.name not in {"list", "text"}:
            raise InputError(
                f"{self.path}: column {name!r} holds no vectors but {kind.name}s; wanted lists of numbers"
            )
        values = self._one_per_id(f"TRY_CAST({quote(name)} AS FLOAT[])", f"column {name!r}")
        return vectors(values, self._index, what=f"{self.path}: column {name!r}")

    @property
    def row_count(self) -> int:
        """Rows of its files, whatever a row is."""
        return self._source.row_count

    @property
    def odd_file(self) -> str | None:
        """Which of several Parquet files has other columns than the first, and which; None where they agree."""
        return self._source.odd_file()

    @property
    def read_files(self) -> tuple[Path, ...]:
        """What is read: its parts, and the second file of rewards."""
        second = self.rewards.second
        return self.parts + (second.files if second is not None else ())

    @property
    def filled(self) -> tuple[Path, ...]:
        """Its own files that hold rows."""
        return self._source.filled

    @property
    def wide(self) -> bool:
        """Whether the columns say which models there are."""
        return isinstance(self._view.answers, Wide)

    def fingerprint(self) -> str:
        """Hash the sizes and both ends of all files, cheaply; where they lie plays no part."""
        return fingerprint(self.files)

    @cached_property
    def _index(self) -> Index:
        return build_index(self._source, self._view, limit=self.limit, seed=self.seed)

    @cached_property
    def _answers(self) -> WideAnswers | TallAnswers:
        layout = self._view.answers
        if isinstance(layout, Tall):
            view = self._view
            parts = [sql for sql in (view.text, view.messages, view.tools) if sql is not None]
            everything = f"concat_ws(chr(31), {', '.join(parts)})" if parts else None
            return TallAnswers(
                self._source,
                layout,
                self._index,
                everything=everything,
                row_number=view.row_number,
                reasoned=self.read.reasoning == "keep",
            )
        return WideAnswers(self._source, layout, self._index, reasoned=self.read.reasoning == "keep")

    @cached_property
    def _joined(self) -> RewardsFile | None:
        return self.rewards.file(self._index, self._answers)

    @cached_property
    def _texts(self) -> ObjectArray:
        text = self._asked.text
        return np.full(len(self._index.ids), None, dtype=object) if text is None else to_numpy(text)

    @cached_property
    def _asked(self) -> PoolPrompts:
        return PoolPrompts(self._source, self._view, self._index)

    def _one_per_id(self, sql: str, what: str) -> "pa.Array":
        return one_per_id(self._source, self._view, self._index, sql, what=what)

    def _kind(self, name: str) -> Kind:
        if name not in self._source.columns:
            raise InputError(
                f"{self.path}: no column {name!r}; found {', '.join(self.columns)}{near_miss(name, self.columns)}"
            )
        return self._source.columns[name]

    def _cells_of(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
        """Place (id, model) pairs in the matrix."""
        places = {model: j for j, model in enumerate(self.models)}
        for _, model in pairs:
            if model not in places:
                raise InputError(f"{self.path}: no model {model!r}; found {', '.join(self.models)}")
        rows = self._rows_of([id_ for id_, _ in pairs])
        return [(row, places[model]) for row, (_, model) in zip(rows, pairs, strict=True)]

    def _rows_of(self, ids: Sequence[str]) -> list[int]:
        import pyarrow as pa

        rows, _ = self._index.find(pa.array(ids, type=self._index.ids.type))
        if (rows < 0).any():
            raise InputError(f"{self.path}: no id {ids[int(np.argmax(rows < 0))]!r} in the pool")
        return [int(row) for row in rows]
