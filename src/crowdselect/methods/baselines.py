"""The methods that CrowdSelect is compared with; each is a score, and everything else is as in `select`.

from crowdselect.methods.baselines import random_choice
select(pool, Options(budget=1000, clusters=0), method=random_choice())
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError, OptionError
from crowdselect.lengths import CHARACTERS, counter
from crowdselect.methods.ifd import Answered, ifd_ratios
from crowdselect.methods.tags import folded, read_tags, rounds
from crowdselect.numeric.metrics import METRICS
from crowdselect.numeric.moments import rounded
from crowdselect.numeric.quotas import water_fill
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS, combine, uniform_ranks
from crowdselect.progress import Progress
from crowdselect.seeding import reseeded
from crowdselect.selection.clusters import Grouping
from crowdselect.selection.methods import Method, Scored, Seen
from crowdselect.types import BoolArray, FloatArray

Direction = Literal["up", "down"]
Of = Literal["instruction", "answer"]
Tagger = Callable[[Sequence[str], Progress], Sequence[Sequence[str] | None]]
"""Instructions → the tags of each, None where they are not known; see `crowdselect.reward.tags.JudgeTagger`."""
Marker = Callable[[Sequence[Answered], Progress], Sequence[float | None]]
"""Instructions with answers → marks, None where there is none; see `crowdselect.reward.marks.JudgeMarker`."""

DEITA_COSINE = 0.9
"""deita's threshold: a row more like a kept one than this is passed over."""

_ANSWERS = 2_000  # answers read from the pool at a time


def _method(
    name: str,
    score: Callable[[Seen, Progress], Scored],
    *,
    arrange: Callable[[Seen, FloatArray, Grouping], Scored] | None = None,
    vectors: bool = False,
    by_file: bool = False,
    **settings: Any,  # noqa: ANN401  (plain values for the manifest)
) -> Method:
    unweighted = {"weights": dict.fromkeys(METRICS, 0.0)}
    return Method(
        settings={"method": name, **settings, **unweighted},
        score=score,
        arrange=arrange,
        vectors=vectors,
        by_file=by_file,
    )


def random_choice() -> Method:
    """Rows at random, by a seeded hash of their ids; with clusters, as many from each: cluster + random.

    The first control of the paper (section 3). `score` is the draw, in [0, 1).

    Example:
        >>> random_choice().settings["method"]
        'random'
    """

    def score(seen: Seen, _progress: Progress) -> Scored:
        draws = reseeded(seen.hashes, seed=seen.options.seed, salt="random")
        return Scored((draws >> np.uint64(11)).astype(np.float64) / 2.0**53)

    return _method("random", score, by_file=True)


def by_length(*, of: Of = "instruction", unit: str = CHARACTERS, direction: Direction = "up") -> Method:
    """The longest (or shortest) instructions or answers to train on.

    The paper's baseline Length (appendix B.3); long answers alone make a strong one (Zhao et al. 2024, arXiv
    2402.04833). `score` is the length, negative with "down".

    Args:
        of: "instruction" or "answer": the one that --answer takes.
        unit: "characters", or a tokenizer: a `tokenizer.json`, a folder with one, or a name on the Hub.
        direction: "up" takes the longest, "down" the shortest.

    Raises:
        OptionError: A value is unknown.
    """
    _known("of", of, Of)
    sign = _sign(direction)

    def score(seen: Seen, progress: Progress) -> Scored:
        count = counter(unit)
        rows = np.flatnonzero(seen.eligible)
        lengths = np.full(len(seen.eligible), np.nan)
        for begin in range(0, len(rows), _ANSWERS):
            block = rows[begin : begin + _ANSWERS]
            lengths[block] = count(_texts(seen, block, of=of))
            progress(min(begin + _ANSWERS, len(rows)), len(rows))
        return Scored(sign * lengths)

    return _method("length", score, of=of, unit=unit, direction=direction)


def by_reward(*, direction: Direction = "up") -> Method:
    """The rows whose best answer has the highest (or lowest) reward.

    The paper's Reward-Score (table 19), which it leaves out of its main table. `score` is the highest reward of
    an answer with text, whatever --answer takes; negative with "down".

    Args:
        direction: "up" takes the highest, "down" the lowest.

    Raises:
        OptionError: The direction is unknown.
    """
    sign = _sign(direction)

    def score(seen: Seen, _progress: Progress) -> Scored:
        best = seen.answers.best_reward
        return Scored(sign * best, {"no reward": np.isnan(best)})

    return _method("reward", score, by_file=True, direction=direction)


def by_tags(*, column: str | None = None, tagger: Tagger | None = None, judge: str | None = None) -> Method:
    """Many tags first, and each next row must add one: InsTag's complexity-first diverse sampling.

    Lu et al. 2023 (arXiv 2308.07074), algorithm 1: rows in order of their number of tags; a row is taken if it
    adds a tag that none taken in this round has; when none adds any more, a new round begins. `score` is the
    number of tags, less (most tags + 1) for every round before the row's own. With clusters, each has
    rounds of its own.

    Args:
        column: A column of the pool: lists of tags (or of objects with `tag`), or tags separated by commas.
        tagger: Gives the tags instead.
        judge: What the tagger is, for the manifest.

    Raises:
        OptionError: Neither or both are given.
    """
    if (column is None) == (tagger is None):
        raise OptionError(
            "tags come from a column of the pool (--column NAME) or from a judge (--judge FILE.toml#NAME); "
            "give one of them"
        )
    found: list[frozenset[str]] = []

    def score(seen: Seen, progress: Progress) -> Scored:
        read = _tags(seen, column) if tagger is None else _asked_tags(seen, tagger, progress)
        found[:] = [tags or frozenset() for tags in read]
        unknown = np.array([tags is None for tags in read], dtype=np.bool_)
        counts = np.array([len(tags) for tags in found], dtype=np.float64)
        return Scored(counts, {"the judge gave no tags that can be read": unknown, "no tags": counts == 0})

    def arrange(seen: Seen, counts: FloatArray, grouping: Grouping) -> Scored:
        out = counts.copy()
        for label, depth in _depths(seen, grouping).items():
            rows = np.flatnonzero(_first_of_groups(seen) & (grouping.labels == label))
            order = rows[np.lexsort((seen.keys[rows], -counts[rows]))]
            own = rounds([found[row] for row in order], depth=depth)
            out[order] -= own * (counts[rows].max(initial=0.0) + 1)
        return Scored(_with_duplicates(seen, out))

    return _method("tags", score, arrange=arrange, column=column, judge=judge)


def by_direct_score(
    *, column: str | None = None, marker: Marker | None = None, judge: str | None = None
) -> Method:
    """The rows that a judge gave the best mark: the idea of AlpaGasus (Chen et al. 2023, arXiv 2307.08701).

    `score` is the mark: of the answer to train on where a marker gives it or the column is a reward of the pool,
    else of the row.

    Args:
        column: A reward column, such as the judge scorer of `crowdselect reward` makes, or one number per row.
        marker: Gives the marks instead, 0 to 5.
        judge: What the marker asks, for the manifest.

    Raises:
        OptionError: Neither or both are given.
    """
    if (column is None) == (marker is None):
        raise OptionError(
            "marks come from a column of the pool (--column NAME) or from a judge (--judge FILE.toml#NAME); "
            "give one of them"
        )

    def score(seen: Seen, progress: Progress) -> Scored:
        if marker is None:
            marks = _numbers(seen, str(column))
            return Scored(marks, {f"no {column}": np.isnan(marks)})
        rows, pairs = _answered(seen)
        marks = np.full(len(seen.eligible), np.nan)
        if len(rows):
            marks[rows] = [np.nan if mark is None else mark for mark in marker(pairs, progress)]
        return Scored(marks, {"the judge gave no mark that can be read": np.isnan(marks)})

    return _method("direct-score", score, column=column, judge=judge)


def by_ifd(
    *,
    model: str,
    max_length: int = 2048,
    batch_tokens: int = 4096,
    device: str = "auto",
    ratios_of: Callable[..., FloatArray] | None = None,
) -> Method:
    """The rows whose instruction helps a language model least to foresee the answer, and yet helps.

    Instruction-following difficulty (Li et al. 2023, arXiv 2308.12032); see `crowdselect.methods.ifd.ifd_ratios`. `score`
    is the ratio of losses; rows at 1 or above are left out, as in the paper. With a model that was first trained
    on a small sample it is the pre-experienced variant.

    Args:
        model: A causal language model: a folder, or a name on the Hub.
        max_length: The most tokens of instruction and answer.
        batch_tokens: The most tokens of a batch.
        device: "auto", "cpu", "cuda", ...
        ratios_of: Computes the ratios elsewhere, file by file: given `Seen`, these settings and `progress`, gives one
            per row, shape (N,), NaN where there is none; see `crowdselect.methods.ifdshards.ShardedIfd`.
    """
    settings = {"model": model, "max_length": max_length, "batch_tokens": batch_tokens, "device": device}

    def score(seen: Seen, progress: Progress) -> Scored:
        ratios = (ratios_of or _ratios_here)(seen, **settings, progress=progress)
        return Scored(
            ratios, {"its loss ratio is 1 or above": ratios >= 1, "no loss ratio": np.isnan(ratios)}
        )

    return _method("ifd", score, by_file=ratios_of is not None, model=model, max_length=max_length)


def _ratios_here(seen: Seen, **settings: Any) -> FloatArray:  # noqa: ANN401  (those of `ifd_ratios`)
    rows, pairs = _answered(seen)
    ratios = np.full(len(seen.eligible), np.nan)
    ratios[rows] = ifd_ratios(pairs, **settings)
    return ratios


def deita(*, complexity: str, quality: str) -> Method:
    """Complex and good first, passing over what is too like a kept row: deita (Liu et al. 2023, arXiv 2312.15685).

    `score` is complexity x quality; the rows are walked down and one is kept if its largest cosine to those
    kept before is at most `near_duplicates` (the command sets `DEITA_COSINE`). Memory grows with what is kept.

    Args:
        complexity: A column as for `by_direct_score`.
        quality: Another.
    """

    def score(seen: Seen, _progress: Progress) -> Scored:
        evolved, good = _numbers(seen, complexity), _numbers(seen, quality)
        missing = {f"no {complexity}": np.isnan(evolved), f"no {quality}": np.isnan(good)}
        return Scored(rounded(evolved * good), missing)  # 0.1 x 0.6 is 0.2 x 0.3

    return _method("deita", score, complexity=complexity, quality=quality)


def facility_location(*, neighbours: int = 50, weight_by: str | None = None) -> Method:
    """Rows that stand for all others: greedy facility location on a graph of near rows; see `crowdselect.methods.facility`.

    `score` is what a row added to the objective when it was chosen, or still would. Neighbours are looked for
    within the clusters of the choice, large ones cut up further; the share of the true ones that this finds is
    a note of the selection.

    Args:
        neighbours: How many nearest rows each row is linked to.
        weight_by: How much it counts that a row is stood for: "crowdselect" (its score with the default
            weights), "reward" (its best reward) or a column; each as a uniform rank, 0 where it is
            missing. None = all count the same.

    Raises:
        OptionError: `neighbours` is not positive.
    """
    if neighbours < 1:
        raise OptionError(f"neighbours={neighbours} is not positive; wanted at least 1")

    def score(seen: Seen, _progress: Progress) -> Scored:
        return Scored(np.ones(len(seen.eligible)) if weight_by is None else _weights(seen, weight_by))

    def arrange(seen: Seen, weights: FloatArray, grouping: Grouping) -> Scored:
        from crowdselect.methods.facility import gains, near_graph, parts, recall

        rows = np.flatnonzero(seen.eligible)
        vectors = _given(grouping.vectors)[rows]
        labels, keys = grouping.labels[rows], seen.keys[rows]
        graph = near_graph(vectors, labels=parts(vectors, labels=labels, keys=keys), neighbours=neighbours)
        found = recall(graph, vectors, keys=keys, neighbours=neighbours)
        out = np.zeros(len(seen.eligible))
        out[rows] = gains(
            graph,
            weights=weights[rows],
            candidates=_first_of_groups(seen)[rows],
            labels=labels,
            keys=keys,
            depths=_depths(seen, grouping),
        )
        note = f"facility location: {found:.1%} of a sample's true {neighbours} nearest rows are in the graph"
        return Scored(_with_duplicates(seen, out), notes=(note,))

    return _method(
        "facility-location", score, arrange=arrange, vectors=True, neighbours=neighbours, weight_by=weight_by
    )


def _known(name: str, value: str, kind: Any) -> None:  # noqa: ANN401  (a Literal)
    if value not in get_args(kind):
        raise OptionError(f"{name}={value!r} is unknown; choose one of: {', '.join(get_args(kind))}")


def _sign(direction: str) -> float:
    _known("direction", direction, Direction)
    return 1.0 if direction == "up" else -1.0


def _texts(seen: Seen, rows: NDArray[np.int64], *, of: str) -> list[str]:
    """Texts of instructions or of the answers to train on; empty where there is none."""
    if of == "instruction":
        return [seen.texts[row] or "" for row in rows]
    if not seen.pool.has_responses:
        raise OptionError(f"{seen.pool.path}: the pool holds no answers, so nothing can be read from them")
    return [text or "" for text in seen.pool.responses(_pairs(seen, rows), _samples(seen, rows))]


def _pairs(seen: Seen, rows: NDArray[np.int64]) -> list[tuple[str, str]]:
    """The answers to train on, as (id, model)."""
    return [(seen.pool.ids[row], seen.pool.models[seen.answers.chosen[row]]) for row in rows]


def _samples(seen: Seen, rows: NDArray[np.int64]) -> list[float | None]:
    """The samples of the answers to train on; None where the pool has none."""
    numbers = seen.answers.sample
    return [None] * len(rows) if numbers is None else [float(numbers[row]) for row in rows]


def _numbers(seen: Seen, column: str) -> FloatArray:
    """A number per row: from `--metrics`, of the answer to train on where it is a reward, else of the row; NaN = missing."""
    if column in seen.measured.metrics and column not in METRICS:
        return seen.measured.metrics[column]
    if column in seen.pool.reward_columns:
        return _of_answers(seen, column)
    out = np.full(len(seen.eligible), np.nan)
    for row, value in enumerate(seen.pool.column(column)):
        if value is not None:
            try:
                out[row] = float(value)
            except ValueError:
                out[row] = np.inf
            if np.isinf(out[row]):
                raise InputError(
                    f"{seen.pool.path}: {column} of id {seen.pool.ids[row]!r} is {value[:80]!r}; wanted a finite number"
                )
    return out


def _of_answers(seen: Seen, column: str) -> FloatArray:
    """A reward of the answers to train on, shape (N,); of several samples, that of the one that is taken."""
    chosen, numbers = seen.answers.chosen, seen.answers.sample
    taken = np.maximum(chosen, 0)
    if numbers is None:
        found = seen.pool.scores(column)[np.arange(len(taken)), taken]
    else:
        found = seen.pool.rewards_of_samples(
            column, rows=np.arange(len(taken)), models=taken, samples=numbers
        )
    return np.where(chosen >= 0, found, np.nan)


def _tags(seen: Seen, column: str | None) -> list[frozenset[str]]:
    return [
        read_tags(value, where=f"{seen.pool.path}: {column} of id {id_!r}")
        for id_, value in zip(seen.pool.ids, seen.pool.column(str(column)), strict=True)
    ]


def _asked_tags(seen: Seen, tagger: Tagger, progress: Progress) -> list[frozenset[str] | None]:
    rows = np.flatnonzero(seen.eligible)
    found: list[frozenset[str] | None] = [frozenset()] * len(seen.eligible)
    texts = [seen.texts[row] for row in rows]
    for row, tags in zip(rows, tagger(texts, progress) if texts else [], strict=True):
        found[row] = None if tags is None else folded(tags)
    return found


def _answered(seen: Seen) -> tuple[NDArray[np.int64], list[Answered]]:
    """The rows that may be chosen, and their instructions with the answers to train on."""
    rows = np.flatnonzero(seen.eligible)
    prompts = seen.pool.prompts(_pairs(seen, rows), _samples(seen, rows))
    answers = _texts(seen, rows, of="answer")
    return rows, [
        Answered(prompt=prompt, answer=answer) for prompt, answer in zip(prompts, answers, strict=True)
    ]


def _first_of_groups(seen: Seen) -> BoolArray:
    """Of the eligible rows that say the same, the one whose key is smallest: the one that ties let through."""
    rows = np.flatnonzero(seen.eligible)
    order = rows[np.argsort(seen.keys[rows], kind="stable")]
    _, first = np.unique(seen.groups[order], return_index=True)
    out = np.zeros(len(seen.eligible), dtype=bool)
    out[order[first]] = True
    return out


def _with_duplicates(seen: Seen, score: FloatArray) -> FloatArray:
    """Give every row the score of the one that stands for its text, so that this one is chosen of them."""
    out = score.copy()
    stands = np.flatnonzero(_first_of_groups(seen))
    of_group = dict(zip(seen.groups[stands].tolist(), score[stands].tolist(), strict=True))
    for row in np.setdiff1d(np.flatnonzero(seen.eligible), stands):
        out[row] = of_group[int(seen.groups[row])]
    return out


def _depths(seen: Seen, grouping: Grouping) -> dict[int, int]:
    """How many rows the choice may take from each cluster."""
    labels, counts = np.unique(grouping.labels[_first_of_groups(seen)], return_counts=True)
    budget = min(seen.options.budget, int(counts.sum()))
    level, left = water_fill(counts.tolist(), budget)
    return {
        int(label): min(int(count), level + (left > 0)) for label, count in zip(labels, counts, strict=True)
    }


def _weights(seen: Seen, by: str) -> FloatArray:
    if by == "crowdselect":
        values = combine({name: seen.ranks[name] for name in METRICS}, DEFAULT_WEIGHTS)
    else:
        values = seen.answers.best_reward if by == "reward" else _numbers(seen, by)
    return np.nan_to_num(uniform_ranks(values, seen.eligible), nan=0.0)


def _given(vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if vectors is None:
        raise OptionError("facility location needs vectors; choose an embedder")
    return vectors


BASELINES: dict[str, Callable[..., Method]] = {
    "random": random_choice,
    "length": by_length,
    "reward": by_reward,
    "tags": by_tags,
    "direct-score": by_direct_score,
    "ifd": by_ifd,
    "deita": deita,
    "facility-location": facility_location,
}
"""The baselines by the names that the command knows."""
