"""Runs what is not done yet: the student before training, its reading of the pool, then one way and seed after the other."""

import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from crowdselect import Crowd, Options, export, open_pool, select
from crowdselect.evaluate.measured import Kind, MeasureOptions, measure
from crowdselect.methods import method_named
from crowdselect.train import TrainSettings, train
from crowdselect.train.rows import Length, lengths, read_rows
from crowdselect.train.student import read_student
from proving_ground.real.design import (
    ANSWER_TOKENS,
    COLUMN,
    LEARNING_RATE,
    REWARD,
    ROW_TOKENS,
    STEPS,
    WAYS,
    order,
)
from proving_ground.real.pool import ENDLESS, Parts, divide
from proving_ground.real.results import BASE, READING, Record, Results, run_name
from proving_ground.real.student import write_student
from proving_ground.run import processes

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Done = tuple[str, Record]


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder of what can be made again, and the crowd's file."""

    folder: Path
    parts: Parts
    crowd: Path

    @property
    def student(self) -> Path:
        """The model before training."""
        return self.folder / "student"

    @property
    def numbers(self) -> Path:
        """The student's success on each question."""
        return self.folder / "student.parquet"


def run(
    results: Results, pool: Path, crowd: Path, folder: Path, *, workers: int, cpu_seconds: float = math.inf
) -> None:
    """Run what is not done yet.

    Args:
        results: The results so far; new ones are added.
        pool: The pool's file.
        crowd: Family and size of its models.
        folder: Where models and selections go; what is there is used again.
        workers: Processes, each with one thread.
        cpu_seconds: No run begins once all results together took so much.
    """
    folder.mkdir(parents=True, exist_ok=True)
    student = write_student(folder / "student")
    place = Workplace(folder, divide(pool, folder, student=student), crowd)
    with processes(workers) as executor:
        running = {
            executor.submit(task, place)
            for name, task in ((READING, read_pool), (BASE, measure_base))
            if name not in results
        }
        for way, seed in order():
            if run_name(way, seed) in results:
                continue
            by_column = WAYS[way].options.get("student_column") is not None
            while len(running) >= workers or (by_column and READING not in results):
                running = _collected(results, running)
            if results.cpu_seconds() >= cpu_seconds:
                break
            if by_column:
                write_numbers(place, results[READING])
            running.add(executor.submit(run_one, place, way, seed))
        while running:
            running = _collected(results, running)


def _collected(results: Results, running: set[Future[Done]]) -> set[Future[Done]]:
    """Wait for a result and write it; return what is still running."""
    done, others = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        name, record = future.result()
        results.add(name, record)
        print(
            f"{time.strftime('%H:%M:%S')} {name}: {record['cpu_seconds']:.0f} CPU-seconds, "
            f"{results.cpu_seconds():.0f} in all",
            flush=True,
        )
    return others


def read_pool(place: Workplace) -> Done:
    """Measure the student's loss on the crowd's best answer to every question that may be chosen."""
    took = stopwatch()
    found = losses("loss", place.student, place.parts.choose)
    return READING, {**found, "cpu_seconds": took()}


def write_numbers(place: Workplace, reading: Record) -> None:
    """Write the student's success: exp(-loss per token), the geometric mean of the tokens' probabilities."""
    success = np.exp(-np.array(reading["loss"]))
    pq.write_table(pa.table({"id": reading["ids"], COLUMN: success}), place.numbers)


def measure_base(place: Workplace) -> Done:
    """Measure the student before training."""
    took = stopwatch()
    found = losses("loss", place.student, place.parts.held_out)
    tasks = place.parts.tasks()
    record = {
        **found,
        "tasks": [tasks[id_] for id_ in found["ids"]],
        "prefers": preferences(place.student, place.parts.held_out, found["ids"]),
        "cpu_seconds": took(),
    }
    return BASE, record


def run_one(place: Workplace, way: str, seed: int) -> Done:
    """Choose by one way, train the student on what is chosen, and measure it."""
    took = stopwatch()
    with tempfile.TemporaryDirectory(dir=place.folder) as scratch:
        chosen = Path(scratch) / "chosen"
        ids, each, limit = choose(place, way, seed, chosen)
        settings = TrainSettings(
            epochs=1,
            learning_rate=LEARNING_RATE,
            batch_size=1,
            accumulation=each,
            max_length=limit,
            dtype="bfloat16",
            gradient_checkpointing=False,
            seed=seed,
        )
        trained = train(chosen, Path(scratch) / "trained", base=str(place.student), settings=settings)
        training = took()
        found = losses("loss", trained.folder, place.parts.held_out)
        prefers = preferences(trained.folder, place.parts.held_out, found["ids"])
    plan, tasks = trained.manifest["plan"], place.parts.tasks()
    record = {
        "way": way,
        "seed": seed,
        **{name: plan[name] for name in ("rows", "steps", "tokens", "answer_tokens", "limit", "cut")},
        "tasks": dict(sorted(Counter(tasks[id_] for id_ in ids).items())),
        "train_loss": [round(line["loss"], 4) for line in trained.log if "loss" in line],
        "loss": found["loss"],
        "prefers": prefers,
        "cpu_seconds_training": training,
        "cpu_seconds": took(),
    }
    return run_name(way, seed), record


def choose(place: Workplace, way: str, seed: int, folder: Path) -> tuple[list[str], int, int]:
    """Choose as few rows as hold the tokens that are trained on: so many for each step; and cut them to just these tokens.

    Args:
        place: The workplace.
        way: A name of `WAYS`.
        seed: Seed of the choice.
        folder: Where the training file is written.

    Returns:
        The chosen ids; rows for each step; most tokens of a row.
    """
    how = WAYS[way]
    method = method_named(how.method, **how.settings)
    student = read_student(str(place.student), TrainSettings())
    numbers = str(place.numbers) if "student_column" in how.options else None
    with open_pool(place.parts.choose) as pool:
        for each in count(ANSWER_TOKENS // (STEPS * ROW_TOKENS)):
            options = Options(budget=STEPS * each, reward=REWARD, seed=seed, metrics=numbers, **how.options)
            selection = select(pool, options, crowd=Crowd.from_file(place.crowd), method=method)
            export(selection, pool, folder, overwrite=True)
            found = lengths(read_rows(str(folder)).rows, student, limit=ENDLESS, objective="sft")
            limit = cut(found, wanted=ANSWER_TOKENS, most=ROW_TOKENS)
            if limit is not None:
                return selection.chosen, each, limit
    raise AssertionError


def cut(found: Sequence[Length], *, wanted: int, most: int) -> int | None:
    """Return the most tokens of a row with which the rows hold at most so many tokens of answers; None if they hold fewer anyway.

    Example:
        >>> rows = [Length(9, 5, 9, False, False, False), Length(6, 4, 6, False, False, False)]
        >>> cut(rows, wanted=7, most=8), cut(rows, wanted=9, most=8)
        (7, None)
    """
    whole = np.array([one.longest for one in found])
    begin = whole - [one.answer for one in found]
    held = [int(np.maximum(np.minimum(whole, limit) - begin, 0).sum()) for limit in range(most + 1)]
    return None if held[most] < wanted else max(limit for limit in range(most + 1) if held[limit] <= wanted)


def losses(kind: Kind, model: Path, pool: Path) -> Record:
    """Measure a model by `evaluate loss` or `evaluate prefers`, computing in bfloat16.

    Returns:
        Of each question, in the order of ids: `ids`, `bands`, `tokens` that count, `loss`: the mean per token, or the share
        of 1 that goes to the better answer.
    """
    with tempfile.TemporaryDirectory() as scratch, torch.autocast(DEVICE, dtype=torch.bfloat16):
        options = MeasureOptions(
            benchmark=kind,
            student=str(model),
            pool=str(pool),
            reward=REWARD,
            max_length=ROW_TOKENS,
            device=DEVICE,
            output=f"{scratch}/result",
        )
        questions = measure(options).result["questions"]
    return {
        "ids": [one["id"] for one in questions],
        "bands": [one["category"] for one in questions],
        "tokens": [int(one["weights"][0]) for one in questions],
        "loss": [
            round(one["sums"][0] / one["weights"][0], 5) if one["weights"][0] else None for one in questions
        ],
    }


def preferences(model: Path, pool: Path, ids: Sequence[str]) -> list[float | None]:
    """Measure by `evaluate prefers`: 1 where the better answer is likelier, 0.5 where both are alike; None = there is no worse one."""
    found = losses("prefers", model, pool)
    by_id = dict(zip(found["ids"], found["loss"], strict=True))
    return [by_id.get(id_) for id_ in ids]


def stopwatch() -> Callable[[], float]:
    """Return what tells the seconds of processor time since now, of all threads."""
    begin = sum(os.times()[:2])
    return lambda: round(sum(os.times()[:2]) - begin, 1)
