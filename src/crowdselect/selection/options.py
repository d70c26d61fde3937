"""The options of a selection, checked once, in one place."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from crowdselect.embed.vectors import vector_kind
from crowdselect.errors import BudgetError, OptionError
from crowdselect.numeric.ensembles import ENSEMBLES
from crowdselect.numeric.metrics import METRICS, Ties
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS, check_weights

Pairs = Literal["best-worst"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to choose. Every field is named like its command-line option and goes into the manifest.

    Raises:
        OptionError: A value makes no sense for any pool; `crowdselect.select` checks what depends on the
            pool.

    Example:
        >>> Options(budget=100, weights={"separability": 1.0}).clusters
        10
    """

    budget: int
    """How many rows to choose; exactly that many are chosen."""
    reward: str | tuple[str, ...] | None = None
    """The reward column, or several for an ensemble; None = the pool's only one."""
    ensemble: str | None = None
    """How several rewards are combined: "mean-rank" or "mean-z"."""
    metrics: str | None = None
    """File of numbers per instruction (id and numeric columns), which can have weights like the built-in metrics."""
    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    """Weight per metric; one that is not named has weight 0, a negative weight reverses a metric."""
    ties: Ties = "average"
    """How equal rewards count in stability; "paper" is the authors' rule."""
    clusters: int = 10
    """Number of clusters K; 0 = no clusters."""
    cluster_by: str | None = None
    """A column of the pool whose values are the clusters instead."""
    embedder: str = "lsa"
    """What turns instructions into vectors: lsa, minilm, file:VECTORS, column:NAME or a sentence-transformers model."""
    answer: str = "best"
    """Whose answer to train on: best, random, topN-random or model:NAME."""
    allow_cut: bool = False
    """Allow answers that were cut as training targets."""
    pairs: Pairs | None = None
    """Make preference pairs: "best-worst"."""
    seed: int = 0
    """Decides ties, draws and samples; another seed gives another equally good choice."""
    min_rewards: int = 2
    """Fewest answers with a reward that an instruction needs."""
    min_best_reward: float | None = None
    """Quality floor: the lowest best reward an instruction may have."""
    min_best_quantile: float | None = None
    """Quality floor as a share of the pool, 0 to 1: 0.2 bars the fifth with the lowest best rewards."""
    near_duplicates: float | None = None
    """Skip a row whose cosine to one already chosen in its cluster is above this, 0 to 1."""
    include: str | None = None
    """File of ids: choose only among these."""
    exclude: str | None = None
    """File of ids: never choose these."""
    decontaminate: tuple[str, ...] = ()
    """Files of benchmark questions: never choose an instruction that shares text with one."""
    decontaminate_ngram: int = 13
    """So many words in a row, the same in instruction and question, are no chance."""
    format: str | None = None
    """The format that is to be written: what it cannot hold is not chosen."""
    trainer: str | None = None
    """Who is to read that, likewise."""
    file_type: str = "jsonl"
    """Its file type, likewise."""
    cache: bool = True
    """Keep vectors for the next run."""
    trust_remote_code: bool = False
    """Let an embedder run its own code. Only for models whose code you have read."""

    def __post_init__(self) -> None:
        extra = (
            {} if self.metrics is None else self.weights
        )  # whether the file has these is checked when it is read
        object.__setattr__(self, "weights", check_weights(self.weights, known={**METRICS, **extra}))
        self._check_rewards()
        object.__setattr__(self, "decontaminate", _paths(self.decontaminate))
        if self.budget < 1:
            raise BudgetError(f"`budget` is {self.budget}; wanted at least 1")
        if self.ties not in get_args(Ties):
            raise OptionError(f"`ties={self.ties!r}` is unknown; choose one of: {', '.join(get_args(Ties))}")
        if self.clusters < 0:
            raise OptionError(f"`clusters` is {self.clusters}; wanted at least 0, which means none")
        if self.min_rewards < 1:
            raise OptionError(
                f"`min_rewards` is {self.min_rewards}; wanted at least 1, as a row without a reward has no metrics"
            )
        if self.pairs is not None and self.pairs not in get_args(Pairs):
            raise OptionError(
                f"`pairs={self.pairs!r}` is unknown; choose one of: {', '.join(get_args(Pairs))}"
            )
        if self.pairs is not None and self.answer != "best":
            raise OptionError(
                f"`pairs={self.pairs!r}` prefers the best answer, so it cannot be combined with `answer={self.answer!r}`"
            )
        self._check_shares()

    def _check_rewards(self) -> None:
        names = (self.reward,) if isinstance(self.reward, str) else tuple(self.reward or ())
        if len(set(names)) < len(names):
            raise OptionError(f"`reward` names a column twice ({', '.join(names)}); name each once")
        if self.ensemble is not None and self.ensemble not in ENSEMBLES:
            raise OptionError(
                f"`ensemble={self.ensemble!r}` is unknown; choose one of: {', '.join(ENSEMBLES)}"
            )
        if len(names) > 1 and self.ensemble is None:
            raise OptionError(
                f"several rewards ({', '.join(names)}) but no `ensemble` to combine them; add `ensemble='mean-rank'` or `ensemble='mean-z'`"
            )
        if self.ensemble is not None and len(names) < 2:
            raise OptionError(
                f"`ensemble={self.ensemble!r}` needs two rewards or more; name each of them with `reward`"
            )
        object.__setattr__(self, "reward", names if len(names) > 1 else names[0] if names else None)

    def _check_shares(self) -> None:
        if self.min_best_reward is not None and not math.isfinite(self.min_best_reward):
            raise OptionError(f"`min_best_reward={self.min_best_reward}` is not a finite number")
        if self.min_best_reward is not None and self.min_best_quantile is not None:
            raise OptionError(
                "`min_best_reward` and `min_best_quantile` both set the quality floor; pass only one of them"
            )
        for name in ("min_best_quantile", "near_duplicates"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise OptionError(f"`{name}={value}` is outside 0 to 1")

    def as_dict(self) -> dict[str, Any]:
        """Return all options by name, as plain values for the manifest.

        Example:
            >>> Options(budget=5).as_dict()["budget"]
            5
        """
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def _paths(files: object) -> tuple[str, ...]:
    if isinstance(files, str) or not isinstance(files, Iterable):
        raise OptionError(f"`decontaminate={files!r}` is not a list of files; write [{files!r}]")
    return tuple(str(file) for file in files)


def wants_vectors(options: Options) -> bool:
    """Tell whether clusters or near-duplicates need vectors."""
    by_vectors = options.clusters > 0 and options.cluster_by is None
    return by_vectors or options.near_duplicates is not None


def wants_model(options: Options) -> bool:
    """Tell whether a model has to embed texts."""
    return wants_vectors(options) and vector_kind(options.embedder).runs_a_model
