"""How often the 95 % interval of `evaluate compare` holds the truth, where choices of rows and trainings both vary.

Run: python benchmarks/compare_coverage.py [TIMES]
"""

import sys

import numpy as np

from crowdselect.evaluate.comparison import compare
from crowdselect.evaluate.outcome import Loaded, MethodRuns
from crowdselect.evaluate.scores import Cells

QUESTIONS, SPREAD = 80, 1.5  # of the difference on one question
SHAPES = ((2, 2), (3, 2), (5, 2))  # choices, trainings of each
MOVES = (0.4, 0.2)  # standard deviations: of choices, of trainings


def method(name: str, level: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> MethodRuns:
    """Simulate a method's results: `level` is its score on each question, shape (Q,)."""
    choices, trainings = shape
    shifts = rng.normal(0, MOVES[0], (choices, 1)) + rng.normal(0, MOVES[1], shape)
    ids = tuple(str(number) for number in range(QUESTIONS))
    runs = tuple(
        Loaded(
            name, "mt-bench", name, "j", None, {}, "u",
            Cells(ids, ("",) * QUESTIONS, (level + shift)[:, None], np.ones((QUESTIONS, 1))),
        )
        for shift in shifts.ravel()
    )  # fmt: skip
    return MethodRuns(name, runs, tuple(np.repeat(np.arange(choices), trainings).tolist()))


def held(shape: tuple[int, int], times: int) -> tuple[float, float]:
    """Return how often the true difference, 0, is inside, with whole choices drawn and with runs drawn."""
    rng = np.random.default_rng(0)
    inside = np.zeros(2)
    for seed in range(times):
        base = rng.uniform(2, 8, QUESTIONS)
        two = [
            method("one", base + rng.normal(0, SPREAD, QUESTIONS), shape, rng),
            method("other", base, shape, rng),
        ]
        flat = [MethodRuns(each.name, each.runs) for each in two]
        for at, groups in enumerate((two, flat)):
            low, high = compare(groups, seed=seed).differences[0].interval or (np.nan, np.nan)
            inside[at] += low <= 0 <= high
    return tuple(inside / times)


def main() -> None:
    """Print the table in docs/evaluate.md."""
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{times} times each; choices x trainings | choices drawn | runs drawn")
    for shape in SHAPES:
        choices, runs = held(shape, times)
        print(f"{shape[0]} x {shape[1]} | {choices:.0%} | {runs:.0%}", flush=True)


if __name__ == "__main__":
    main()
