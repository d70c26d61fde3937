"""A simulated crowd with known ground truth: for the demo, for tests and for benchmarks.

For the draws and the reward model see `crowdselect.simulate.draws`; here they become tables of each layout, and
files. A few instructions are ill-posed (no model answers them well), a few repeat an earlier one, a few rewards are
missing and a few answers empty. Everything written is marked as simulated.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.errors import OptionError, OutputError
from crowdselect.simulate import words
from crowdselect.simulate.draws import (
    DrawnBlock,
    SimulationPlan,
    abilities_of,
    answers_text,
    drawn,
    instructions_text,
)
from crowdselect.types import BoolArray, FloatArray, IntArray
from crowdselect.writing import new_file, new_folder

REWARD = "simulated_reward"
"""The name of the reward column, or of the field beside `content`."""

_ID_DIGITS = 9
_Write = Callable[[Any], None]
_Sink = Callable[[Path], AbstractContextManager[_Write]]

_SIZES = (1.5, 3.0, 7.0, 14.0, 32.0, 72.0, 140.0, 405.0)
_PAPER_SIZES = (
    (2.0, 9.0, 27.0),
    (8.0, 70.0),
    (8.0, 70.0, 405.0),
    (3.8, 7.0, 14.0),
    (1.5, 7.0, 72.0),
    (3.0, 7.0, 14.0, 32.0, 72.0),
)


@dataclass(frozen=True, slots=True)
class Truth:
    """The ground truth, which is not in the pool; row i is instruction i, in id order.

    Attributes:
        difficulty: Shape (N,). Higher = harder; -mean reward rises with it.
        discrimination: Shape (N,), in [0.3, 1.8]. Higher = the models' rewards are further apart.
        topic: Shape (N,), indices into `topics`.
        topics: The topics' names.
        ill_posed: Shape (N,). No model answers these well, whatever its ability.
        repeats: Shape (N,), the row whose text this row repeats exactly or nearly; -1 = none.
        abilities: Shape (M,), in the order of the models. Higher = better answers.
    """

    difficulty: FloatArray
    discrimination: FloatArray
    topic: IntArray
    topics: tuple[str, ...]
    ill_posed: BoolArray
    repeats: IntArray
    abilities: FloatArray


@dataclass(frozen=True, slots=True)
class Simulation:
    """The files written, and the ground truth behind them.

    Attributes:
        path: The file, or the folder of shards.
        files: The files written, in order.
        layout: `"long"`, `"zoo"` or `"matrix"`.
        crowd: The simulated models in code-point order, with family and size.
        truth: The latent values.
    """

    path: Path
    files: tuple[Path, ...]
    layout: str
    crowd: Crowd
    truth: Truth


def simulate(
    path: str | PathLike[str],
    *,
    instructions: int = 2000,
    crowd: str = "demo",
    families: int = 4,
    sizes: int = 3,
    models: Sequence[str] | None = None,
    layout: str = "long",
    answer_chars: int = 400,
    samples: int = 1,
    seed: int = 0,
    shards: int = 1,
    with_text: bool = True,
    ill_posed: float = 0.02,
    duplicates: float = 0.02,
    missing: float = 0.005,
    empty: float = 0.005,
    overwrite: bool = False,
) -> Simulation:
    """Write a pool of a simulated crowd, batch by batch.

    Instruction i is the same whatever their number, the layout and the shards; its id is `sim-` and nine
    digits, so ids sort as rows do. The reward is called `simulated_reward`, a column `simulated` is true in
    every row, every model's name begins with `sim-` and every answer with `[simulated answer of MODEL]`.

    Args:
        path: Ends in `.parquet`, `.jsonl` or `.csv`; with several `shards`, the folder for Parquet files.
        instructions: N, the number of instructions.
        crowd: `"demo"` = `families` x `sizes` models; `"paper"` = 19 models in six families with the sizes in
            the CrowdSelect paper.
        families: Families of the demo crowd, at most 12.
        sizes: Models per family of the demo crowd, at most 4.
        models: Model names to use instead; each begins with `sim-`, family and size are inferred from it.
        layout: `"long"`, `"zoo"` or `"matrix"`; a CSV file cannot hold `"zoo"`.
        answer_chars: Mean length of an answer in characters, from 80.
        samples: Answers per model and instruction; more than one needs `"long"`.
        seed: Any integer.
        shards: Number of files.
        with_text: Whether instructions and answers are written.
        ill_posed: Share of instructions that no model answers well.
        duplicates: Share of instructions that repeat an earlier one, half of them word for word.
        missing: Share of rewards that are null.
        empty: Share of answers that are empty.
        overwrite: Replace an existing file. A folder that is not empty is never replaced.

    Returns:
        The pool's files, and the ground truth.

    Raises:
        OptionError: An option is invalid.
        OutputError: The output exists already.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     made = simulate(f"{folder}/pool.parquet", instructions=5)
        >>> made.crowd.names[:2], made.truth.difficulty.shape
        (['sim-ash-14b', 'sim-ash-3b'], (5,))
    """
    members = _crowd(crowd, families=families, sizes=sizes, models=models)
    plan = SimulationPlan(
        instructions=instructions,
        layout=layout,
        crowd=members,
        abilities=abilities_of(members, seed=seed),
        answer_chars=answer_chars,
        samples=samples,
        seed=seed,
        with_text=with_text,
        shares={"ill_posed": ill_posed, "duplicates": duplicates, "missing": missing, "empty": empty},
    )
    _check(plan, shards=shards)
    target = Path(path)
    sink = _sink_for(target, layout=layout, shards=shards, overwrite=overwrite)
    truth = _blank_truth(plan)
    files = [target]
    if shards == 1:
        with new_file(target) as partial:
            _write(partial, sink, plan, truth, rows=(0, instructions))
    else:
        files = [target / f"part-{part:05d}.parquet" for part in range(shards)]
        with new_folder(target, overwrite=False) as folder:
            for part, file in enumerate(files):
                rows = (instructions * part // shards, instructions * (part + 1) // shards)
                _write(folder / file.name, sink, plan, truth, rows=rows)
    return Simulation(target, tuple(files), layout, members, truth)


def _check(plan: SimulationPlan, *, shards: int) -> None:
    if plan.layout not in LAYOUTS:
        raise OptionError(f"`layout` is {plan.layout!r}; wanted one of {', '.join(LAYOUTS)}")
    if plan.answer_chars < 80:
        raise OptionError(f"`answer_chars` is {plan.answer_chars}; wanted at least 80")
    if plan.samples < 1 or (plan.samples > 1 and plan.layout != "long"):
        raise OptionError(
            f"`samples` is {plan.samples}; wanted 1, or more with `layout='long'` (this is {plan.layout!r})"
        )
    if not 1 <= plan.instructions < 10**_ID_DIGITS:
        raise OptionError(f"`instructions` is {plan.instructions}; wanted 1 to {10**_ID_DIGITS - 1}")
    if not 1 <= shards <= plan.instructions:
        raise OptionError(
            f"`shards` is {shards}; wanted 1 to the number of instructions, {plan.instructions}"
        )
    for name, share in plan.shares.items():
        if not 0 <= share <= 1:
            raise OptionError(f"`{name}` is {share}; wanted a share from 0 to 1")


def _crowd(kind: str, *, families: int, sizes: int, models: Sequence[str] | None) -> Crowd:
    if models is not None:
        for name in models:
            if not name.startswith("sim-"):
                raise OptionError(f"model {name!r} is simulated: its name must begin with 'sim-'")
        return Crowd.from_names(sorted(models))
    if kind == "paper":
        size_lists: list[tuple[float, ...]] = list(_PAPER_SIZES)
    elif kind == "demo":
        if not 1 <= families <= len(words.FAMILIES):
            raise OptionError(f"`families` is {families}; wanted 1 to {len(words.FAMILIES)}")
        if not 1 <= sizes <= len(_SIZES) // 2:
            raise OptionError(f"`sizes` is {sizes}; wanted 1 to {len(_SIZES) // 2}")
        size_lists = [_SIZES[family % 2 :: 2][:sizes] for family in range(families)]
    else:
        raise OptionError(f"`crowd` is {kind!r}; wanted 'demo' or 'paper', or give the names as `models`")
    names = [
        f"sim-{family}-{size:g}b"
        for family, members in zip(words.FAMILIES, size_lists, strict=False)
        for size in members
    ]
    return Crowd.from_names(sorted(names))


def _blank_truth(plan: SimulationPlan) -> Truth:
    n = plan.instructions
    return Truth(
        difficulty=np.empty(n),
        discrimination=np.empty(n),
        topic=np.empty(n, dtype=np.int64),
        topics=words.TOPICS,
        ill_posed=np.empty(n, dtype=np.bool_),
        repeats=np.empty(n, dtype=np.int64),
        abilities=plan.abilities,
    )


def _write(file: Path, sink: _Sink, plan: SimulationPlan, truth: Truth, *, rows: tuple[int, int]) -> None:
    with sink(file) as write:
        for begin in range(rows[0], rows[1], plan.batch):
            end = min(begin + plan.batch, rows[1])
            block = drawn(plan, begin, end)
            for name in ("difficulty", "discrimination", "topic", "ill_posed", "repeats"):
                getattr(truth, name)[begin:end] = block.latent[name]
            write(LAYOUTS[plan.layout](plan, block))


# Tables and files


def _sink_for(target: Path, *, layout: str, shards: int, overwrite: bool) -> _Sink:
    """Check the output path, and choose a writer by its suffix.

    Args:
        target: A file, or with several shards a folder.
        layout: A CSV file has no structs and so no `"zoo"`.
        shards: Several go into a new or empty folder.
        overwrite: Whether an existing file (never a folder) may be replaced.

    Returns:
        A context manager for a path, which yields a function that appends a table.

    Raises:
        OptionError: No file type has this suffix, or it cannot hold the layout.
        OutputError: The output exists already.
    """
    if shards > 1:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OutputError(f"{str(target)!r} exists already; shards go into a new or empty folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        return _parquet
    sink = _SINKS.get(target.suffix.lower())
    if sink is None or (layout == "zoo" and sink is _csv):
        raise OptionError(
            f"{str(target)!r}: `layout={layout!r}` is written as .parquet, .jsonl or, if not 'zoo', .csv"
        )
    if target.is_dir():
        raise OutputError(f"{str(target)!r} is a folder; name a file")
    if target.exists() and not overwrite:
        raise OutputError(f"there is a file {str(target)!r} already; pass `overwrite=True` to replace it")
    target.parent.mkdir(parents=True, exist_ok=True)
    return sink


@contextmanager
def _parquet(path: Path) -> Iterator[_Write]:
    import pyarrow.parquet as pq

    writer = None

    def write(table: Any) -> None:  # noqa: ANN401  (a pyarrow table)
        nonlocal writer
        if writer is None:
            # Answers and rewards rarely repeat: a dictionary would be built and discarded.
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
def _jsonl(path: Path) -> Iterator[_Write]:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield lambda table: file.writelines(
            json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in table.to_pylist()
        )


@contextmanager
def _csv(path: Path) -> Iterator[_Write]:
    from pyarrow import csv

    with path.open("wb") as file:

        def write(table: Any) -> None:  # noqa: ANN401  (a pyarrow table)
            csv.write_csv(table, file, csv.WriteOptions(include_header=file.tell() == 0))

        yield write


_SINKS: dict[str, _Sink] = {
    ".parquet": _parquet,
    ".jsonl": _jsonl,
    ".csv": _csv,
}


def _rewards(values: FloatArray) -> Any:  # noqa: ANN401  (a pyarrow array)
    import pyarrow as pa

    return pa.array(values, from_pandas=True)  # NaN becomes null


def _head(block: DrawnBlock, *, key: str, with_text: bool) -> dict[str, Any]:
    import pyarrow as pa

    columns = {key: _ids(block)}
    if with_text:
        columns["instruction"] = instructions_text(block)
    columns["topic"] = pa.array(words.TOPICS, pa.string()).take(pa.array(block.latent["topic"]))
    return columns


def _marked(columns: dict[str, Any]) -> Any:  # noqa: ANN401  (a pyarrow table)
    import pyarrow as pa

    rows = len(next(iter(columns.values())))
    return pa.table({**columns, "simulated": pa.array(np.ones(rows, dtype=np.bool_))})


def _matrix(plan: SimulationPlan, block: DrawnBlock) -> Any:  # noqa: ANN401  (a pyarrow table)
    columns = _head(block, key="id", with_text=plan.with_text)
    by_model = np.ascontiguousarray(block.rewards[:, :, 0].T)
    return _marked({**columns, **dict(zip(plan.crowd.names, map(_rewards, by_model), strict=True))})


def _zoo(plan: SimulationPlan, block: DrawnBlock) -> Any:  # noqa: ANN401  (a pyarrow table)
    import pyarrow as pa

    columns = _head(block, key="uuid", with_text=plan.with_text)
    for model, name in enumerate(plan.crowd.names):
        leaves = [answers_text(plan, block, model, 0), _rewards(block.rewards[:, model, 0])]
        columns[name] = pa.StructArray.from_arrays(leaves, names=["content", REWARD])
    return _marked(columns)


def _long(plan: SimulationPlan, block: DrawnBlock) -> Any:  # noqa: ANN401  (a pyarrow table)
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


LAYOUTS: dict[str, Callable[[SimulationPlan, DrawnBlock], Any]] = {
    "long": _long,
    "zoo": _zoo,
    "matrix": _matrix,
}


def _ids(block: DrawnBlock) -> Any:  # noqa: ANN401  (a pyarrow array; pyarrow has no types)
    import pyarrow as pa

    rows = np.arange(block.start, block.start + len(block.rewards))
    text = np.empty((len(rows), 4 + _ID_DIGITS), dtype=np.uint8)
    text[:, :4] = np.frombuffer(b"sim-", dtype=np.uint8)
    text[:, 4:] = rows[:, None] // 10 ** np.arange(_ID_DIGITS - 1, -1, -1) % 10 + ord("0")
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * text.shape[1]
    return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(text))
