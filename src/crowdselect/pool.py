"""A pool: instructions, the crowd's responses and their rewards, read lazily from any layout."""

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from crowdselect.answers import BoolArray, FloatArray, Index, RewardsFile, TallAnswers, WideAnswers, build_index
from crowdselect.errors import InputError, OptionError, RewardError
from crowdselect.files import fingerprint
from crowdselect.layouts import NOT_REWARDS, Tall, Wide, as_text, blank, quote, reward_view, view
from crowdselect.sources import Source, connect

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
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = Path(folder.name, "pool.csv")
        >>> _ = file.write_text("id,instruction,model,score\\n1,Hi,a,3\\n1,Hi,b,4\\n")
        >>> with open_pool(file) as pool:
        ...     pool.models, pool.scores()
        (('a', 'b'), array([[3., 4.]]))
        >>> folder.cleanup()
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
    """Instructions × models × rewards; each part is read when it is asked for.

    N instructions stand in code-point order of their ids, M models in that of their names, whatever the
    order of the file. Made by `open_pool`.
    """

    def __init__(self, path: str, *, layout: str | None, rewards: str | None, limit: int | None, seed: int) -> None:
        self.path = path
        self.rewards_path = rewards
        self._limit = limit
        self._seed = seed
        self._connection = connect()
        self._source = Source(self._connection, path)
        self._view = view(self._source.columns, path=path, layout=layout)
        self._rewards = self._open_rewards(rewards) if rewards is not None else None
        self.layout = self._view.layout
        self.columns = tuple(self._source.columns)
        self.files: tuple[Path, ...] = self._source.files + (self._rewards.source.files if self._rewards else ())
        self._notes: list[str] = []
        if self._view.id_made:
            wanted = "instruction" if self.layout == "long" else "instruction and its answers"
            self._notes.append(f"no id column (id, uuid, prompt_id): ids are a hash (md5) of the {wanted}")

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
        return [*self._notes, *(self._rewards.notes if self._rewards else ())]

    @property
    def reward_columns(self) -> tuple[str, ...]:
        """Candidates for the reward: numeric columns that are not counts, costs or numbers of a sample."""
        return self._view.reward_columns + (self._rewards.reward_columns if self._rewards else ())

    @cached_property
    def ids(self) -> ObjectArray:
        """Shape (N,), in code-point order."""
        return _objects(self._index.ids)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The M models that answered, in code-point order; `limit` takes none away."""
        return self._answers.models

    @property
    def has_text(self) -> bool:
        """Some instruction has text."""
        return self._text is not None and self._text.null_count < len(self._text)

    @property
    def has_responses(self) -> bool:
        """There is a place for responses, filled or not."""
        answers = self._view.answers
        return bool(answers.responses) if isinstance(answers, Wide) else answers.response is not None

    def instructions(self) -> ObjectArray:
        """Read the instructions' texts.

        Returns:
            Shape (N,), of str; None where there is none, or only white space. Chat messages of one user
            turn are its content, others `role: content` blocks.
        """
        if self._text is None:
            return np.full(len(self._index.ids), None, dtype=object)
        return _objects(self._text)

    def prompts(self, ids: Sequence[str]) -> list[list[dict[str, str]]]:
        """Give instructions as chat messages.

        Args:
            ids: Any of the pool's.

        Returns:
            For each id its messages, {"role": ..., "content": ...}; an `instruction` is one user message.
            No messages where there is no text.

        Raises:
            InputError: An id is not in the pool.
        """
        return [self._prompt(i) for i in self._rows_of(ids)]

    def reward_name(self, reward: str | None) -> str:
        """Find which reward is meant.

        Args:
            reward: A column; None = the only candidate.

        Returns:
            Its name.

        Raises:
            RewardError: There is none, there are several and none is named, or the named one is not numeric.
        """
        candidates = self.reward_columns
        listed = ", ".join(candidates) or "none"
        if reward is None:
            if not candidates:
                raise RewardError(
                    f"{self.path}: no reward: no numeric column among {', '.join(self.columns)}; "
                    "wanted one, or a second file of rewards"
                )
            if len(candidates) > 1:
                raise RewardError(f"{self.path}: several reward columns: {listed}; name the one to use")
            return candidates[0]
        own = self._view.answers
        if reward in own.rewards or (self._rewards and reward in self._rewards.rewards):
            return reward
        for path, fields, part in self._reward_places():
            if reward in fields:
                raise _not_numeric(path, reward, part.not_a_number(reward))
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
        if self._rewards and name in self._rewards.rewards:
            scores = self._rewards.scores(name, self._index, self._answers)
        else:
            scores = self._answers.scores(name)
        if np.isnan(scores).all():
            raise RewardError(f"{self.path}: no reward: {name} is missing for every instruction and model")
        return scores

    def answered(self) -> BoolArray:
        """Say where there is a response that is not empty (null, or only white space).

        Returns:
            Shape (N, M), column-major. Says nothing where the pool has no place for responses: see
            `has_responses`.
        """
        return self._answers.answered()

    def responses(self, pairs: Sequence[tuple[str, str]]) -> list[str | None]:
        """Read some responses, and no others.

        Args:
            pairs: (id, model) of each.

        Returns:
            Their texts; None where there is none or it is empty. Of several samples the first that is not.

        Raises:
            InputError: An id or a model is not in the pool.
        """
        places = {model: j for j, model in enumerate(self.models)}
        for _, model in pairs:
            if model not in places:
                raise InputError(f"{self.path}: no model {model!r}; found {', '.join(self.models)}")
        rows = self._rows_of([id_ for id_, _ in pairs])
        return self._answers.responses([(i, places[model]) for i, (_, model) in zip(rows, pairs, strict=True)])

    def column(self, name: str) -> ObjectArray:
        """Read a column that has one value per instruction.

        Args:
            name: Any of `columns`.

        Returns:
            Shape (N,), of str; None where missing.

        Raises:
            InputError: There is no such column, or its values differ within an id.
        """
        return _objects(self._one_per_id(as_text(quote(name), self._kind_of(name)), f"column {name!r}"))

    def vector_column(self, name: str) -> NDArray[np.float32]:
        """Read a column of vectors.

        Args:
            name: Any of `columns` that holds lists of numbers.

        Returns:
            Shape (N, D).

        Raises:
            InputError: There is no such column, a vector is missing or of another length, or is not of numbers.
        """
        self._kind_of(name)
        vectors = self._one_per_id(f"CAST({quote(name)} AS FLOAT[])", f"column {name!r}")
        import pyarrow.compute as pc

        lengths = pc.fill_null(pc.list_value_length(vectors), -1).to_numpy(zero_copy_only=False)
        odd = np.flatnonzero((lengths != lengths[0]) | (lengths < 1))
        if odd.size:
            i = int(odd[0])
            came = "no vector" if lengths[i] < 0 else f"a vector of {lengths[i]} numbers"
            raise InputError(f"{self.path}: column {name!r} has {came} at id {self.ids[i]!r}; wanted {lengths[0]} in each row")
        flat = pc.list_flatten(vectors).to_numpy(zero_copy_only=False)
        return flat.reshape(len(lengths), int(lengths[0]))

    def fingerprint(self) -> str:
        """Hash the sizes and both ends of all files, cheaply; where they lie plays no part."""
        return fingerprint(self.files)

    def _open_rewards(self, path: str) -> RewardsFile:
        source = Source(self._connection, path)
        rewards = RewardsFile(source, reward_view(source.columns, path=path))
        both = sorted(set(self._view.reward_columns) & set(rewards.reward_columns))
        if both:
            raise RewardError(f"{path}: {', '.join(both)} is a reward of {self.path} too; rename it in one of the two")
        return rewards

    def _reward_places(self) -> list[tuple[str, Sequence[str], Any]]:
        own = (self.path, list(self._view.answers.fields), self._answers)
        return [own, (self._rewards.source.path, self._rewards.fields, self._rewards)] if self._rewards else [own]

    @cached_property
    def _index(self) -> Index:
        return build_index(self._source, self._view, limit=self._limit, seed=self._seed)

    @cached_property
    def _answers(self) -> WideAnswers | TallAnswers:
        layout = self._view.answers
        if isinstance(layout, Tall):
            return TallAnswers(self._source, layout, self._index)
        return WideAnswers(self._source, layout, self._index)

    @cached_property
    def _messages(self) -> "pa.Array | None":
        """Shape (N,), JSON text."""
        return self._one_per_id(self._view.messages, "messages") if self._view.messages else None

    @cached_property
    def _text(self) -> "pa.Array | None":
        """Shape (N,), null where there is none; None where the pool has no place for text."""
        import pyarrow as pa
        import pyarrow.compute as pc

        text, own = self._messages_text(), self._view.text
        if own is None:
            return None if text is None else pa.array(text, type=pa.large_string())
        read = self._one_per_id(f"CASE WHEN {blank(own)} THEN NULL ELSE {own} END", "instruction")
        return read if text is None else pc.coalesce(read, pa.array(text, type=read.type))

    def _messages_text(self) -> list[str | None] | None:
        if self._messages is None:
            return None
        chats = (self._chat(i) for i in range(len(self._messages)))
        return [_as_one_text(chat) for chat in chats]

    def _prompt(self, i: int) -> list[dict[str, str]]:
        chat = self._chat(i) if self._messages is not None else []
        if chat or self._text is None:
            return chat
        text = self._text[i].as_py()
        return [] if text is None else [{"role": "user", "content": text}]

    def _chat(self, i: int) -> list[dict[str, str]]:
        """Parse the messages of an instruction; none where they are missing."""
        written = None if self._messages is None else self._messages[i].as_py()
        if written is None or not written.strip():
            return []
        try:
            return [{"role": turn["role"] + "", "content": turn["content"] + ""} for turn in json.loads(written) or []]
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.path}: messages of id {self._index.ids[i].as_py()!r} are {written[:80]!r}; "
                "wanted a list of {role, content} with texts"
            ) from error

    def _one_per_id(self, sql: str, what: str) -> "pa.Array":
        """Evaluate SQL once per instruction, in the index's order.

        Raises:
            InputError: Its values differ within an id.
        """
        import pyarrow as pa

        if self._view.row_is_instruction:
            values = self._source.fetch(sql).column(0).combine_chunks()
            rows = np.flatnonzero(self._index.row_of >= 0)
            order = np.empty(len(rows), dtype=np.int64)
            order[self._index.row_of[rows]] = rows
            return values.take(pa.array(order))
        table = self._source.grouped(self._view.id, sql)
        import pyarrow.compute as pc

        rows, _ = self._index.find(table.column(0))
        keep = np.flatnonzero(rows >= 0)
        order = keep[np.argsort(rows[keep])]
        low, high = (table.column(at).combine_chunks().take(pa.array(order)) for at in (1, 2))
        differ = pc.fill_null(pc.not_equal(low, high), False) if not pa.types.is_list(low.type) else None
        if differ is not None and pc.any(differ).as_py():
            i = int(np.argmax(differ.to_numpy(zero_copy_only=False)))
            raise InputError(
                f"{self.path}: {what} differs within id {self._index.ids[i].as_py()!r}: "
                f"{low[i].as_py()[:60]!r} and {high[i].as_py()[:60]!r}; wanted one value per id"
            )
        return low

    def _kind_of(self, name: str) -> Any:
        if name not in self._source.columns:
            raise InputError(f"{self.path}: no column {name!r}; found {', '.join(self.columns)}")
        return self._source.columns[name]

    def _rows_of(self, ids: Sequence[str]) -> list[int]:
        import pyarrow as pa

        rows, _ = self._index.find(pa.array(ids, type=self._index.ids.type))
        if (rows < 0).any():
            raise InputError(f"{self.path}: no id {ids[int(np.argmax(rows < 0))]!r} in the pool")
        return [int(row) for row in rows]


def _objects(values: "pa.Array") -> ObjectArray:
    return values.to_numpy(zero_copy_only=False)


def _as_one_text(chat: list[dict[str, str]]) -> str | None:
    """Write messages as one text: a lone user turn is its content."""
    if len(chat) == 1 and chat[0]["role"] == "user":
        text = chat[0]["content"]
    else:
        text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in chat)
    return text if text.strip() else None


def _not_numeric(path: str, reward: str, found: tuple[str, str] | None) -> RewardError:
    if found is None:
        return RewardError(f"{path}: {reward} holds no numbers; wanted a column of numbers")
    return RewardError(f"{path}: {reward} is not a number at id {found[0]!r}: {found[1]!r}; wanted numbers only")
