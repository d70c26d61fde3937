"""One run of `evaluate loss` or `evaluate prefers`: rows, a model's losses on them, the folder of the result."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from crowdselect._optional import check_optional
from crowdselect.ask.endpoints import load_endpoints
from crowdselect.errors import OptionError
from crowdselect.evaluate.files import dumped, write_lines
from crowdselect.evaluate.held_out import BANDS, HeldOut, Row, rows_of_file, rows_of_pool
from crowdselect.evaluate.result import Measured, measured, model_name, read_measured, write_measured
from crowdselect.evaluate.scores import Cells
from crowdselect.evaluate.setup import is_named
from crowdselect.methods.likelihood import LanguageModel, Likelihood
from crowdselect.modelfolders import check_model_folder
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import open_pool
from crowdselect.progress import Stages
from crowdselect.repeats import is_current, made_by
from crowdselect.terminal import counted
from crowdselect.writing import check_output, new_folder

Kind = Literal["loss", "prefers"]

_NEAR = 1e-6  # losses nearer than this are equal but for rounding
_ROWS = "rows.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOptions:
    """What is measured, and on what.

    Attributes:
        benchmark: `loss`, or `prefers`.
        student: The model: a folder with a model or adapters, a name on the Hub, or `crowd.toml#NAME` of a local model.
        output: The folder of the result; None is enough for a plan.
        on: A training file, or a folder that `select` wrote; only for `loss`.
        pool: A pool, instead of `on`.
        read: How the pool is read.
        rewards: A second file of the pool's rewards.
        reward: The pool's reward column; None = its only one.
        chosen: Folders of selections: what they chose is left out of the pool.
        sample: Take so many of the pool's instructions; None = all.
        min_margin: Only for `prefers`: how far apart the rewards of two answers are at least.
        name: What the model is called in the result; None = its own name.
        max_length: Most tokens of messages and answer.
        batch_tokens: Most tokens of a batch.
        device: "auto", "cpu", "cuda", ...
        skip_invalid: Leave malformed rows of `on` out.
        seed: Decides the sample, equal rewards, and the resampling of the interval.
        overwrite: Replace another result.
    """

    benchmark: Kind
    student: str
    output: str | None = None
    on: str | None = None
    pool: str | None = None
    read: HowRead = field(default_factory=HowRead)
    rewards: str | None = None
    reward: str | None = None
    chosen: tuple[str, ...] = ()
    sample: int | None = None
    min_margin: float = 0.0
    name: str | None = None
    max_length: int = 2048
    batch_tokens: int = 4096
    device: str = "auto"
    skip_invalid: bool = False
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        if (self.on is None) == (self.pool is None):
            raise OptionError(
                "say what to measure on: `on` a training file, or `pool` and what it leaves out"
            )
        of_pool = {
            "rewards": self.rewards,
            "reward": self.reward,
            "chosen": self.chosen,
            "sample": self.sample,
        }
        given = [name for name, value in of_pool.items() if value]
        if self.pool is None and given:
            raise OptionError(f"`{given[0]}` is of a pool: name it with `pool`, or leave this out")
        if self.seed < 0:
            raise OptionError(f"`seed` is {self.seed}; wanted at least 0")


def held_out(options: MeasureOptions) -> HeldOut:
    """Read the rows to measure on.

    Raises:
        CrowdselectError: There is none, or an input is not what it should be.
    """
    if options.on is not None:
        return rows_of_file(options.on, skip_invalid=options.skip_invalid)
    with open_pool(str(options.pool), rewards=options.rewards, read=options.read) as pool:
        return rows_of_pool(
            pool,
            reward=options.reward,
            chosen=options.chosen,
            sample=options.sample,
            seed=options.seed,
            pairs=options.benchmark == "prefers",
            min_margin=options.min_margin,
        )


def measure(options: MeasureOptions, *, stages: Stages | None = None) -> Measured:
    """Measure a model and write the result.

    Args:
        options: What is measured.
        stages: Times the stages and may show them.

    Returns:
        The result; a folder that holds the same already is left as it is.

    Raises:
        InputError: The model or the rows cannot be used.
        OptionError: An option makes no sense, or the model is an endpoint, which gives no likelihoods.
        OutputError: The place is refused, or holds another result.
        MissingExtraError: The extra `reward` is not installed.
    """
    stages = stages or Stages()
    if options.output is None:
        raise OptionError("say where to write with `output`, or add `dry_run=True`")
    model = local_model(options.student)
    inputs = _inputs(options, model)
    made = _made(options, model, inputs)
    if is_current(Path(options.output), made, overwrite=options.overwrite):
        return read_measured(Path(options.output))
    files = [Path(place) for places in inputs.values() for place in places]
    folder = check_output(options.output, inputs=files, overwrite=options.overwrite, folder=True)
    with stages("reading the rows"):
        rows = held_out(options)
    with stages("loading the model"):
        loaded = LanguageModel(
            model, max_length=options.max_length, batch_tokens=options.batch_tokens, device=options.device
        )
    asked = [(row.prompt, row.answer) for row in rows.rows]
    tools = [row.tools for row in rows.rows]
    if options.benchmark == "prefers":
        asked += [(row.prompt, row.other or "") for row in rows.rows]
        tools += tools
    with stages("reading the answers with the model") as progress:
        likelihoods = loaded.likelihoods(asked, tools=tools, progress=progress)
    result = _result(options, rows, likelihoods)
    conditions = {
        "rows": rows.digest(),
        "tokenizer": hashlib.sha256(loaded.tokenizer.encode("utf-8", "surrogatepass")).hexdigest(),
        "max_length": options.max_length,
    }
    with new_folder(folder, overwrite=options.overwrite) as partial:
        write_lines(partial / _ROWS, _lines(rows, likelihoods))
        write_measured(partial, result, made=made, conditions=conditions)
    return Measured(folder, result)


def local_model(text: str) -> str:
    """Find a model on this machine.

    Args:
        text: A folder, a name on the Hub, or `crowd.toml#NAME`.

    Raises:
        InputError: The folder holds no model.
        OptionError: The file has no such model, or it is an endpoint.
        MissingExtraError: Adapters need peft.

    Example:
        >>> local_model("org/model")
        'org/model'
    """
    if is_named(text) and not Path(text).is_dir():
        file, _, name = text.rpartition("#")
        found = {one.name: one for one in load_endpoints(file).answering}
        if name not in found:
            raise OptionError(
                f"`student` is {text!r}: no [[model]] of that name; found {', '.join(found) or 'none'}"
            )
        local = found[name].local
        if local is None:
            raise OptionError(
                f"`student` is {text!r}: an endpoint, which says nothing of how likely an answer is; wanted a model on "
                "this machine: a folder, or a name on the Hub"
            )
        text = local
    if (Path(text) / "adapter_config.json").is_file():
        check_optional("peft", extra="train")
    else:
        check_model_folder(text)
    return text


def _inputs(options: MeasureOptions, model: str) -> dict[str, list[Path]]:
    """Name every file and folder that is read."""
    found = {
        "student": [Path(model)] if Path(model).is_dir() else [],
        "on": [] if options.on is None else [Path(options.on)],
        "rewards": [] if options.rewards is None else [Path(options.rewards)],
        "chosen": [Path(place) for place in options.chosen],
    }
    if options.pool is not None:
        with open_pool(options.pool, read=options.read) as pool:
            found["pool"] = list(pool.files)
    return found


def _made(options: MeasureOptions, model: str, inputs: dict[str, list[Path]]) -> dict[str, Any]:
    told = {
        "student": None if Path(model).is_dir() else model,
        "read": options.read.as_dict(),
        **{
            name: getattr(options, name)
            for name in ("reward", "sample", "min_margin", "name", "max_length", "skip_invalid", "seed")
        },
    }
    return made_by(
        f"evaluate {options.benchmark}", told, {name: places or None for name, places in inputs.items()}
    )


def _cells(options: MeasureOptions, rows: Sequence[Row], likelihoods: Sequence[Likelihood]) -> Cells:
    """Arrange the numbers by row: losses weighted by their tokens, or 1, 0 and for equal losses a half."""
    if options.benchmark == "loss":
        weights = [one.tokens if one.loss is not None else 0 for one in likelihoods]
        sums = [(one.loss or 0.0) * weight for one, weight in zip(likelihoods, weights, strict=True)]
    else:
        shares = [_share(*pair) for pair in _pairs(likelihoods)]
        weights = [int(share is not None) for share in shares]
        sums = [share or 0.0 for share in shares]
    return Cells(
        tuple(row.id for row in rows),
        tuple(row.category for row in rows),
        np.array(sums, dtype=np.float64)[:, None],
        np.array(weights, dtype=np.float64)[:, None],
    )


def _pairs(likelihoods: Sequence[Likelihood]) -> list[tuple[Likelihood, Likelihood]]:
    """Give the likelihoods of better and worse answers; the worse ones follow all better ones."""
    half = len(likelihoods) // 2
    return list(zip(likelihoods[:half], likelihoods[half:], strict=True))


def _per_row(rows: HeldOut, likelihoods: Sequence[Likelihood]) -> list[tuple[Likelihood, ...]]:
    """Give each row's likelihoods: of its answer, or of both."""
    if len(likelihoods) == len(rows.rows):
        return [(one,) for one in likelihoods]
    return [*_pairs(likelihoods)]


def _reason(likelihoods: Sequence[Likelihood]) -> str | None:
    """Say why a row has no number."""
    return next((one.reason for one in likelihoods if one.reason is not None), None)


def _share(better: Likelihood, worse: Likelihood) -> float | None:
    if better.loss is None or worse.loss is None:
        return None
    return 0.5 if abs(better.loss - worse.loss) <= _NEAR else float(better.loss < worse.loss)


def _result(options: MeasureOptions, rows: HeldOut, likelihoods: Sequence[Likelihood]) -> dict[str, Any]:
    cells = _cells(options, rows.rows, likelihoods)
    reasons = Counter(filter(None, (_reason(some) for some in _per_row(rows, likelihoods))))
    cut = sum(one.is_cut for one in likelihoods)
    notes = [*rows.notes]
    if cut:
        notes.append(
            f"cut at {options.max_length:,} tokens: {cut:,} of {counted(len(likelihoods), 'answer')}"
        )
    return measured(
        options.benchmark,
        options.name or model_name(options.student),
        cells,
        parts={
            band: cells.only(np.array([category == band for category in cells.categories]))
            for band in (*BANDS, "")
            if band in cells.categories
        },
        reasons=reasons,
        seed=options.seed,
        cut=cut,
        notes=notes,
    )


def _lines(rows: HeldOut, likelihoods: Sequence[Likelihood]) -> list[str]:
    """Write each row's numbers; of two answers those of the worse one with `worse_`."""
    return [
        dumped(
            {"id": row.id, "category": row.category, **asdict(both[0])}
            | {f"worse_{name}": value for one in both[1:] for name, value in asdict(one).items()}
        )
        for row, both in zip(rows.rows, _per_row(rows, likelihoods), strict=True)
    ]
