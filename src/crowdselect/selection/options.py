"""The options of a selection, checked once, in one place."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

from crowdselect.embed.vectors import vector_kind
from crowdselect.errors import BudgetError, OptionError
from crowdselect.numeric.ensembles import check_ensemble
from crowdselect.numeric.metrics import METRICS, Ties
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS, check_weights
from crowdselect.numeric.responses import fits_of
from crowdselect.selection.former import refuse_former
from crowdselect.selection.keep import bands_of
from crowdselect.selection.numbers import is_number
from crowdselect.selection.quota import read_quota
from crowdselect.selection.student import Student

RL = "rl"
"""The format of data for reinforcement learning: prompts and what an answer is checked against."""
BEST_STUDENT = "best-student"
Pairs = Literal["best-worst", "within-model", "best-student"]


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
    """How several rewards are combined; one of `crowdselect.numeric.ensembles.ENSEMBLES`."""
    metrics: str | None = None
    """File of numbers per instruction (id and numeric columns), which can have weights like the built-in metrics."""
    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    """Weight per metric or other number (docs/numbers.md); one that is not named has weight 0, a negative one reverses it."""
    ties: Ties = "average"
    """How equal rewards count in stability; "paper" is the authors' rule."""
    clusters: int = 10
    """Number of clusters K; 0 = no clusters."""
    cluster_by: str | None = None
    """A column of the pool whose values are the clusters instead; or NAME:B, bins of equal count of a number."""
    quota: str | None = None
    """How many rows each value of a column gets, COLUMN=RULE: equal, proportional, or shares such as a:0.5,b:0.3,rest:0.2.
    Clusters are made of all rows; each value gives its places to its own part of them."""
    embedder: str = "lsa"
    """What turns instructions into vectors: lsa, minilm, file:VECTORS, column:NAME, a sentence-transformers model, or
    hidden:MODEL, the hidden states of a language model."""
    answer: str = "best"
    """Whose answer to train on: best, random, topN-random, model:NAME or fits:MODEL (see `crowdselect.selection.fitting`); of
    several samples of a model, one of them."""
    answers_per_row: int = 1
    """How many answers a chosen instruction may have, different ones, best first."""
    allow_cut: bool = False
    """Allow answers that were cut as training targets."""
    pairs: Pairs | None = None
    """Make preference pairs: "best-worst", "within-model" of the samples of one model that are furthest apart, or
    "best-student", the best and the student's own."""
    seed: int = 0
    """Decides ties, draws and samples; another seed gives another equally good choice."""
    student: str | None = None
    """The model to be trained, a model of the pool or of `student_answers`: no part of the crowd, never trained on."""
    student_answers: str | None = None
    """A second pool with the student's own answers, joined by id, with the same reward column."""
    student_column: str | None = None
    """The student's success on each instruction, 0 to 1, measured elsewhere: a column of the pool or of `metrics`."""
    good_above: float | None = None
    """An answer is good if its reward is above this; None = the cut that splits all rewards best in two."""
    keep: tuple[str, ...] = ()
    """Bands NAME=LOW..HIGH that numbers have to lie in, both ends included; without one of `rewards`, two are needed."""
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
    reference: str | None = None
    """With `format='rl'`: the column of the right answer; None finds reference, answer, target, ground_truth or solution."""
    source: str | None = None
    """With `format='rl'`: the column that picks the trainer's reward function; None takes the trainer's own name for it."""
    pass_rate: str | None = None
    """With `format='rl'`: the model whose pass rate is written; None = the crowd's."""
    cache: bool = True
    """Keep vectors for the next run."""
    trust_remote_code: bool = False
    """Let an embedder run its own code. Only for models whose code you have read."""

    def __new__(cls, **given: Any) -> Self:  # noqa: ANN401  (any option)
        """Refuse options that are no more."""
        refuse_former(given)
        return object.__new__(cls)

    def __post_init__(self) -> None:
        # Whether the file of numbers has a name is checked when it is read.
        extra = {name: 0 for name in self.weights if self.metrics is not None or is_number(name)}
        object.__setattr__(self, "weights", check_weights(self.weights, known={**METRICS, **extra}))
        self._check_rewards()
        object.__setattr__(self, "decontaminate", _paths(self.decontaminate))
        keep: object = self.keep
        object.__setattr__(self, "keep", (keep,) if isinstance(keep, str) else tuple(self.keep))
        bands_of(self.keep)
        read_quota(self.quota)
        if self.budget < 1:
            raise BudgetError(f"`budget` is {self.budget}; wanted at least 1")
        if self.ties not in get_args(Ties):
            raise OptionError(f"`ties={self.ties!r}` is unknown; choose one of: {', '.join(get_args(Ties))}")
        if self.clusters < 0:
            raise OptionError(f"`clusters` is {self.clusters}; wanted at least 0, which means none")
        self._check_answers()
        self._check_student()
        self._check_rl()
        if self.near_duplicates is not None and not 0 <= self.near_duplicates <= 1:
            raise OptionError(f"`near_duplicates={self.near_duplicates}` is outside 0 to 1")

    def _check_rewards(self) -> None:
        names = (self.reward,) if isinstance(self.reward, str) else tuple(self.reward or ())
        if len(set(names)) < len(names):
            raise OptionError(f"`reward` names a column twice ({', '.join(names)}); name each once")
        if self.ensemble is not None:
            check_ensemble(self.ensemble, max(len(names), 2))
        if len(names) > 1 and self.ensemble is None:
            raise OptionError(
                f"several rewards ({', '.join(names)}) but no `ensemble` to combine them; add `ensemble='mean-rank'` or `ensemble='mean-z'`"
            )
        if self.ensemble is not None and len(names) < 2:
            raise OptionError(
                f"`ensemble={self.ensemble!r}` needs two rewards or more; name each of them with `reward`"
            )
        object.__setattr__(self, "reward", names if len(names) > 1 else names[0] if names else None)

    def _check_answers(self) -> None:
        if self.pairs is not None and self.pairs not in get_args(Pairs):
            raise OptionError(
                f"`pairs={self.pairs!r}` is unknown; choose one of: {', '.join(get_args(Pairs))}"
            )
        of_one = self.pairs == "within-model" and self.answer.startswith("model:")
        if self.pairs is not None and self.answer != "best" and not of_one:
            raise OptionError(
                f"`pairs={self.pairs!r}` prefers the best answer, so it cannot be combined with `answer={self.answer!r}`"
            )
        if self.answers_per_row < 1:
            raise OptionError(f"`answers_per_row` is {self.answers_per_row}; wanted at least 1")
        fits = fits_of(self.answer)
        one_of_some = fits is not None or "random" in self.answer.split("-")
        if self.answers_per_row > 1 and (self.pairs is not None or one_of_some):
            other = f"answer={self.answer!r}" if self.pairs is None else f"pairs={self.pairs!r}"
            raise OptionError(
                f"`answers_per_row={self.answers_per_row}` takes the best answers, so it cannot be combined with `{other}`"
            )

    def _check_student(self) -> None:
        student = self.the_student
        student.check()
        if student.name is not None and self.answer == f"model:{student.name}":
            raise OptionError(
                f"`answer={self.answer!r}` would train the student {student.name} on its own answers; name another model"
            )
        if self.pairs == BEST_STUDENT and student.column is not None:
            raise OptionError(
                f"`pairs={self.pairs!r}` rejects the student's own answers, which `student_column` does not hold; name it with "
                "`student` or `student_answers`"
            )

    @property
    def the_student(self) -> Student:
        """The student that is named, and what counts as good."""
        return Student(
            name=self.student,
            answers=self.student_answers,
            column=self.student_column,
            good_above=self.good_above,
        )

    def _check_rl(self) -> None:
        if self.format != RL:
            for name in ("reference", "source", "pass_rate"):
                value = getattr(self, name)
                if value is not None:
                    raise OptionError(f"`{name}={value!r}` is of `format='rl'`; add that")
        elif self.answers_per_row > 1 or fits_of(self.answer) is not None:
            name = "answers_per_row" if self.answers_per_row > 1 else "answer"
            raise OptionError(f"`format='rl'` writes prompts without answers; leave `{name}` out")

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


def wants_model(options: Options, *, method: bool = False) -> bool:
    """Tell whether a model has to embed texts; `method` says whether the method needs vectors."""
    return (method or wants_vectors(options)) and vector_kind(options.embedder).runs_a_model
