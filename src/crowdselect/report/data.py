"""The data of a report: a run's columns as arrays, its pool's texts and rewards, and the rows to show.

Rows on the page have their texts cut to fit, and each has its reason in words.
"""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from crowdselect._optional import optional
from crowdselect.errors import CrowdselectError
from crowdselect.numeric.metrics import METRICS
from crowdselect.pool.pool import Pool
from crowdselect.seeding import seeded_hash
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.look import score_matrix
from crowdselect.selection.selection import Selection, place_words, samples_of
from crowdselect.terminal import counted, visible
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray

IN_LINE = ("selected", "below_cut")
"""The reason codes of rows that could be chosen."""

_NONE = -1
_KANA = re.compile("[\u3041-\u30ff]")
_HAN = "\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNSPACED = re.compile(f"[\u3041-\u30ff{_HAN}]")
_SPACED = re.compile(r"\w\w+")
_LATIN = "[^\\W\\d_\u3041-\u30ff" + _HAN + "]{2,}"
_JAPANESE = re.compile(f"[\u30a1-\u30fa\u30fc{_HAN}]{{2,}}|{_LATIN}")
_CHINESE = re.compile(f"[{_HAN}]{{2,}}|{_LATIN}")
_READ = 2_000  # characters of a text read for its words
_READ_UNSPACED = 300  # the same for text that BudouX segments, at half a million characters a second
_WORD_TEXTS = 5_000  # texts read for typical words: more make no visible difference
_PRIOR = 500.0  # weight, in words, of the pool's distribution that clusters are shrunk towards
_APART = 1.96  # standard deviations above which a word is typical
_ANSWER_SAMPLE = 1_000  # eligible answers read for the lengths of the pool

FIELDS = (
    "row", "id", "rank", "cluster", "model", "reward", "rewards", "values", "above", "why", "text", "length", "answer", "answerLength",
)  # fmt: skip
"""The fields of a row on the page, in order; the script reads them by name."""

LONGEST = 4_000
"""Maximum number of characters shown of a text."""

_BUDGET = 4_500_000  # bytes of texts in a page, so that it stays below 10 MB with everything else
_SHORTEST = 120


@dataclass(frozen=True, slots=True)
class ClusterPlaces:
    """Each row's place in its cluster, of its stratum; arrays of shape (N,), places count from 1, 0 = not eligible by score."""

    place: IntArray
    size: IntArray
    """Number of rows ranked in the same cluster."""
    quota: IntArray
    """Number of rows chosen from the cluster."""
    short: FloatArray
    """Score of the last row chosen in the cluster minus the row's own; NaN if none was chosen, or it is not ranked."""


@dataclass(frozen=True, slots=True)
class Map:
    """The points of a map, or the reason why there is none."""

    rows: IntArray
    """The rows on the map, shape (P,)."""
    xy: FloatArray
    """Shape (P, 2), both axes within [-1, 1]; only distances between near points are meaningful."""
    description: str
    """How it was made, or why there is none."""


class ReportData:
    """A selection and its pool; every array has shape (N, ...) in the selection's id order.

    Args:
        selection: From `crowdselect.load_selection`.
        pool: From `crowdselect.selection.texts.reopen_pool`; None if it cannot be opened.
        problem: The problem that `reopen_pool` reported, if any.

    Attributes:
        problems: One line for each part that could not be shown, and why.
        map: Set by the caller, from `crowdselect.report.projection.project`; without points until then.
        eligible: Rows that could be chosen, (N,); see `Selection.eligible`.

    Example:
        >>> ReportData.__name__
        'ReportData'
    """

    def __init__(self, selection: Selection, pool: Pool | None, *, problem: str | None = None) -> None:
        self.selection = selection
        self.pool = pool
        self.problems: list[str] = [] if problem is None else [problem]
        self.map = Map(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), "none was made")
        self.ids = self._column("id")
        self.chosen: BoolArray = self._column("selected").astype(bool)
        self.score = self.number("score")
        self.eligible: BoolArray = selection.eligible
        self.rank = self.number("rank")
        self.models = self._column("model")
        cluster = self.number("cluster")
        self.clustered = bool((~np.isnan(cluster)).any())
        self.cluster: IntArray = np.where(np.isnan(cluster), _NONE, cluster).astype(np.int64)

    @property
    def facts(self) -> Mapping[str, Any]:
        """The manifest's facts about the pool and the crowd."""
        return self.selection.facts

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of the run."""
        return self.selection.options

    @cached_property
    def metrics(self) -> dict[str, FloatArray]:
        """The metrics (columns with ranks) that have any value, (N,) each; NaN = undefined."""
        columns = self.selection.table.column_names
        ranked = [name.removesuffix("_rank") for name in columns if name.endswith("_rank")]
        found = {name: self.number(name) for name in ranked if name in columns}
        return {name: values for name, values in found.items() if not np.isnan(values).all()}

    @cached_property
    def keys(self) -> dict[str, str]:
        """A safe key for each metric, as names of further metrics come from a file."""
        return {name: name if name in METRICS else f"metric-{i}" for i, name in enumerate(self.metrics)}

    @cached_property
    def reasons(self) -> ObjectArray:
        """Reason codes without the id after the colon."""
        return np.array([reason.partition(":")[0] for reason in self._column("reason")], dtype=object)

    def number(self, name: str) -> FloatArray:
        """Return a column as numbers; NaN for null, and all NaN if there is no such column."""
        if name not in self.selection.table.column_names:
            return np.full(len(self.ids), np.nan)
        return np.asarray(self._column(name), dtype=np.float64)

    def stratum(self, row: int) -> str | None:
        """Return the stratum of a row; None without a quota, or where it is not eligible."""
        table = self.selection.table
        found: str | None = table["stratum"][row].as_py() if "stratum" in table.column_names else None
        return found

    def _column(self, name: str) -> Any:  # noqa: ANN401  (an array of the column's type)
        return self.selection.table[name].to_numpy()

    # ── the pool ─────────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def _place(self) -> IntArray:
        """The pool's row of each instruction; -1 if the pool no longer has it. Both are sorted by id."""
        if self.pool is None:
            return np.full(len(self.ids), _NONE)
        place = {instruction: row for row, instruction in enumerate(self.pool.ids)}
        found = np.fromiter((place.get(i, _NONE) for i in self.ids), dtype=np.int64, count=len(self.ids))
        if (found == _NONE).any():
            missing = int((found == _NONE).sum())
            self.problems.append(
                f"{counted(missing, 'instruction')} of the selection {'is' if missing == 1 else 'are'} no longer in the pool"
            )
        return found

    @cached_property
    def texts(self) -> ObjectArray | None:
        """Instructions, (N,) of str or None; None if there are no texts at all."""
        if self.pool is None or not self.pool.has_text:
            return None
        by_row = np.full(len(self.ids), None, dtype=object)
        present = self._place != _NONE
        by_row[present] = self.pool.instructions()[self._place[present]]
        return by_row

    @cached_property
    def rewards(self) -> FloatArray | None:
        """The score matrix, (N, M), NaN = no reward; None if the pool cannot be read."""
        if self.pool is None:
            return None
        try:
            options = self.options
            scores = score_matrix(self.pool, options.get("reward"), options.get("ensemble"))[0]
        except CrowdselectError as error:
            self.problems.append(f"the crowd is not shown: {error}")
            return None
        crowd = [member["name"] for member in self.facts["crowd"]]
        others = set(self.pool.models) - {*crowd, *self.selection.students}
        if others or not set(crowd) <= set(self.pool.models):
            self.problems.append(
                "the crowd is not shown: the pool's models are no longer those of the selection"
            )
            return None
        scores = scores[:, [self.pool.models.index(name) for name in crowd]]
        scores_by_row = np.full((len(self.ids), scores.shape[1]), np.nan)
        present = self._place != _NONE
        scores_by_row[present] = scores[self._place[present]]
        return scores_by_row

    def answers(self, rows: Sequence[int]) -> list[str | None]:
        """Return some rows' training answers; None if there is none, or the pool cannot be opened."""
        pool = self.pool
        if pool is None or not pool.has_responses:
            return [None] * len(rows)
        known = set(pool.models)
        available = [row for row in rows if self.models[row] in known and self._place[row] != _NONE]
        pairs = [(self.ids[row], self.models[row]) for row in available]
        found = pool.responses(pairs, [self._samples[row] for row in available])
        text = dict(zip(available, found, strict=True))
        return [text.get(row) for row in rows]

    @cached_property
    def _samples(self) -> list[float | None]:
        return samples_of(self.selection.table)

    def answer_sample(self) -> IntArray:
        """Return eligible rows whose answers represent the pool's: all, or a seeded sample."""
        return self.sample(np.flatnonzero(self.eligible), _ANSWER_SAMPLE, salt="report answers")

    def sample(self, rows: IntArray, size: int, *, salt: str) -> IntArray:
        """Sample rows by a seeded hash of their ids, in row order; all if there are at most `size`."""
        if len(rows) <= size:
            return rows
        keys = seeded_hash(self.ids[rows], seed=self.options.get("seed", 0), salt=salt)
        return np.sort(rows[np.argsort(keys, kind="stable")[:size]])

    # ── rows worth showing ───────────────────────────────────────────────────────────────────────────

    @cached_property
    def standing(self) -> ClusterPlaces:
        """Every row's place in its cluster, as `Selection.explain` reports it for one."""
        n = len(self.ids)
        place, size, quota = (np.zeros(n, dtype=np.int64) for _ in range(3))
        found = ClusterPlaces(place, size, quota, np.full(n, np.nan))
        rows = np.flatnonzero(np.isin(self.reasons, IN_LINE) & ~np.isnan(self.score))
        keys = seeded_hash(self.ids[rows], seed=self.options.get("seed", 0), salt="tie")
        cells = self.selection.cells
        order = rows[np.lexsort((keys, -self.score[rows], cells[rows]))]
        labels, begins = np.unique(cells[order], return_index=True)
        for members in np.split(order, begins[1:]) if len(labels) else []:
            taken = members[self.chosen[members]]
            found.place[members] = np.arange(1, len(members) + 1)
            found.size[members], found.quota[members] = len(members), len(taken)
            if len(taken):
                found.short[members] = self.score[taken[np.argmax(self.rank[taken])]] - self.score[members]
        return found

    def picks(self, limit: int) -> list[int]:
        """Return at most `limit` chosen rows, best rank first."""
        rows = np.flatnonzero(self.chosen)
        return [int(row) for row in rows[np.argsort(self.rank[rows], kind="stable")][:limit]]

    def missed(self, limit: int) -> list[int]:
        """Return at most `limit` rows that were nearest to being chosen: smallest score gap first."""
        rows = np.flatnonzero((self.reasons == "below_cut") & ~np.isnan(self.standing.short))
        order = np.lexsort((rows, self.standing.place[rows], self.standing.short[rows]))
        return [int(row) for row in rows[order][:limit]]

    def extremes(self, name: str, limit: int) -> tuple[list[int], list[int]]:
        """Return the eligible rows with the highest and with the lowest values of a metric; ties by score, then row."""
        values = self.metrics[name]
        rows = np.flatnonzero(self.eligible & ~np.isnan(values))
        order = rows[np.lexsort((rows, -self.score[rows], -values[rows]))]
        low = rows[np.lexsort((rows, -self.score[rows], values[rows]))]
        return [int(row) for row in order[:limit]], [int(row) for row in low[:limit]]

    def typical_words(self, count: int) -> dict[int, list[str]]:
        """Return words typical of each cluster: in more of its instructions than expected from the whole pool.

        A word's weight is the log-odds ratio of its occurrence in the cluster's instructions against all others, in
        standard deviations, shrunk towards the word's overall share (Monroe et al. 2008). Each instruction counts a word
        once; a sample is read, see `_WORD_TEXTS`.

        Args:
            count: Maximum number of words per cluster.

        Returns:
            Cluster → its words, highest weight first, ties in code-point order; fewer than `count`, or none, if no
            more are significant. Empty without texts or clusters.
        """
        texts = self.texts
        if texts is None or not self.clustered:
            return {}
        known = np.array([text is not None for text in texts])
        there = np.flatnonzero(self.eligible & (self.cluster != _NONE) & known)
        rows = self.sample(there, _WORD_TEXTS, salt="report words")
        within: dict[int, Counter[str]] = {}
        for row in rows:
            within.setdefault(int(self.cluster[row]), Counter()).update(set(content_words(texts[row])))
        everywhere = sum(within.values(), Counter[str]())
        return {label: _set_apart(counts, everywhere)[:count] for label, counts in sorted(within.items())}


def content_words(text: str) -> list[str]:
    """Return a text's content words, case-folded: no numbers, single characters or English stop words.

    Chinese and Japanese are written without spaces: BudouX (extra `report`) segments them into phrases. Of Japanese
    phrases only kanji and katakana are used, as endings and particles are hiragana.

    Example:
        >>> content_words("Sort the 10 numbers, a-z")
        ['sort', 'numbers']
    """
    if text.isascii() or not _UNSPACED.search(text):
        words = _SPACED.findall(text[:_READ].casefold())
        return [word for word in words if not word.isdigit() and word not in _stop_words()]
    text = unicodedata.normalize("NFKC", text[:_READ_UNSPACED]).casefold()
    language, word = ("japanese", _JAPANESE) if _KANA.search(text) else ("simplified_chinese", _CHINESE)
    return [found for phrase in _phrases(language).parse(text) for found in word.findall(phrase)]


@cache
def _stop_words() -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)


@cache
def _phrases(language: str) -> Any:  # noqa: ANN401  (a parser of BudouX)
    return getattr(optional("budoux", extra="report"), f"load_default_{language}_parser")()


def _set_apart(counts: Counter[str], everywhere: Counter[str]) -> list[str]:
    """Return the significant words of a cluster, highest weight first."""
    if len(everywhere) < 2:  # one word alone has no odds
        return []
    total, own = everywhere.total(), counts.total()
    weights: dict[str, float] = {}
    for word, inside in counts.items():
        outside, prior = everywhere[word] - inside, _PRIOR * everywhere[word] / total
        one = (inside + prior) / (own + _PRIOR - inside - prior)
        other = (outside + prior) / (total - own + _PRIOR - outside - prior)
        weights[word] = math.log(one / other) / math.sqrt(1 / (inside + prior) + 1 / (outside + prior))
    apart = [word for word in weights if weights[word] > _APART]
    return sorted(apart, key=lambda word: (-weights[word], word))


def row_data(
    run: ReportData, lists: Mapping[str, Sequence[int]]
) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Build the page's rows for some lists, each row once.

    Args:
        run: The run.
        lists: List name → rows of the run.

    Returns:
        `fields` and `rows` for the page; and each list as positions in `rows`.

    Example:
        >>> "why" in FIELDS
        True
    """
    rows = list(dict.fromkeys(row for found in lists.values() for row in found))
    place = {row: at for at, row in enumerate(rows)}
    instructions = [None if run.texts is None else run.texts[row] for row in rows]
    answers = run.answers(rows)
    cut = longest([*instructions, *answers])
    names = run.facts.get("cluster_names")
    values = {name: (run.metrics[name], run.number(f"{name}_rank")) for name in run.metrics}
    counts = run.number("n_rewards")
    rewards = run.number("reward")
    rows_made = [
        [
            row,
            str(run.ids[row]),
            _number(run.rank[row], whole=True),
            _cluster(run, row, names),
            run.models[row],
            _number(rewards[row]),
            _number(counts[row], whole=True),
            [_number(metric[row]) for metric, _ in values.values()],
            [_number(rank[row]) for _, rank in values.values()],
            why(run, row),
            *_cut(instruction, cut),
            *_cut(answer, cut),
        ]
        for row, instruction, answer in zip(rows, instructions, answers, strict=True)
    ]
    return {"fields": FIELDS, "rows": rows_made}, {
        name: [place[row] for row in found] for name, found in lists.items()
    }


def longest(texts: Sequence[str | None], *, budget: int = _BUDGET) -> int:
    """Return how many characters of each text fit into a page: 4,000, or fewer if there are many long ones.

    Args:
        texts: All texts of the page; None = none.
        budget: Bytes for all of them, as JSON.

    Returns:
        Characters, at least 120.

    Example:
        >>> longest(["a" * 9_000] * 2), longest(["a" * 9_000] * 4, budget=8_010)
        (4000, 2000)
    """
    cut = LONGEST
    while cut > _SHORTEST and sum(_bytes(text[:cut]) for text in texts if text is not None) > budget:
        cut //= 2
    return max(cut, _SHORTEST)


def why(run: ReportData, row: int) -> str:
    """Explain in one sentence why a row was chosen or not, with the numbers of `Selection.explain`."""
    code, _, other = str(run.selection.table["reason"][row]).partition(":")
    standing, size = run.standing, int(run.standing.size[row])
    stratum = run.stratum(row)
    where = place_words(
        _cluster(run, row, run.facts.get("cluster_names")), stratum and visible(stratum), run.options
    )
    place = f"place {standing.place[row]:,} of the {size:,} that could be chosen in {where}, which gave {standing.quota[row]:,}"
    if code == "selected":
        return f"Chosen: {place}."
    if code == "below_cut":
        gap = standing.short[row]
        if np.isnan(gap):
            return f"Not chosen: {place}."
        more = (
            f"its score was {gap:.3g} below that of the last one chosen"
            if gap > 0
            else "its score was equal to that of the last one chosen, and the seeded tie-break decided"
        )
        return f"Not chosen: {place}; {more}."
    return f"Not chosen: {REASONS[code]}" + (f": {other}." if other else ".")


def _cluster(run: ReportData, row: int, names: Sequence[str | None] | None) -> str | None:
    label = int(run.cluster[row])
    if label < 0:
        return None
    return str(label) if names is None else visible(names[label] or "\u2013")


def _cut(text: str | None, length: int) -> tuple[str | None, int]:
    return (None, 0) if text is None else (text[:length], len(text))


def _bytes(text: str) -> int:
    # As json_block writes it: HTML's special characters take six bytes.
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")) + 5 * sum(
        map(text.count, "<>&")
    )


def _number(value: float, *, whole: bool = False) -> float | int | None:
    if np.isnan(value):
        return None
    return int(value) if whole else float(f"{value:.5g}")
