"""Data about selections of one pool: lengths, rewards, vectors, clusters; their figures, and those of random selections."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd, students_in
from crowdselect.embed.vectors import vectors_of
from crowdselect.errors import InputError
from crowdselect.lengths import counter
from crowdselect.numeric.clusters import kmeans
from crowdselect.numeric.metrics import METRICS, by_family
from crowdselect.pool.pool import Pool
from crowdselect.pool.rewards import are_respelt
from crowdselect.progress import Progress
from crowdselect.seeding import seeded_hash
from crowdselect.selection.keep import bands_of
from crowdselect.selection.look import score_matrix
from crowdselect.selection.methods import method_of
from crowdselect.selection.rewards import rewards_in
from crowdselect.selection.selection import Selection
from crowdselect.terminal import counted
from crowdselect.types import FloatArray, IntArray

MIXES = ("language", "lang", "category", "task_category", "task", "domain", "dataset", "source")
"""Columns whose mix is shown if the pool has them."""

_SURE = 0.975  # figures are marked outside the range in which 95 % of further random selections would fall
_BLOCK = 1024  # chosen rows compared with each other at a time
_VALUES = 60  # a column with more distinct values is not a category


def figure_words(numbers: Sequence[str] = ()) -> dict[str, str]:
    """Return every figure with its description.

    Args:
        numbers: Further numbers of rows that there are, from `Facts.numbers`.

    Example:
        >>> figure_words()["clusters"], figure_words(["pass_rate"])["pass_rate"]
        ('clusters covered', 'pass_rate, mean')
    """
    return {
        "rows": "rows",
        "instruction_length": "length of the instruction, mean",
        "answer_length": "length of the answer, mean",
        "best_reward": "best reward of the crowd, mean",
        "answer_reward": "reward of the answer, mean",
        "answer_fit": "fit of the answer (log-likelihood per token), mean",
        **{name: f"{name}, mean" for name in (*METRICS, *numbers)},
        "clusters": "clusters covered",
        "entropy": "entropy over clusters, bits",
        "neighbour_distance": "distance to the nearest chosen row, mean (1 - cosine)",
        "near_duplicates": "share with a near-duplicate among the chosen",
        "models": "models whose answers are taken",
    }


@dataclass(frozen=True, slots=True)
class Pick:
    """Chosen rows of the universe, with the models, samples and rewards of their answers."""

    rows: IntArray
    models: tuple[str | None, ...]
    samples: tuple[float | None, ...]
    rewards: FloatArray
    fits: FloatArray | None = None
    """How well each answer fits the model of `answer='fits:MODEL'`; None = it was taken otherwise."""


@dataclass(frozen=True, slots=True)
class Chance:
    """One figure over random selections."""

    mean: float
    spread: float
    """Standard deviation over the selections (n - 1)."""
    low: float
    """One further random selection in forty would fall below this (Student's t, as there are few)."""
    high: float

    def beyond(self, value: float) -> int:
        """Return 1 above `high`, -1 below `low`, else 0; differences by rounding count as within.

        Example:
            >>> Chance(0.5, 0.1, 0.3, 0.7).beyond(0.9)
            1
            >>> Chance(0.3, 0.0, 0.3, 0.3).beyond(0.1 + 0.2)
            0
        """
        above = value > self.high and not math.isclose(value, self.high)
        below = value < self.low and not math.isclose(value, self.low)
        return int(above) - int(below)


@dataclass(slots=True)
class Facts:
    """Data about every row of the universe; None if not available."""

    ids: list[str]
    place: dict[str, int]
    metrics: dict[str, FloatArray]
    """The metrics, and `numbers`."""
    numbers: tuple[str, ...] = ()
    """What else has a weight or a band in one of the selections."""
    pool: Pool | None = None
    lengths: FloatArray | None = None
    best: FloatArray | None = None
    vectors: NDArray[np.float32] | None = None
    labels: IntArray | None = None
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    answers: dict[tuple[str, str, float | None], float] = field(default_factory=dict)
    """Length of each answer, by id, model and sample."""
    settings: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def standard(selections: Sequence[Selection], names: Sequence[str]) -> list[int]:
    """Order selections of one pool by content, not by their order on the command line.

    Args:
        selections: At least one.
        names: Their names; used only to break ties.

    Returns:
        Positions in `selections`. Where they differ (in the reward, say), the first one of these counts for all: one
        with rewards, made by CrowdSelect, with the most eligible rows.
    """

    def order(place: int) -> tuple[bool, bool, int, str, str]:
        one = selections[place]
        tie_break = repr(sorted(one.options.items(), key=repr)), names[place]
        ours = method_of(one.options) == "crowdselect"
        return one.facts["reward"] is None, not ours, one.table["score"].null_count, *tie_break

    return sorted(range(len(selections)), key=order)


def check_one_crowd(selections: Sequence[Selection], names: Sequence[str]) -> None:
    """Refuse selections made with different families or sizes: their metrics by family are not comparable.

    Args:
        selections: In any order.
        names: Their names.

    Raises:
        InputError: Two differ; the model is named.
    """
    seen: dict[str, tuple[str, Any, Any]] = {}
    for name, selection in sorted(zip(names, selections, strict=True), key=lambda one: one[0]):
        for member in selection.facts["crowd"]:
            model, now = member["name"], (name, member["family"], member["size_b"])
            before = seen.setdefault(model, now)
            if before[1:] != now[1:]:
                raise InputError(
                    f"{name}: made with another crowd than {before[0]}: {model!r} is {_described(*now[1:])} here and "
                    f"{_described(*before[1:])} there; name the crowd to compare them by with `crowd`"
                )


def _described(family: str | None, size: float | None) -> str:
    known = "of no known family" if family is None else f"of family {family!r}"
    return f"{known}, {'size unknown' if size is None else f'{size:g}B'}"


def universe(selections: Sequence[Selection]) -> Facts:
    """Return all instructions of the selections with their metrics; selections in the order of `standard`."""
    numbers = _numbers_of(selections)
    metrics: dict[str, dict[str, float]] = {name: {} for name in (*METRICS, *numbers)}
    ids: set[str] = set()
    for selection in reversed(selections):  # if they differ (another reward), the first one counts
        own = selection.table["id"].to_pylist()
        ids.update(own)
        for name, known in metrics.items():
            there = name in selection.table.column_names  # or its folder is older, or it has no such band
            own_values = selection.table[name].to_numpy() if there else [known.get(i, np.nan) for i in own]
            known.update(zip(own, own_values, strict=True))
    ordered = sorted(ids)
    values = {
        name: np.array([known[i] for i in ordered], dtype=np.float64) for name, known in metrics.items()
    }
    facts = Facts(ordered, {i: row for row, i in enumerate(ordered)}, values, numbers)
    rewards = {selection.facts["reward"] for selection in selections}
    if len(rewards) > 1:
        shown = ", ".join(sorted(map(str, rewards)))
        facts.problems.append(
            f"the selections are by different rewards ({shown}); metrics and best rewards are by {selections[0].facts['reward']}"
        )
    models = {each.facts["fits"]["model"] for each in selections if "fits" in each.facts}
    if len(models) > 1:
        facts.problems.append(
            f"answers fit different models here ({', '.join(sorted(models))}), so their fits do not compare"
        )
    ties = {selection.options.get("ties", "average") for selection in selections}
    if len(ties) > 1:
        used = selections[0].options.get("ties", "average")
        facts.problems += [
            f"the selections count ties in different ways; {name} is by `ties={used!r}`"
            for name in by_family()
        ]
    return facts


def _numbers_of(selections: Sequence[Selection]) -> tuple[str, ...]:
    """The numbers with a weight or a band that belong to a row, whichever answer of it is trained on."""
    named = [
        name for one in selections for name, weight in (one.options.get("weights") or {}).items() if weight
    ]
    named += [band.name for one in selections for band in bands_of(one.options.get("keep") or ())]
    of_answers = {"best_reward", "length", "margin"}
    return tuple(name for name in dict.fromkeys(named) if name not in METRICS and name not in of_answers)


def read_pool(
    facts: Facts, pool: Pool, first: Selection, *, unit: str, mixes: Sequence[str], crowd: Crowd | None
) -> None:
    """Add every row's lengths, best reward and columns; recompute metrics by family if a crowd is given."""
    import pyarrow as pa

    rows = {i: row for row, i in enumerate(pool.ids)}
    missing = [i for i in facts.ids if i not in rows]
    if missing:
        older = are_respelt(pa.array(facts.ids), pa.array(pool.ids, pa.string()))
        raise InputError(
            f"{pool.path}: {counted(len(missing), 'id')} of the selections {'is' if len(missing) == 1 else 'are'} not in it "
            f"(the first: {missing[0]!r}); "
            + (
                f"its ids are written as {pool.ids[0]!r}: select again with this version"
                if older
                else "name their pool with `pool`"
            )
        )
    order = np.array([rows[i] for i in facts.ids], dtype=np.int64)
    facts.pool = pool
    texts = pool.instructions()[order]
    if pool.has_text:
        lengths = np.full(len(order), np.nan)
        with_text = np.flatnonzero([text is not None for text in texts])
        lengths[with_text] = counter(unit)([texts[row] for row in with_text])
        facts.lengths = lengths
    if first.facts["reward"] is not None and len(pool.models) > 1:
        students = students_in(pool.models, marked=first.students, crowd=crowd)
        ours = [place for place, name in enumerate(pool.models) if name not in students]
        scores = score_matrix(pool, first.options["reward"], first.options.get("ensemble"))[0][order][:, ours]
        if crowd is not None:
            aligned, notes = crowd.aligned([pool.models[place] for place in ours])
            ties = first.options.get("ties", "average")
            facts.problems += notes
            for name in by_family():
                facts.metrics[name] = METRICS[name](
                    scores, sizes=aligned.sizes, families=aligned.families, ties=ties
                )
        named = first.options["reward"] or pool.reward_name(None)
        cells = rewards_in(pool, named, first.options.get("ensemble")).cells
        best_of = scores if cells is None else cells.highest()[order][:, ours]  # of several samples the best
        best = np.max(np.where(np.isnan(best_of), -np.inf, best_of), axis=1)
        facts.best = np.where(best == -np.inf, np.nan, best)
    for name in dict.fromkeys((*mixes, *(name for name in MIXES if name in pool.columns))):
        try:
            values = pool.column(name)[order]
        except InputError:
            if name in mixes:
                raise
            continue  # a column of answers that happens to have such a name
        if name in mixes or len(set(values)) <= _VALUES:
            facts.columns[name] = values


def read_vectors(
    facts: Facts,
    pool: Pool,
    *,
    embedder: str,
    clusters: int,
    seed: int,
    cache: bool,
    progress: Progress | None,
) -> None:
    """Add vectors and clusters, the same for all selections, of the rows that have text."""
    kind, _, column = embedder.partition(":")
    rows = {i: row for row, i in enumerate(pool.ids)}
    order = np.array([rows[i] for i in facts.ids], dtype=np.int64)
    texts = pool.instructions()[order]
    given = kind in {"file", "column"}
    with_text = np.arange(len(order)) if given else np.flatnonzero([text is not None for text in texts])
    if not len(with_text):
        facts.problems.append("no instruction has text, so there are no distances and no clusters")
        return
    ids = [facts.ids[row] for row in with_text]
    vectors = vectors_of(
        [texts[row] for row in with_text],
        ids=ids,
        embedder=embedder,
        seed=seed,
        cache=cache,
        column=pool.vector_column(column)[order] if kind == "column" else None,
        progress=progress,
    )
    found = vectors.of(np.arange(len(with_text)))
    length = np.linalg.norm(found, axis=1, keepdims=True)
    facts.vectors = np.zeros((len(order), found.shape[1]), dtype=np.float32)
    facts.vectors[with_text] = found / np.where(length == 0, 1, length)
    k = min(clusters, len(with_text))
    facts.labels = np.full(len(order), -1, dtype=np.int64)
    keys = seeded_hash(ids, seed=seed, salt="sample")
    facts.labels[with_text] = kmeans(found, k=k, keys=keys, seed=seed)
    facts.settings.update(embedder=vectors.name, clusters=k)


def read_answers(facts: Facts, pool: Pool, picks: Iterable[Pick], *, unit: str) -> None:
    """Add the lengths of the picks' answers, each counted once."""
    if not pool.has_responses:
        return
    wanted = {key for pick in picks for key in _answers_of(facts, pick) if key is not None}
    ordered = sorted(wanted, key=lambda key: (key[0], key[1], key[2] or 0.0))
    count = counter(unit)
    for begin in range(0, len(ordered), 2000):
        block = ordered[begin : begin + 2000]
        texts = pool.responses([(id_, model) for id_, model, _ in block], [sample for *_, sample in block])
        lengths = count([text or "" for text in texts])
        facts.answers.update(zip(block, lengths.tolist(), strict=True))


def _answers_of(facts: Facts, pick: Pick) -> list[tuple[str, str, float | None] | None]:
    """Return id, model and sample of each row of a pick; None for a row without an answer."""
    return [
        None if model is None else (facts.ids[row], model, sample)
        for row, model, sample in zip(pick.rows, pick.models, pick.samples, strict=True)
    ]


def pick_of(facts: Facts, selection: Selection) -> Pick:
    """Return the chosen rows of a selection, best rank first."""
    rows = selection.rows()
    return Pick(
        np.array([facts.place[row["id"]] for row in rows], dtype=np.int64),
        tuple(row["model"] for row in rows),
        tuple(row.get("sample") for row in rows),
        _numbers(rows, "reward"),
        _numbers(rows, "fit") if "fit" in selection.table.column_names else None,
    )


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> FloatArray:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def figures_of(facts: Facts, pick: Pick, *, near: float) -> dict[str, float | None]:
    """Compute the figures of `figure_words`; a cosine above `near` is a near-duplicate."""
    rows = pick.rows
    answers = [None if key is None else facts.answers.get(key) for key in _answers_of(facts, pick)]
    figures: dict[str, float | None] = {
        "rows": float(len(rows)),
        "instruction_length": None if facts.lengths is None else _mean(facts.lengths[rows]),
        "answer_length": _mean(np.array([np.nan if a is None else a for a in answers])),
        "best_reward": None if facts.best is None else _mean(facts.best[rows]),
        "answer_reward": _mean(pick.rewards),
        "answer_fit": None if pick.fits is None else _mean(pick.fits),
        **{name: _mean(values[rows]) for name, values in facts.metrics.items()},
        "models": float(len(set(pick.models) - {None})),
    }
    if facts.vectors is not None and facts.labels is not None:
        counts = np.bincount(facts.labels[rows][facts.labels[rows] >= 0])
        shares = counts[counts > 0] / max(counts.sum(), 1)
        closest = _closest(facts.vectors[rows])
        figures |= {
            "clusters": float(np.count_nonzero(counts)),
            "entropy": float(abs((shares * np.log2(shares)).sum())),
            "neighbour_distance": _mean(1.0 - closest),
            "near_duplicates": float((closest > near).mean()) if len(closest) > 1 else 0.0,
        }
    return {name: figures.get(name) for name in figure_words(facts.numbers)}


def _closest(vectors: NDArray[np.float32]) -> FloatArray:
    """Return each row's highest cosine to another row, shape (n,); NaN if there is no other."""
    closest = np.full(len(vectors), np.nan)
    if len(vectors) < 2:
        return closest
    for begin in range(0, len(vectors), _BLOCK):
        cosines = vectors[begin : begin + _BLOCK] @ vectors.T
        here = np.arange(len(cosines))
        cosines[here, begin + here] = -1.0
        closest[begin : begin + len(cosines)] = np.minimum(cosines.max(axis=1), 1.0)
    return closest


def mixes_of(facts: Facts, pick: Pick) -> dict[str, dict[str, float]]:
    """Return shares of the models and of the columns' values, largest first."""

    def shares(values: Iterable[str | None]) -> dict[str, float]:
        counts = Counter("(none)" if value is None else value for value in values)
        return {
            name: count / len(pick.rows)
            for name, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))
        }

    return {
        "models": shares(pick.models),
        **{name: shares(values[pick.rows]) for name, values in facts.columns.items()},
    }


def by_chance(found: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Return the figures that all random selections have and that vary by chance."""
    # The number of rows is fixed.
    counted = [name for name in found[0] if name != "rows"]
    return [name for name in counted if all(figures[name] is not None for figures in found)]


def chance_of(values: Sequence[float | None]) -> Chance:
    """Summarise one figure over at least two random selections; None = unknown for one, which is left out."""
    from scipy.stats import t

    known = np.sort(np.array([value for value in values if value is not None], dtype=np.float64))
    spread = float(known.std(ddof=1))
    reach = float(t.ppf(_SURE, len(known) - 1)) * spread * math.sqrt(1 + 1 / len(known))
    mean = float(known.mean())
    return Chance(mean, spread, mean - reach, mean + reach)


def mean_mixes(mixes: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Return column → value → mean share over selections, largest first; a missing value counts as 0."""
    found = {}
    for name in mixes[0]:
        shares: dict[str, list[float]] = {}
        for mix in mixes:
            for value, share in mix[name].items():
                shares.setdefault(value, []).append(share)
        total = {value: math.fsum(each) / len(mixes) for value, each in shares.items()}
        found[name] = dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))
    return found


@dataclass(frozen=True, slots=True)
class _Drawn:
    """How random selections with the quota of one are drawn."""

    stratum: IntArray
    """The stratum of each row of the universe; -1 = not eligible."""
    chosen: list[int]
    """Rows drawn from each stratum."""
    eligible: list[int]
    """Rows that each stratum has."""

    @classmethod
    def of(cls, selection: Selection, place: Mapping[str, int]) -> "_Drawn":
        ids, eligible = (
            selection.table["id"].to_numpy()[selection.eligible],
            selection.strata[selection.eligible],
        )
        stratum = np.full(len(place), -1, dtype=np.int64)
        stratum[[place[i] for i in ids.tolist()]] = eligible
        taken = selection.strata[selection.table["selected"].to_numpy()]
        count = int(eligible.max()) + 1
        return cls(
            stratum,
            np.bincount(taken, minlength=count).tolist(),
            np.bincount(eligible, minlength=count).tolist(),
        )

    def shared_by_chance(self, other: "_Drawn") -> float:
        """Return how many rows two draws share on average.

        If C rows are in both of two strata of A and B eligible rows, draws of a and b rows share a b C / (A B) of them.
        """
        both = (self.stratum >= 0) & (other.stratum >= 0)
        pairs, counts = np.unique(
            np.stack([self.stratum[both], other.stratum[both]]), axis=1, return_counts=True
        )
        return math.fsum(
            self.chosen[one] * other.chosen[two] * count / (self.eligible[one] * other.eligible[two])
            for one, two, count in zip(*pairs.tolist(), counts.tolist(), strict=True)
        )


def overlap_of(
    entries: Sequence[Sequence[int]], selections: Sequence[Selection], picks: Sequence[Pick]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return shared rows, Jaccard index and shared rows expected by chance, each (S, S): means over pairs."""
    sets = [set(pick.rows.tolist()) for pick in picks]
    place = {i: at for at, i in enumerate(sorted({i for s in selections for i in s.table["id"].to_pylist()}))}
    drawn = [_Drawn.of(selection, place) for selection in selections]
    out = np.zeros((3, len(entries), len(entries)))
    for i, one in enumerate(entries):
        for j, other in enumerate(entries):
            pairs = [(a, b) for a in one for b in other if a != b] or [(one[0], one[0])]
            for a, b in pairs:
                shared = len(sets[a] & sets[b])
                found = (shared, shared / len(sets[a] | sets[b]), drawn[a].shared_by_chance(drawn[b]))
                out[:, i, j] += np.array(found) / len(pairs)
    return out[0], out[1], out[2]


def _mean(values: FloatArray) -> float | None:
    known = np.sort(values[~np.isnan(values)])  # sorted, so that the order of rows does not change the mean
    return float(known.mean()) if known.size else None
