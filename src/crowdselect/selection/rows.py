"""What is known of every instruction after one look at a pool of any size: numbers, no texts; the matrix only on request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.errors import OptionError, ShapeError
from crowdselect.numeric.ensembles import Agreement
from crowdselect.numeric.exact import ordered_families
from crowdselect.numeric.metrics import METRICS, by_family, of_samples
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS, check_weights
from crowdselect.numeric.responses import ChosenAnswers, Several
from crowdselect.pool.pool import Pool
from crowdselect.pool.shards import Ids, Places
from crowdselect.seeding import UInt64Array
from crowdselect.selection.benchmarks import BenchmarkQuestion
from crowdselect.selection.examples import Example
from crowdselect.selection.matrix import Matrix
from crowdselect.selection.measure import Look
from crowdselect.selection.own_answers import JoinedAnswers
from crowdselect.selection.rewards import Ends
from crowdselect.selection.rl import Columns
from crowdselect.selection.student import Reach
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray, Table

COLUMNS = (
    "id",
    "selected",
    "rank",
    "reason",
    "model",
    "sample",
    "reward",
    "fit",
    "good_answers",
    "answers",
    "cluster",
    "stratum",
    "score",
    "chance",
    "example",
    "similarity",
    "n_rewards",
    "reward_agreement",
)
"""Reserved names, which no column of the `metrics` file may have."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The good answers of the chosen rows, how well each fits the student, and which were taken."""

    good: Several
    """By row, the best-rewarded first; B of them."""
    fits: FloatArray
    """Mean log-likelihood per token, shape (B,), at most 0; higher = the model would sooner say it itself. NaN = not known."""
    taken: IntArray
    """Which of them are trained on, one for each chosen row, by row."""

    @property
    def best(self) -> IntArray:
        """Which of them are the best-rewarded of their rows, likewise."""
        return np.unique(self.good.row, return_index=True)[1]

    @property
    def counts(self) -> IntArray:
        """How many each chosen row has, likewise."""
        return np.unique(self.good.row, return_counts=True)[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is known of each instruction; row i of every array is instruction i, in id order."""

    ids: Ids
    """N ids."""
    hashes: UInt64Array
    """Shape (N,): content hash of each id."""
    blank: BoolArray
    """Which instructions have no text, shape (N,)."""
    groups: IntArray
    """Shape (N,): rows with the same number have the same text."""
    n_rewards: IntArray
    """Rewards per instruction, shape (N,)."""
    metrics: Mapping[str, FloatArray]
    """Each metric, and each further number that may have a weight, shape (N,). NaN = undefined."""
    numbers: Mapping[str, FloatArray] = field(default_factory=dict)
    """Further numbers that were asked for, shape (N,) each. NaN = none; see `crowdselect.selection.numbers`."""
    answers: ChosenAnswers
    """Whose answer to train on."""
    crowd: Crowd
    """One member per model of the pool, in the pool's order."""
    fitted: Fitted | None = None
    """Of the chosen rows, once `answer='fits:MODEL'` took their answers; see `crowdselect.selection.fitting`."""
    per_model: IntArray
    """Rewards per model, shape (M,)."""
    lowest: float
    """The lowest reward. NaN = there is none."""
    ends: Ends = ()
    """The lowest and the highest rewards of any answer, several samples of a model apart; empty for an ensemble."""
    reward: str | None
    """The reward column; of an ensemble, what it is made of."""
    read_as: str | None = None
    """How the pool was understood, in one line; None = it is tidy."""
    notes: tuple[str, ...] = ()
    """One-line facts about the crowd that the user should know."""
    pool_notes: tuple[str, ...] = ()
    """One-line facts about the pool's files that the user should know."""
    agreement: Agreement | None = None
    """How far the rewards of an ensemble agree."""
    questions: tuple[tuple[str, list[BenchmarkQuestion]], ...] = ()
    """Files of benchmark questions, the method's examples last, and their questions."""
    examples: tuple[Example, ...] = ()
    """What the method compares rows with."""
    owner: IntArray | None = None
    """Shape (N,): which of these questions, numbered over all files, each row shares text with; -1 = none."""
    columns: Mapping[str, ObjectArray] = field(default_factory=dict)
    """Requested columns of the pool, shape (N,) each, of str; None where missing."""
    checked: Columns | None = None
    """With `format='rl'`: the columns of what an answer is checked against."""
    rewards: Mapping[str, FloatArray] = field(default_factory=dict)
    """Requested reward columns: rewards of the answers to train on, shape (N,) each. NaN = none."""
    left_out: ObjectArray | None = None
    """Shape (N,): why a row cannot be chosen for what it is, a code of `REASONS`; None = nothing bars it."""
    needs: ObjectArray | None = None
    """Shape (N,): what an export has to hold, words of `turns` and `tools`."""
    text_keys: Table | None = None
    """The cache key of each text's vector, if a model embeds them."""
    places: Places
    """Where the rows are in the shards."""
    shard: NDArray[np.int32]
    """Shape (N,): the shard of each row."""
    reach: Reach | None = None
    """What crowd and student can do; None = not wanted."""
    matrix: Matrix | None = None
    """The score matrix, on request."""
    look: Look | None = None
    """By which it was read."""
    joined: JoinedAnswers | None = None
    """The student's answers, where they are in a pool of their own; it is closed unless it was opened elsewhere."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def reached(self) -> Reach:
        """What crowd and student can do.

        Raises:
            ShapeError: Nobody asked for it.
        """
        if self.reach is None:
            raise ShapeError("the rows were looked at without what is good")
        return self.reach

    def number(self, name: str) -> FloatArray:
        """Give a metric or another number that was asked for, shape (N,). NaN = none."""
        return self.metrics[name] if name in self.metrics else self.numbers[name]

    def column(self, name: str, pool: Pool) -> ObjectArray:
        """Return a column of the pool.

        Raises:
            InputError: There is no column of that name.
        """
        return self.columns[name] if name in self.columns else pool.column(name)

    @property
    def families(self) -> int:
        """How many model families show an order: two known sizes or more among the models with rewards."""
        sizes = np.where(self.per_model > 0, self.crowd.sizes, np.nan)
        return len(ordered_families(sizes, self.crowd.families))


def check_usable(rows: Rows, weights: Mapping[str, float]) -> None:
    """Refuse weights of metrics that the pool does not have.

    Args:
        rows: From `look_at`.
        weights: Per metric.

    Raises:
        OptionError: A weight is of an unknown number, or of a metric by family where no family shows an order.
    """
    check_weights(weights, known={**METRICS, **rows.metrics})
    for name in of_samples({name: weight for name, weight in weights.items() if name not in rows.metrics}):
        raise OptionError(
            f"{name} has a weight, but no model has two samples with a reward to an instruction; collect several "
            f"(`crowdselect collect --samples 4`), or leave it out with {weights_without(name, weights)}"
        )
    for name in () if rows.families else by_family(weights):
        raise OptionError(
            f"{name} has a weight, but no model family of two known sizes is in the pool; name families and sizes "
            "in a file (`crowdselect crowd POOL -o crowd.toml` writes one to edit) and pass it as `crowd`, or "
            f"leave it out with {weights_without(name, weights)}"
        )


def weights_without(name: str, weights: Mapping[str, float]) -> str:
    """Name the option that leaves a number out of the score, for messages.

    Args:
        name: The number to leave out.
        weights: Those in use; where no other number has one, the usual ones replace them.

    Example:
        >>> weights_without("stability", {"difficulty": -1.0, "stability": 2.0})
        "`weights={'difficulty': -1}`"
    """
    in_use = (weights, DEFAULT_WEIGHTS)
    others = ({other: weight for other, weight in w.items() if weight and other != name} for w in in_use)
    plain = {other: int(w) if w == int(w) else w for other, w in next(filter(None, others)).items()}
    return f"`weights={plain}`"


def nullable(values: FloatArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """Convert numbers to an Arrow array, NaN to null."""
    import pyarrow as pa

    return pa.array(values, mask=np.isnan(values))


def metrics_table(rows: Rows, *, also: Sequence[str] = ()) -> Table:
    """Build the table of every instruction's metrics.

    Args:
        rows: From `crowdselect.selection.look.look_at`, without options.
        also: Further numbers that it was told to find.

    Returns:
        A table in id order with `id`, `n_rewards`, `mean_reward`, `best_model`, `best_reward` (the highest
        reward, with or without text, of several samples the highest; a seeded hash breaks ties), the metrics and the
        further numbers; null where undefined.
    """
    import pyarrow as pa

    answers = rows.answers

    best = pa.array(rows.crowd.names, pa.string()).take(pa.array(answers.chosen, mask=answers.chosen < 0))
    return pa.table(
        {
            "id": pa.array(rows.ids, pa.string()),
            "n_rewards": pa.array(rows.n_rewards),
            "mean_reward": nullable(-rows.metrics["difficulty"]),
            "best_model": best,
            "best_reward": nullable(answers.best_reward),
            **{name: nullable(values) for name, values in rows.metrics.items()},
            **{name: nullable(rows.number(name)) for name in also},
        }
    )
