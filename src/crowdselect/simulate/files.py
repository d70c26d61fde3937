"""Simulated blocks as text and as tables of each layout, and tables as files.

Instructions and answers are frames filled with a topic's words, thousands at once. pyarrow's arrays and tables are
typed `Any` here: pyarrow ships no types.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from crowdselect.errors import OptionError, OutputError
from crowdselect.simulate import words
from crowdselect.simulate.draws import Block, Plan
from crowdselect.simulate.words import PARAGRAPHS, TOPICS
from crowdselect.types import FloatArray, IntArray

REWARD = "simulated_reward"
"""The name of the reward column, or of the field beside `content`."""

ID_DIGITS = 9
Write = Callable[[Any], None]
Sink = Callable[[Path], AbstractContextManager[Write]]


@dataclass(frozen=True, slots=True)
class _Frames:
    """Sentence frames, cut at their slots, so that thousands are filled in at once."""

    gaps: list[Any]  # S + 1 pyarrow arrays of F strings: the text before, between and after the slots
    order: IntArray  # (F, S): which slot stands at each place

    @classmethod
    def of(cls, frames: Sequence[str], slots: str) -> "_Frames":
        import pyarrow as pa

        cut = [[*Formatter().parse(frame + "{end}")] for frame in frames]
        gaps = [pa.array([pieces[gap][0] for pieces in cut], pa.string()) for gap in range(len(slots) + 1)]
        order = [[slots.index(piece[1] or "") for piece in pieces[:-1]] for pieces in cut]
        return cls(gaps, np.array(order))

    def fill(self, vocabulary: Any, frame: IntArray, slots: IntArray) -> Any:  # noqa: ANN401  (pyarrow has no types)
        """Shape (n,) strings from the frames' numbers (n,) and the vocabulary's numbers (n, S)."""
        import pyarrow.compute as pc

        placed = np.take_along_axis(slots, self.order[frame], axis=1)
        pieces = [self.gaps[0].take(frame)]
        for place, gap in enumerate(self.gaps[1:]):
            pieces += [vocabulary.take(placed[:, place]), gap.take(frame)]
        return pc.binary_join_element_wise(*pieces, "")


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[Any, dict[str, int]]:
    """All words that fill slots, in one pyarrow array, and where each kind begins in it."""
    import pyarrow as pa

    kinds: dict[str, Sequence[str]] = {
        "thing": [thing for things, _ in words.VOCABULARIES.values() for thing in things],
        "place": [place for _, places in words.VOCABULARIES.values() for place in places],
        "reader": words.READERS,
        "demand": words.DEMANDS,
        "number": [str(number) for number in range(40, 405, 5)],
    }
    starts: dict[str, int] = {}
    joined: list[str] = []
    for kind, found in kinds.items():
        starts[kind] = len(joined)
        joined += found
    return pa.array(joined, pa.string()), starts


def instructions_text(block: Block) -> Any:  # noqa: ANN401  (a pyarrow array)
    """The block's instructions, n strings of two or three sentences each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    vocabulary, at = _vocabulary()
    slots, topic, copy = block.latent["slots"], block.latent["topic"], block.latent["copy"]
    things, places = (len(found) for found in next(iter(words.VOCABULARIES.values())))
    first = slots[:, 1] % things
    second = (first + 1 + slots[:, 2] % (things - 1)) % things
    place = at["place"] + topic * places + slots[:, 3] % places
    subject = np.column_stack(
        (at["thing"] + topic * things + first, at["thing"] + topic * things + second, place)
    )
    task = np.where(
        block.latent["ill_posed"],
        len(words.TASKS) + slots[:, 0] % len(words.ILL_POSED_TASKS),
        slots[:, 0] % len(words.TASKS),
    )
    manner = np.column_stack(
        [
            at[kind] + slots[:, column] % size
            for kind, column, size in (
                ("reader", 5, len(words.READERS)),
                ("number", 6, len(vocabulary) - at["number"]),
                ("demand", 7, len(words.DEMANDS)),
            )
        ]
    )
    tasks = _Frames.of((*words.TASKS, *words.ILL_POSED_TASKS), "abc").fill(vocabulary, task, subject)
    manners = _Frames.of(words.MANNERS, "dne").fill(vocabulary, slots[:, 4] % len(words.MANNERS), manner)
    before = pa.array(["", "", "", "", "Please help me. "]).take(copy)
    between = pa.array([" ", " ", "  ", " ", " "]).take(copy)
    after = pa.array(["", "", "", " Thank you.", ""]).take(copy)
    return pc.binary_join_element_wise(before, tasks, between, manners, after, "")


@lru_cache(maxsize=2)
def _paragraphs(characters: int) -> Any:  # noqa: ANN401  (a pyarrow array)
    """`PARAGRAPHS` paragraphs per topic, topics one after the other, of about so many characters."""
    import pyarrow as pa

    made = []
    for number, (things, places) in enumerate(words.VOCABULARIES.values()):
        chance = np.random.default_rng(number)  # the same paragraphs for every seed
        for _ in range(PARAGRAPHS):
            sentences: list[str] = []
            while sum(map(len, sentences)) + 40 < characters:
                a, b = chance.choice(len(things), 2, replace=False)
                frame = words.ANSWER_SENTENCES[chance.integers(len(words.ANSWER_SENTENCES))]
                sentences.append(
                    frame.format(a=things[a], b=things[b], c=places[chance.integers(len(places))])
                )
            made.append(" ".join(sentences))
    return pa.array(made, pa.string())


def answers_text(plan: Plan, block: Block, model: int, sample: int) -> Any:  # noqa: ANN401  (a pyarrow array)
    """One model's answers to the block, "" where it gave an empty one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if block.paragraphs is None:
        return pa.nulls(len(block.rewards), pa.string())
    vocabulary, at = _vocabulary()
    topic = block.latent["topic"]
    things = len(next(iter(words.VOCABULARIES.values()))[0])
    subject = vocabulary.take(at["thing"] + topic * things + block.latent["slots"][:, 1] % things)
    head = f"[simulated answer of {plan.crowd.names[model]}] About "
    count = block.paragraphs.shape[-1]
    rest = max(0, plan.answer_chars - len(head) - 20)
    bank = _paragraphs(rest // count)
    chosen = np.maximum(block.paragraphs[:, model, sample], 0) + PARAGRAPHS * topic[:, None]
    body = [bank.take(chosen[:, place]) for place in range(count)]
    text = pc.binary_join_element_wise(pc.binary_join_element_wise(head, subject, ":", ""), *body, " ")
    return pc.if_else(pa.array(block.paragraphs[:, model, sample, 0] < 0), "", text)


def sink_for(target: Path, *, layout: str, shards: int, overwrite: bool) -> Sink:
    """Check the place to write to, and choose how by the ending of its name.

    Args:
        target: A file, or with several shards a folder.
        layout: A CSV file has no structs and so no `"zoo"`.
        shards: More than one go into a folder that is new or empty.
        overwrite: Whether a file (never a folder) that is there may be replaced.

    Returns:
        A context manager for a path, which gives a function that appends a table.

    Raises:
        OptionError: No file type has this ending, or it cannot hold the layout.
        OutputError: The place is taken.
    """
    if shards > 1:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OutputError(f"{str(target)!r} is there already; shards go into a new or empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        return _parquet
    sink = _SINKS.get(target.suffix.lower())
    if sink is None or (layout == "zoo" and sink is _csv):
        raise OptionError(
            f"{str(target)!r}: layout {layout!r} is written as .parquet, .jsonl or, if not 'zoo', .csv"
        )
    if target.is_dir() or (target.exists() and not overwrite):
        raise OutputError(
            f"{str(target)!r} is there already; choose another name or ask to overwrite the file"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    return sink


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow.parquet as pq

    writer = None

    def write(table: Any) -> None:  # noqa: ANN401  (a pyarrow table)
        nonlocal writer
        if writer is None:
            # Answers and rewards hardly repeat: a dictionary would be built and thrown away.
            few = [name for name in ("topic", "model", "id", "instruction") if name in table.column_names]
            schema = table.schema.with_metadata({"simulated": "true"})
            writer = pq.ParquetWriter(path, schema, use_dictionary=few)
        writer.write_table(table.replace_schema_metadata({"simulated": "true"}))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def _jsonl(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield lambda table: file.writelines(
            json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in table.to_pylist()
        )


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    from pyarrow import csv

    with path.open("wb") as file:

        def write(table: Any) -> None:  # noqa: ANN401  (a pyarrow table)
            csv.write_csv(table, file, csv.WriteOptions(include_header=file.tell() == 0))

        yield write


_SINKS: dict[str, Sink] = {
    ".parquet": _parquet,
    ".jsonl": _jsonl,
    ".csv": _csv,
}


def _rewards(values: FloatArray) -> Any:  # noqa: ANN401  (a pyarrow array)
    import pyarrow as pa

    return pa.array(values, from_pandas=True)  # NaN becomes null


def _head(block: Block, *, key: str, with_text: bool) -> dict[str, Any]:
    import pyarrow as pa

    columns = {key: _ids(block)}
    if with_text:
        columns["instruction"] = instructions_text(block)
    columns["topic"] = pa.array(TOPICS, pa.string()).take(pa.array(block.latent["topic"]))
    return columns


def _marked(columns: dict[str, Any]) -> Any:  # noqa: ANN401  (a pyarrow table)
    import pyarrow as pa

    rows = len(next(iter(columns.values())))
    return pa.table({**columns, "simulated": pa.array(np.ones(rows, dtype=np.bool_))})


def _matrix(plan: Plan, block: Block) -> Any:  # noqa: ANN401  (a pyarrow table)
    columns = _head(block, key="id", with_text=plan.with_text)
    by_model = np.ascontiguousarray(block.rewards[:, :, 0].T)
    return _marked({**columns, **dict(zip(plan.crowd.names, map(_rewards, by_model), strict=True))})


def _zoo(plan: Plan, block: Block) -> Any:  # noqa: ANN401  (a pyarrow table)
    import pyarrow as pa

    columns = _head(block, key="uuid", with_text=plan.with_text)
    for model, name in enumerate(plan.crowd.names):
        leaves = [answers_text(plan, block, model, 0), _rewards(block.rewards[:, model, 0])]
        columns[name] = pa.StructArray.from_arrays(leaves, names=["content", REWARD])
    return _marked(columns)


def _long(plan: Plan, block: Block) -> Any:  # noqa: ANN401  (a pyarrow table)
    import pyarrow as pa

    n, m, s = block.rewards.shape
    row, model, sample = (axis.ravel() for axis in np.indices((n, m, s)))
    columns = {
        name: values.take(pa.array(row))
        for name, values in _head(block, key="id", with_text=plan.with_text).items()
    }
    columns["model"] = pa.array(plan.crowd.names, pa.string()).take(pa.array(model))
    if s > 1:
        columns["sample"] = pa.array(sample)
    if plan.with_text:
        answers = pa.concat_arrays([answers_text(plan, block, a, b) for a in range(m) for b in range(s)])
        columns["response"] = answers.take(pa.array((model * s + sample) * n + row))
    columns[REWARD] = _rewards(block.rewards.ravel())
    return _marked(columns)


LAYOUTS: dict[str, Callable[[Plan, Block], Any]] = {"long": _long, "zoo": _zoo, "matrix": _matrix}


def _ids(block: Block) -> Any:  # noqa: ANN401  (a pyarrow array; pyarrow has no types)
    import pyarrow as pa

    rows = np.arange(block.start, block.start + len(block.rewards))
    text = np.empty((len(rows), 4 + ID_DIGITS), dtype=np.uint8)
    text[:, :4] = np.frombuffer(b"sim-", dtype=np.uint8)
    text[:, 4:] = rows[:, None] // 10 ** np.arange(ID_DIGITS - 1, -1, -1) % 10 + ord("0")
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * text.shape[1]
    return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(text))
