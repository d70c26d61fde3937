"""How a selection reads its pool: as a whole, or file by file, here or on a cluster.

`Shards` is the pool with that decision; `mapped` applies a method's function to texts and answers in batches, and
`embeddable` presents the same pool to embedders. Callers need not know which of the two ways is used.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from crowdselect.cache import text_keys
from crowdselect.crowd import Crowd, students_in
from crowdselect.embed.given import is_parquet
from crowdselect.embed.reading import Advance, Embeddable, Filed, Held, Named
from crowdselect.embed.vectors import vector_kind
from crowdselect.engine.here import Run, as_it_is, run_here, unchanged
from crowdselect.errors import InputError, OptionError
from crowdselect.numeric.clusters import binned
from crowdselect.numeric.responses import Several
from crowdselect.numeric.strata import Strata
from crowdselect.pool.content import MarkerCuts
from crowdselect.pool.files import file_type
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.shards import (
    BLOCK,
    Places,
    file_sources,
    models_in,
    shard_sources,
    texts_in,
    wanted_rows,
)
from crowdselect.pool.sidecars import number_columns
from crowdselect.selection.options import RL, Options, wants_vectors
from crowdselect.selection.quota import read_quota, strata_of
from crowdselect.selection.rows import Rows
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray


LARGE = 1_000_000
"""A pool of several files with more rows is read file by file: the vectors of a million rows take 1 GB."""


@dataclass(frozen=True)
class Shards:
    """How a pool is read."""

    pool: Pool
    files: tuple[Path, ...] = ()
    """Its files, read one by one; empty = the pool is read as a whole."""
    run: Run = run_here
    """What reads them."""
    student: str | None = None
    """The model to choose for, which is no part of the crowd; None = none is named."""
    crowd: Crowd | None = None
    """From a crowd file, which may name further students."""

    @property
    def whole(self) -> bool:
        """Whether the pool is read as a whole."""
        return not self.files

    @cached_property
    def models(self) -> tuple[str, ...]:
        """The crowd: the models of all shards but students, in code-point order."""
        return tuple(name for name in self.all_models if name not in self.students)

    @cached_property
    def all_models(self) -> tuple[str, ...]:
        """The models of all shards, in code-point order."""
        if self.whole or self.pool.wide:
            return self.pool.models
        return self._named["models"]

    @cached_property
    def students(self) -> tuple[str, ...]:
        """Those of them that are no part of the crowd: the student, and those that the pool or the crowd file marks."""
        marked = self.pool.students if self.whole or self.pool.wide else self._named["students"]
        known = (*marked, *(() if self.student is None else (self.student,)))
        return students_in(self.all_models, marked=known, crowd=self.crowd)

    @cached_property
    def _named(self) -> dict[str, tuple[str, ...]]:
        """What `models_in` finds in all shards."""
        found: dict[str, set[str]] = {"models": set(), "students": set()}
        for table in self.over(models_in, read=self.pool.part):
            for kind, names in found.items():
                names.update(*table[kind].to_pylist())
        return {kind: tuple(sorted(names)) for kind, names in found.items()}

    @cached_property
    def texts(self) -> ObjectArray:
        """The instructions of a pool that is read as a whole, shape (N,); None = no text."""
        return self.pool.instructions()

    def over(self, function: Callable[..., Table], **arguments: Any) -> Iterator[Table]:  # noqa: ANN401
        """Call a function of `sources` with every shard's file."""
        return self.run(file_sources(self.files), as_it_is, function, arguments, batch=1)

    def call(self, function: Callable[..., Table], sources: list[dict[str, Any]]) -> Iterator[Table]:
        """Call a function with the given sources, one by one."""
        return self.run(sources, as_it_is, function, {"read": self.pool.part}, batch=1)

    def texts_of(self, rows: IntArray, places: Places) -> Iterator[tuple[IntArray, list[str]]]:
        """Read the texts of some rows (ascending) in blocks: row numbers, and their texts."""
        if self.whole:
            import pyarrow as pa

            yield rows, self.pool.text_array.take(pa.array(rows)).to_pylist()
            return
        sources = shard_sources(self.files, places, rows)
        for table in self.run(sources, partial(texts_in, read=self.pool.part), unchanged, {}, batch=BLOCK):
            yield places.rows(table["shard"].to_numpy(), table["row"].to_numpy()), table["text"].to_pylist()


def shards_of(
    pool: Pool,
    *,
    run: Run | None = None,
    options: Options | None = None,
    method_needs: str | None = None,
    student: str | None = None,
    crowd: Crowd | None = None,
) -> Shards:
    """Decide whether a pool is read as a whole or file by file.

    Args:
        pool: The pool, opened as usual.
        run: What reads its files one by one; None = this process, and only if the pool is large.
        options: The options of the selection, if there is one.
        method_needs: Why the method needs the pool as a whole; None if it does not.
        student: The model to choose for.
        crowd: From a crowd file.

    Raises:
        OptionError: `run` is given, and the pool or the options need the pool as a whole.
    """
    if run is None and (len(pool.parts) == 1 or pool.row_count <= LARGE):
        return Shards(pool, student=student, crowd=crowd)
    why_not = _needs_the_whole(pool, options) or method_needs
    if why_not is not None and run is not None:
        raise OptionError(f"{pool.path}: cannot be read file by file: {why_not}")
    if why_not is not None or (run is None and len(pool.filled) == 1):
        return Shards(pool, student=student, crowd=crowd)
    return Shards(pool, pool.filled, run or run_here, student, crowd)


def _needs_the_whole(pool: Pool, options: Options | None) -> str | None:
    """Explain why a pool cannot be read file by file; None if it can."""
    if any(file_type(file) != "parquet" for file in pool.read_files):
        return "only Parquet files can be; write the pool, and its second file of rewards, as Parquet"
    odd = pool.odd_file
    if odd is not None:
        return f"{odd}; write its files with the same columns"
    if options is None:
        return None
    if (
        wants_vectors(options)
        and options.embedder.startswith("file:")
        and not is_parquet(options.embedder[5:])
    ):
        return f"`embedder={options.embedder!r}` is not a Parquet file (id, vector)"
    if options.ensemble is not None:
        return "an ensemble ranks the answers of the whole pool; combine its rewards into one column first"
    return None


Of = Literal["instruction", "answer", "both", "whole"]
"""What is read of a row: its text, the text of its answer to train on, an `Answered`, or both as one text; see `whole`."""
Function = Callable[[Sequence[Any]], FloatArray]
"""A batch of n items as `Of` says → n numbers, NaN = none. It may run in another process, so it must be picklable."""

_ASKED = ("instruction", "whole")  # what holds the instruction's text

AT_ONCE = 2_000
"""Rows whose texts are read at a time."""
BATCH = 256
"""Answers that a model scores at a time and stores as a part: the most that a crash loses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An instruction as chat messages, and its answer; empty if there is no text."""

    prompt: Sequence[dict[str, str]]
    answer: str


def mapped(
    function: Function, rows: IntArray, *, shards: Shards, known: Rows, of: Of, size: int
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Apply a function to rows, wherever they are read.

    Args:
        function: Takes at most `size` items of the kind `of`, returns a number for each.
        rows: Row numbers, ascending.
        shards: How the pool is read.
        known: Tells whose answers are read, and where each row is.
        of: What is read of a row.
        size: Rows per batch; no batch holds rows of two files, and files come in any order.

    Yields:
        Some of the rows, and their numbers.

    Raises:
        OptionError: Answers are needed, and the pool has no column for them.
    """
    if shards.whole:
        for batch, texts in _held(rows, shards=shards, known=known, of=of, size=size):
            yield batch, function(texts)
        return
    sources = shard_sources(shards.files, known.places, rows, **_taken(known))
    read = partial(rows_of, read=shards.pool.part, models=shards.models, of=of, size=size)
    for table in shards.run(sources, read, applied, {"function": function, "of": of}, batch=size):
        batch = known.places.rows(table["shard"].to_numpy(), table["row"].to_numpy())
        yield batch, table["number"].to_numpy()


def _held(
    rows: IntArray, *, shards: Shards, known: Rows, of: Of, size: int
) -> Iterator[tuple[IntArray, list[Any]]]:
    """Read rows of a pool that is read as a whole, in batches."""
    pool, answers, step = shards.pool, known.answers, max(AT_ONCE // size, 1) * size
    for begin in range(0, len(rows), step):
        block = rows[begin : begin + step]
        asked = [] if of not in _ASKED else [text or "" for text in shards.texts[block]]
        texts: list[Any] = asked
        if of != "instruction":
            models = [shards.models[column] for column in answers.chosen[block].tolist()]
            samples = None if answers.sample is None else answers.sample[block].tolist()
            texts = _answered(pool, [known.ids[row] for row in block], models, samples, of=of, asked=asked)
        for first in range(0, len(block), size):
            yield block[first : first + size], texts[first : first + size]


def answers_mapped(
    function: Function, wanted: Several, *, shards: Shards, known: Rows, size: int
) -> Iterator[tuple[IntArray, FloatArray]]:
    """Apply a function to answers as they are written for training, wherever they are read.

    Args:
        function: Takes at most `size` times `Answered`, returns a number for each.
        wanted: Some answers of rows.
        shards: How the pool is read.
        known: Tells where each row is.
        size: Answers per batch; no batch holds answers of two files, and files come in any order.

    Yields:
        Places in `wanted`, and their numbers.

    Raises:
        OptionError: The pool has no column for answers.
    """
    source: dict[str, Any] = {
        "place": list(range(len(wanted.row))),
        "ids": [known.ids[row] for row in wanted.row.tolist()],
        "models": [shards.models[model] for model in wanted.model.tolist()],
        "samples": None if wanted.sample is None else wanted.sample.tolist(),
    }
    if shards.whole:
        for places, answered in _written(shards.pool, source, size):
            yield np.array(places, dtype=np.int64), function(answered)
        return
    home, sources = known.shard[wanted.row], []
    for shard in np.unique(home).tolist():
        own = np.flatnonzero(home == shard).tolist()
        parts = {name: values and [values[at] for at in own] for name, values in source.items()}
        sources.append({"path": str(shards.files[shard]), **parts})
    read = partial(written_in, read=shards.pool.part, size=size)
    for table in shards.run(sources, read, applied, {"function": function, "of": "both"}, batch=size):
        yield table["place"].to_numpy(), table["number"].to_numpy()


def written_in(sources: Table, *, read: HowRead, size: int) -> Iterator[Table]:
    """Read the wanted answers of shards, at most `size` at a time: `place` and `text`."""
    import pyarrow as pa

    for source in sources.to_pylist():
        with open_pool(source["path"], read=read) as pool:
            for places, answered in _written(pool, source, size):
                texts = pa.array([_packed(each) for each in answered], pa.large_string())
                yield pa.table({"place": pa.array(places, pa.int64()), "text": texts})


def _written(pool: Pool, source: Mapping[str, Any], size: int) -> Iterator[tuple[list[int], list[Answered]]]:
    """Read answers of one pool, and the messages before them, in batches."""
    _check_answers(pool)
    step, cut = max(AT_ONCE // size, 1) * size, MarkerCuts()
    pairs = list(zip(source["ids"], source["models"], strict=True))
    for begin in range(0, len(pairs), step):
        here = slice(begin, begin + step)
        samples = None if source["samples"] is None else source["samples"][here]
        prompts, answers = pool.prompts(pairs[here], samples), pool.exported(pairs[here], samples)
        found = [
            Answered(prompt=chat, answer=cut(text or "")) for chat, text in zip(prompts, answers, strict=True)
        ]
        for first in range(0, len(found), size):
            yield source["place"][here][first : first + size], found[first : first + size]


def rows_of(sources: Table, *, read: HowRead, models: Sequence[str], of: Of, size: int) -> Iterator[Table]:
    """Read the wanted rows of shards, at most `size` at a time: `shard`, `row` (in the shard, in id order) and `text`."""
    import pyarrow as pa

    for source in sources.to_pylist():
        with open_pool(source["path"], read=read) as pool:
            rows = wanted_rows(source, len(pool.ids))
            chosen = np.frombuffer(source["chosen"], np.int32)
            numbers = np.frombuffer(source["samples"]) if "samples" in source else None
            instructions = pool.instructions()[rows] if of in _ASKED else rows[:0]
            for begin in range(0, len(rows), size):
                here = slice(begin, begin + size)
                asked = [text or "" for text in instructions[here]]
                texts: list[Any] = asked
                if of != "instruction":
                    names = [models[model] for model in chosen[here]]
                    samples = None if numbers is None else numbers[here].tolist()
                    texts = _answered(pool, pool.ids[rows[here]].tolist(), names, samples, of=of, asked=asked)
                yield pa.table(
                    {
                        "shard": np.full(len(texts), source["shard"], dtype=np.int32),
                        "row": rows[here],
                        "text": pa.array([_packed(text) for text in texts], pa.large_string()),
                    }
                )


def applied(table: Table, *, function: Function, of: Of) -> Table:
    """Apply a function to a batch of `rows_of` or `written_in`: all columns but `text`, and `number`."""
    import pyarrow as pa

    numbers = function([_unpacked(text, of) for text in table["text"].to_pylist()])
    return table.drop_columns(["text"]).append_column("number", pa.array(numbers, pa.float64()))


def _answered(
    pool: Pool,
    ids: Sequence[str],
    models: Sequence[str],
    samples: Sequence[float] | None,
    *,
    of: Of,
    asked: Sequence[str],
) -> list[Any]:
    """Read the answers of some rows, with their prompts if `of` is "both", after the texts in `asked` if it is "whole"."""
    _check_answers(pool)
    pairs = list(zip(ids, models, strict=True))
    answers = [text or "" for text in pool.responses(pairs, samples)]
    if of == "answer":
        return answers
    if of == "whole":
        return list(map(whole, asked, answers))
    prompts = pool.prompts(pairs, samples)
    return [Answered(prompt=prompt, answer=text) for prompt, text in zip(prompts, answers, strict=True)]


def _check_answers(pool: Pool) -> None:
    if not pool.has_responses:
        raise OptionError(f"{pool.path}: the pool holds no answers, so nothing can be read from them")


def _packed(text: str | Answered) -> str:
    return text if isinstance(text, str) else json.dumps([list(text.prompt), text.answer])


def _unpacked(text: str, of: Of) -> str | Answered:
    if of != "both":
        return text
    prompt, answer = json.loads(text)
    return Answered(prompt=prompt, answer=answer)


def whole(instruction: str, answer: str) -> str:
    r"""Write an instruction and an answer as one text: with an empty line between them.

    Example:
        >>> whole("Add 2 and 3.", "5")
        'Add 2 and 3.\n\n5'
    """
    return f"{instruction}\n\n{answer}"


def compared(rows: Rows, options: Options) -> Of:
    """Tell what an embedder reads: the instruction, or the whole row where it is compared with examples that have answers.

    Args:
        rows: Its examples count here.
        options: Of the embedders, `hidden:MODEL` reads answers. Data for reinforcement learning has none.

    Raises:
        InputError: Only some of the examples have an answer, and it would count.
    """
    if not vector_kind(options.embedder).reads_answers or options.format == RL:
        return "instruction"
    count = sum(example.answer is not None for example in rows.examples)
    if 0 < count < len(rows.examples):
        raise InputError(
            f"{rows.questions[-1][0]}: {count} of {len(rows.examples)} examples have an answer, and "
            f"`embedder={options.embedder!r}` compares answers too; give all of them one, or none"
        )
    return "whole" if count else "instruction"


def embeddable(shards: Shards, rows: Rows, options: Options, eligible: BoolArray) -> Embeddable:
    """Present a pool's texts and given vectors to embedders.

    Args:
        shards: How the pool is read.
        rows: What is known of it.
        options: `embedder` and `format` decide what is read; see `compared`.
        eligible: Which rows will be read, shape (N,).
    """
    import pyarrow as pa

    pool, of = shards.pool, compared(rows, options)
    if shards.whole:
        return Held.of(pool, lambda: shards.texts if of == "instruction" else _wholes(shards, rows, eligible))
    filed = Filed(
        path=pool.path,
        files=shards.files,
        read=pool.part,
        places=rows.places,
        run=shards.run,
        all_ids=pa.chunked_array([rows.ids.values]),
        text_keys=rows.text_keys,
        has_text=not rows.blank.all(),
    )
    if of == "instruction":
        return filed
    reading = partial(rows_of, read=pool.part, models=shards.models, of=of, size=BLOCK)
    filed = replace(filed, read_texts=reading, beside=_taken(rows))
    keys = np.full(len(rows), None, dtype=object)
    wanted = np.flatnonzero(eligible)
    for batch, columns in filed.texts(wanted, options.embedder).over(wanted, _keyed, lambda _: None):
        keys[batch] = columns["key"]
    return replace(filed, text_keys=pa.array(keys, pa.binary(32)))


def _wholes(shards: Shards, rows: Rows, eligible: BoolArray) -> ObjectArray:
    """The eligible rows as texts of instruction and answer, shape (N,); None for others."""
    texts = np.full(len(rows), None, dtype=object)
    for batch, read in _held(np.flatnonzero(eligible), shards=shards, known=rows, of="whole", size=AT_ONCE):
        texts[batch] = read
    return texts


def _keyed(texts: list[str], advance: Advance) -> Named:  # noqa: ARG001  (as of `Work`)
    return {"key": text_keys(texts)}


def _taken(rows: Rows) -> dict[str, "NDArray[Any]"]:
    """Whose answer each row has, for `rows_of`."""
    answers = rows.answers
    sampled = {} if answers.sample is None else {"samples": answers.sample}
    return {"chosen": answers.chosen.astype(np.int32), **sampled}


def cluster_column(shards: Shards, rows: Rows, options: Options, eligible: BoolArray) -> ObjectArray | None:
    """Read the values of `cluster_by`, shape (N,), for a number the bins of the eligible rows; None where it is not asked for."""
    if options.cluster_by is None:
        return None
    bins = number_of_bins(options, shards.pool)
    if bins is None and options.cluster_by in file_columns(options, shards.pool):
        return _as_words(rows.metrics[options.cluster_by])
    if bins is None:
        return rows.column(options.cluster_by, shards.pool)
    out = np.full(len(rows), None, dtype=object)
    out[eligible] = binned(rows.number(bins[0])[eligible], bins[1])
    return out


def file_columns(options: Options, pool: Pool) -> Collection[str]:
    """The columns of the file of `metrics` that `cluster_by` may name: where the pool has one of that name, it means that one."""
    return () if options.metrics is None else set(number_columns(options.metrics)) - set(pool.columns)


def _as_words(values: FloatArray) -> ObjectArray:
    """Numbers as text; None where missing."""
    out = np.full(len(values), None, dtype=object)
    for row in np.flatnonzero(~np.isnan(values)):
        short, value = f"{values[row]:g}", float(values[row])
        out[row] = short if float(short) == value else repr(value)
    return out


def quota_strata(rows: Rows, options: Options, eligible: BoolArray) -> Strata | None:
    """Find the strata of `quota`; None where it is not asked for."""
    quota = read_quota(options.quota)
    return None if quota is None else strata_of(quota, rows.columns[quota.column], eligible)


def number_of_bins(options: Options, pool: Pool) -> tuple[str, int] | None:
    """Read `cluster_by` as a number and how many bins; None where it is not that, or a column of the pool has the whole name.

    Raises:
        OptionError: The number of bins is not positive.
    """
    if options.cluster_by is None or options.cluster_by in pool.columns:
        return None
    name, colon, count = options.cluster_by.rpartition(":")
    if not colon or re.fullmatch(r"-?\d+", count) is None:
        return None
    if int(count) < 1:
        raise OptionError(f"`cluster_by={options.cluster_by!r}` asks for {count} bins; wanted at least 1")
    return name, int(count)
