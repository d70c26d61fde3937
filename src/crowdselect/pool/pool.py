"""A pool: instructions, the crowd's responses and their rewards, read lazily from any layout."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, OptionError, RewardError
from crowdselect.numeric.responses import Picks
from crowdselect.pool.answers import AnswerBatch, Numbers, TallAnswers, WideAnswers, not_numeric
from crowdselect.pool.cells import Targets
from crowdselect.pool.chat import Chat
from crowdselect.pool.columns import Kind, as_text, quote
from crowdselect.pool.files import fingerprint
from crowdselect.pool.index import Index, build_index, one_per_id, to_numpy, vectors
from crowdselect.pool.layouts import RewardColumns, Tall, Wide, candidates, reward_columns, view
from crowdselect.pool.prompts import Asked
from crowdselect.pool.rewardsfile import RewardsFile, lost_note, refuse_unnamed
from crowdselect.pool.source import Source, connect
from crowdselect.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa

ObjectArray = NDArray[np.object_]


def open_pool(
    path: str | os.PathLike[str],
    *,
    layout: str | None = None,
    rewards: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> "Pool":
    """Open a pool; only its columns are read.

    Args:
        path: A file, a folder or a glob of Parquet, JSONL or CSV (plain, gzip, zstd) files, or
            `hf://datasets/OWNER/NAME`.
        layout: One of `layouts.LAYOUTS`; None = recognised from the columns.
        rewards: A second file with `id`, `model` and numeric columns, joined by (id, model).
        limit: Take only this many instructions, chosen by a seeded hash of their ids.
        seed: Of that choice.

    Returns:
        The pool; close it, or use it in a `with`.

    Raises:
        InputError: The file is missing, empty or broken.
        LayoutError: Its columns fit no layout.
        OptionError: `limit` is not positive.

    Example:
        >>> import tempfile
        >>> lines = "id,instruction,model,score", "1,Hi,a,3", "1,Hi,b,4"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "pool.csv")
        ...     size = file.write_text(chr(10).join(lines))
        ...     with open_pool(file) as pool:
        ...         pool.models, pool.scores()
        (('a', 'b'), array([[3., 4.]]))
    """
    if limit is not None and limit <= 0:
        raise OptionError(f"limit is {limit}; wanted at least 1 instruction")
    return Pool(
        os.fspath(path),
        layout=layout,
        rewards=None if rewards is None else os.fspath(rewards),
        limit=limit,
        seed=seed,
    )


class Pool:
    """Instructions, models and rewards; each part is read when it is asked for.

    N instructions stand in code-point order of their ids, M models in that of their names, whatever the
    order of the file. Made by `open_pool`.
    """

    def __init__(
        self, path: str, *, layout: str | None, rewards: str | None, limit: int | None, seed: int
    ) -> None:
        self.path = path
        self.rewards_path = rewards
        self.limit = limit
        self.seed = seed
        self._join_notes: list[str] = []
        self._connection = connect()
        try:
            self._source = Source(self._connection, path)
            self._view = view(self._source.columns, path=path, layout=layout)
            self._second = None if rewards is None else Source(self._connection, rewards)
            self._second_columns = None if self._second is None else self._match(self._second)
        except BaseException:
            self.close()
            raise
        self.layout = self._view.layout
        self.columns = tuple(self._source.columns)
        self.files: tuple[Path, ...] = self._source.files + (self._second.files if self._second else ())

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
        facts = []
        if self._view.id_made:
            what = "the instruction and its answers" if self._view.row_is_instruction else "the instruction"
            facts.append(f"no id column (id, uuid or prompt_id): an id is the hash (md5) of {what}")
        return [*facts, *self._view.notes, *self._join_notes]

    @property
    def reward_columns(self) -> tuple[str, ...]:
        """Candidates for the reward: numeric columns that are not counts, costs or numbers of a sample."""
        second = () if self._second_columns is None else candidates(self._second_columns.rewards)
        return candidates(self._view.answers.rewards) + second

    @cached_property
    def ids(self) -> ObjectArray:
        """Shape (N,), in code-point order."""
        return to_numpy(self._index.ids)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The M models that answered, in code-point order; `limit` takes none away."""
        return self._answers.models

    @property
    def has_text(self) -> bool:
        """Some instruction has text."""
        text = self._asked.text
        return text is not None and text.null_count < len(text)

    @property
    def has_responses(self) -> bool:
        """There is a place for responses, filled or not."""
        answers = self._view.answers
        return bool(answers.responses) if isinstance(answers, Wide) else answers.response is not None

    def instructions(self) -> ObjectArray:
        """Read the instructions' texts.

        Returns:
            Shape (N,), of str; None where there is none, or only white space. Chat messages of one user
            turn are its content, others `role: content` blocks; without the assistant's turns where those
            differ from model to model.
        """
        text = self._asked.text
        return np.full(len(self._index.ids), None, dtype=object) if text is None else to_numpy(text)

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

    def reward_name(self, reward: str | None) -> str:
        """Find which reward is meant.

        Args:
            reward: A column; None = the only candidate.

        Returns:
            Its name.

        Raises:
            RewardError: There is none, there are several and none is named, or the named one is not numeric.
        """
        found = self.reward_columns
        listed = ", ".join(found) or "none"
        if reward is None and len(found) == 1:
            return found[0]
        if reward is None and found:
            raise RewardError(
                f"{self.path}: several reward columns: {listed}; name the one to use with --reward"
            )
        if reward is None:
            self._refuse_text_reward("score")  # what it would have been, had it been numeric
            raise RewardError(
                f"{self.path}: no reward: no numeric column for one among {', '.join(self.columns)}; "
                "wanted one, or a second file of rewards"
            )
        if reward in self._view.answers.rewards:
            return reward
        if self._second_columns is not None and reward in self._second_columns.rewards:
            return reward
        self._refuse_text_reward(reward)
        raise RewardError(f"{self.path}: no reward column {reward!r}; found {listed}")

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
            raise InputError(f"{self.path}: a crowd needs at least two models; found {found}")
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
        if self._joined is None or name in self._view.answers.rewards:
            scores = self._answers.scores(name)
        else:
            scores = self._joined.scores(name)
            self._join_notes = [] if self._joined.note is None else [self._joined.note]
        return scores

    @property
    def sampled(self) -> bool:
        """The pool numbers samples: a model may have several answers to an instruction."""
        answers = self._view.answers
        return isinstance(answers, Tall) and answers.sample is not None

    def rewards_of_answers(self, name: str) -> FloatArray:
        """Read a reward of every answer of a pool with samples, for `picked_samples`.

        Args:
            name: From `reward_name`.

        Returns:
            Shape (A,), in an order of the pool's own; NaN = no reward.
        """
        answers = self._tall
        if self._joined is None or name in self._view.answers.rewards:
            return answers.rewards(name)
        return self._joined.rewards(name, answers)

    def picked_samples(
        self, rewards: FloatArray | None, *, seed: int, prompts: bool, allow_cut: bool
    ) -> Picks:
        """Choose which sample stands for each model, in a pool with samples.

        Args:
            rewards: Of every answer, as `rewards_of_answers` orders them; None = there are none.
            seed: Of ties: the hash of (id, model, sample) decides.
            prompts: Whether to tell apart what each was an answer to.
            allow_cut: Whether samples that were cut may be taken.

        Returns:
            The best-rewarded sample of each model that may be trained on, and the worst.
        """
        answers, history = self._tall, self._asked.history if prompts else None
        own = np.full(len(answers.keys.row), np.nan) if rewards is None else rewards
        may = answers.finished(allow_cut=allow_cut)
        return answers.pick(own, may=may, seed=seed, history=history, told_apart=self._asked.told_apart)

    def rewards_of_samples(
        self, name: str, *, rows: IntArray, models: IntArray, samples: FloatArray
    ) -> FloatArray:
        """Read a reward of some samples, one each; NaN = none.

        Args:
            name: From `reward_name`.
            rows: Instructions.
            models: Places in `models`.
            samples: Numbers of samples; NaN = none.
        """
        at = self._tall.places(rows, models, samples)
        return np.where(at >= 0, self.rewards_of_answers(name)[at], np.nan)

    @property
    def _tall(self) -> TallAnswers:
        if not isinstance(self._answers, TallAnswers):
            raise InputError(f"{self.path}: the pool has no samples")
        return self._answers

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

    def targets(self, *, allow_cut: bool = False) -> Targets:
        """Say which answers may be trained on: those with text that came to their end, as far as the pool says so.

        Args:
            allow_cut: Take those as well that were cut.

        Returns:
            As `answered`, and what was left out of that; a pool says so in a text column `finish_reason`.
        """
        return self._answers.targets(allow_cut=allow_cut)

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
            samples: The number of the sample of each, from `picked_samples`; None = the first with text. Says
                nothing in a pool without samples.

        Returns:
            Their texts; None where there is none or it is empty.

        Raises:
            InputError: An id or a model is not in the pool.
        """
        return self._answers.responses(self._cells_of(pairs), samples)

    def stream_responses(self, size: int = 1000) -> Iterator[AnswerBatch]:
        """Read all responses in the order of the file; memory holds one batch.

        Args:
            size: About so many at a time.

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
        yield from self._answers.stream(size, self._asked.history)

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
    def filled(self) -> tuple[Path, ...]:
        """Its own files that hold rows."""
        return self._source.filled

    @property
    def wide(self) -> bool:
        """Whether the columns say which models there are."""
        return isinstance(self._view.answers, Wide)

    def joined(self, reward: str) -> bool:
        """Say whether a reward comes from the second file; if so, see that every row of that names an answer.

        Raises:
            InputError: A row has no id, or no model.
        """
        if self._second is None or self._second_columns is None or reward in self._view.answers.rewards:
            return False
        refuse_unnamed(self._second, self._second_columns)
        return True

    def lost_from(self, kept: int) -> str | None:
        """Say how many rows of the second file belong to no answer, where `kept` of them do; None where all do."""
        return None if self._second is None else lost_note(self._second.path, self._second.row_count - kept)

    def call_rewards(self, path: str) -> None:
        """Say what messages are to call the second file, where it is a copy of a part of another."""
        if self._second is not None:
            self._second.path = path

    def fingerprint(self) -> str:
        """Hash the sizes and both ends of all files, cheaply; where they lie plays no part."""
        return fingerprint(self.files)

    def _match(self, second: Source) -> RewardColumns:
        """Find the columns of the rewards file; none may have the name of a reward of the pool."""
        columns = reward_columns(second.columns, path=second.path)
        both = sorted(set(candidates(self._view.answers.rewards)) & set(candidates(columns.rewards)))
        if both:
            raise RewardError(
                f"{second.path}: {', '.join(both)} is a reward of {self.path} too; rename it in one of the two"
            )
        return columns

    def _refuse_text_reward(self, name: str) -> None:
        """Stop where a name is that of a column, but not of a numeric one."""
        if name in self._view.answers.fields:
            raise not_numeric(self.path, name, self._answers.not_a_number(name))
        if (
            self._joined is not None
            and self._second_columns is not None
            and name in self._second_columns.fields
        ):
            raise not_numeric(str(self.rewards_path), name, self._joined.not_a_number(name))

    @cached_property
    def _index(self) -> Index:
        return build_index(self._source, self._view, limit=self.limit, seed=self.seed)

    @cached_property
    def _answers(self) -> WideAnswers | TallAnswers:
        layout = self._view.answers
        if isinstance(layout, Tall):
            return TallAnswers(self._source, layout, self._index)
        return WideAnswers(self._source, layout, self._index)

    @cached_property
    def _joined(self) -> RewardsFile | None:
        if self._second is None or self._second_columns is None:
            return None
        return RewardsFile(self._second, self._second_columns, self._index, self._answers)

    @cached_property
    def _asked(self) -> Asked:
        return Asked(self._source, self._view, self._index)

    def _one_per_id(self, sql: str, what: str) -> "pa.Array":
        return one_per_id(self._source, self._view, self._index, sql, what=what)

    def _kind(self, name: str) -> Kind:
        if name not in self._source.columns:
            raise InputError(f"{self.path}: no column {name!r}; found {', '.join(self.columns)}")
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
