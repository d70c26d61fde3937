"""A selection: every instruction of the pool, chosen or not, with the reason; and the explanation of one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from crowdselect._optional import check_optional, optional
from crowdselect.errors import InputError, near_miss
from crowdselect.numeric.metrics import METRICS
from crowdselect.seeding import seeded_hash
from crowdselect.selection.eligible import REASONS, UNDEFINED
from crowdselect.selection.formats import holds_of, no_room
from crowdselect.selection.keep import bands_of
from crowdselect.selection.methods import CROWD, is_weighted, method_of
from crowdselect.selection.options import Options
from crowdselect.selection.quota import stratum_words
from crowdselect.selection.rows import weights_without
from crowdselect.terminal import counted, visible
from crowdselect.types import BoolArray, IntArray

if TYPE_CHECKING:
    import datasets
    import pandas as pd
    import pyarrow as pa


Row = dict[str, Any]

_COMPARED = 20_000  # ids compared to find a near miss: about a second
_SHOWN = 5  # chosen rows in a notebook
_WIDEST = 300  # characters of a cell or a line there
_IN_LINE = ("selected", "below_cut")  # the reasons of rows that could be chosen


@dataclass(frozen=True, slots=True, repr=False)
class Selection:
    """What was chosen, and for every other row why not.

    Example:
        >>> from crowdselect import Options, open_pool, select
        >>> from crowdselect.simulate.pool import simulate
        >>> import tempfile, pathlib
        >>> folder = tempfile.TemporaryDirectory()
        >>> pool_file = pathlib.Path(folder.name) / "pool.parquet"
        >>> _ = simulate(pool_file, instructions=60)
        >>> selection = select(open_pool(pool_file), Options(budget=5, clusters=2))
        >>> selection
        Selection(5 of 60 instructions chosen by 1 x difficulty + 1 x separability + 2 x stability, 1 warning)
        >>> len(selection.chosen)
        5
        >>> selection.explain(selection.chosen[0])["selected"]
        True
        >>> folder.cleanup()
    """

    table: "pa.Table"
    """One row per instruction, in id order: the columns of `selection.parquet`."""
    options: Mapping[str, Any]
    """The options that it was made with, by name."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the run found out: pool, crowd, reward, embedder, quotas, counts."""
    warnings: tuple[str, ...] = ()
    """What the person who trains on this should know."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each stage took."""
    files: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """The file of each chosen row, where the pool was read file by file; not written, as files may move."""

    def __repr__(self) -> str:
        """One line, for example `Selection(5 of 60 instructions chosen by 1 x difficulty)`."""
        warned = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"Selection({self._summary()}{warned})"

    def _summary(self) -> str:
        count = f"{self.options['budget']:,} of {counted(len(self.table), 'instruction')}"
        return f"{count} chosen by {score_line(self.options)}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the summary, the first rows, the comparison with random choices and the warnings."""
        rows, controls = self.to_arrow().slice(0, _SHOWN).to_pylist(), random_control(self)
        picks = [[row["rank"], row["id"], answer_by(row), row["reward"], row["score"]] for row in rows]
        means = [[name, each.chosen, each.random, each.spread] for name, each in controls.items()]
        return "".join(
            [
                f"<p><b>{_html(self._summary())}</b></p>",
                _html_table(f"First {len(picks)}", ["rank", "id", "answer by", "reward", "score"], picks),
                _html_table(
                    "Compared with 200 random selections using the same quotas (differences under 2 SD may be chance)",
                    ["mean", "chosen", "random", "SD"],
                    means,
                ),
                *(f"<p>warning: {_html(warning)}</p>" for warning in self.warnings),
            ]
        )

    @property
    def chosen(self) -> list[str]:
        """Ids of the chosen instructions, first choice first."""
        return [row["id"] for row in self.rows()]

    def rows(self) -> list[Row]:
        """The chosen rows with all their columns, first choice first."""
        return list(self.to_arrow().to_pylist())

    def to_arrow(self) -> "pa.Table":
        """The chosen rows with all their columns, first choice first; `table` has those not chosen too."""
        import pyarrow.compute as pc

        return self.table.filter(pc.field("selected")).sort_by("rank")

    def to_pandas(self) -> "pd.DataFrame":
        """The same for pandas.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        check_optional("pandas", extra="notebook")
        return self.to_arrow().to_pandas()

    def to_dataset(self) -> "datasets.Dataset":
        """The same for Hugging Face's datasets. To train on, `export` writes the texts in the form that trainers read.

        Raises:
            MissingExtraError: datasets is not installed.
        """
        return optional("datasets", extra="notebook").Dataset(self.to_arrow())

    @property
    def students(self) -> tuple[str, ...]:
        """Models of the pool that are no part of the crowd: the student, and others that the pool or a crowd file marks."""
        return tuple(self.facts.get("students", ()))

    @property
    def eligible(self) -> BoolArray:
        """Rows that could be chosen, shape (N,): with a score, and no duplicate of another row."""
        import pyarrow.compute as pc

        duplicate = pc.starts_with(self.table["reason"], "duplicate_of:")
        return np.asarray(pc.and_(pc.is_valid(self.table["score"]), pc.invert(duplicate)), dtype=np.bool_)

    @property
    def strata(self) -> IntArray:
        """The stratum of each row, shape (N,): its number in the order of names; 0 without a quota, or where it is not eligible."""
        if "stratum" not in self.table.column_names:
            return np.zeros(len(self.table), dtype=np.int64)
        names = self.table["stratum"].fill_null("").to_numpy()
        _, numbers = np.unique(names, return_inverse=True)
        return np.asarray(numbers, dtype=np.int64)

    @property
    def cells(self) -> IntArray:
        """Rows with the same number share one quota, shape (N,): that of their cluster in their stratum."""
        clusters: IntArray = self.table["cluster"].fill_null(0).to_numpy()
        return self.strata * (int(clusters.max(initial=0)) + 1) + clusters

    def counts(self) -> dict[str, int]:
        """Count the rows per reason, ids after a colon left off, in the order of `REASONS`."""
        import pyarrow.compute as pc

        codes = pc.list_element(pc.split_pattern(self.table["reason"], ":", max_splits=1), 0)
        found = {entry["values"]: entry["counts"] for entry in codes.value_counts().to_pylist()}
        return {reason: found[reason] for reason in REASONS if reason in found}

    def with_reason(self, reason: str) -> list[dict[str, str | None]]:
        """List the rows of one reason.

        Args:
            reason: A key of `counts`, or a whole reason, as in "outside:difficulty".

        Returns:
            Per row, in id order, its `id`, and as `other` what its reason has after the colon: for copies the id of the
            row that they repeat; None where it has none.

        Raises:
            InputError: No row has this reason.
        """
        import pyarrow.compute as pc

        reasons = self.table["reason"]
        same = pc.or_(pc.equal(reasons, reason), pc.starts_with(reasons, f"{reason}:"))
        found = self.table.filter(same).select(["id", "reason"]).to_pylist()
        if not found:
            counts = ", ".join(f"{code} ({count:,})" for code, count in self.counts().items())
            raise InputError(
                f"no row has the reason {reason!r}{near_miss(reason, self.counts())}; there are: {counts}"
            )
        return [{"id": row["id"], "other": row["reason"].partition(":")[2] or None} for row in found]

    def explain(self, instruction_id: str) -> dict[str, Any]:
        """Explain why one instruction was chosen or not.

        Args:
            instruction_id: Its id.

        Returns:
            All columns of its row, and: `story`, lines of text for a person; `cluster_size` (rows of its
            cluster that could be chosen: eligible, without skipped duplicates), `place` (its position among them,
            or the position that a duplicate would have, 1 = first), `quota` (how many were taken from the
            cluster) and `last` (id, rank and score of the row that took the cluster's last place). The last four
            are None if the row is not eligible. With a quota by `quota`, the cluster is that of the row's stratum. Where rows were drawn by weights, also `median_chance`, the median weight of
            the chosen rows.

        Raises:
            InputError: The selection's pool had no such id.
        """
        import pyarrow.compute as pc

        match = self.table.filter(pc.equal(self.table["id"], instruction_id)).to_pylist()
        if not match:
            raise InputError(
                f"id {instruction_id!r} is not in this selection's pool of {len(self.table)} instructions"
                + near_miss(instruction_id, self.table["id"][:_COMPARED].to_pylist())
            )
        row = match[0]
        found = {**row, **self._standing(row)}
        strata = self.facts.get("quota", {}).get("strata", ())
        own = next((one for one in strata if one["name"] == row.get("stratum")), None)
        if "chance" in row:
            chances = self.table.filter(self.table["selected"])["chance"].to_numpy()
            found["median_chance"] = float(np.median(chances))
        return {**found, "story": _story(found, self.options, own)}

    def _standing(self, row: Row) -> dict[str, Any]:
        """Compute an eligible row's position in its cluster; all None for other rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if row["score"] is None:
            return dict.fromkeys(("cluster_size", "place", "quota", "last"))
        in_line = self.table.filter(pc.is_in(self.table["reason"], pa.array(_IN_LINE)))
        cluster = in_line
        for name in ("cluster", "stratum"):
            if row.get(name) is not None:
                cluster = cluster.filter(pc.equal(cluster[name], row[name]))
        score = cluster["score"].to_numpy()
        keys = seeded_hash([row["id"], *cluster["id"].to_pylist()], seed=self.options["seed"], salt="tie")
        before = (score > row["score"]) | ((score == row["score"]) & (keys[1:] < keys[0]))
        taken = (
            cluster.filter(cluster["selected"]).sort_by("rank").select(["id", "rank", "score"]).to_pylist()
        )
        return {
            "cluster_size": len(cluster),
            "place": int(np.count_nonzero(before)) + 1,
            "quota": len(taken),
            "last": taken[-1] if taken else None,
        }


def _html(value: object) -> str:
    """A value of a pool as text that is safe on a page; numbers in four digits, None as a dash."""
    if value is None:
        return "-"
    return escape(visible(f"{value:.4g}" if isinstance(value, float) else value, width=_WIDEST))


def _html_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [
        "<tr>" + "".join(f"<{tag}>{_html(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in [("th", head), *(("td", row) for row in rows)]
    ]
    return f"<table><caption>{_html(title)}</caption>{''.join(lines)}</table>"


def samples_of(table: "pa.Table", kind: str = "") -> list[float | None]:
    """Return the number of each row's sample; None where its pool has no samples, or none is taken.

    Args:
        table: As of `Selection.table`.
        kind: "" = of the answers to train on, "rejected_" = of those to reject.
    """
    name = f"{kind}sample"
    return list(table[name].to_pylist()) if name in table.column_names else [None] * len(table)


def answer_by(row: Mapping[str, Any]) -> str | None:
    """Name the answer that a row takes: the model, and the sample if the pool has several.

    Example:
        >>> answer_by({"model": "m"}), answer_by({"model": "m", "sample": 3})
        ('m', 'm, sample 3')
    """
    model, sample = row["model"], row.get("sample")
    return model if model is None or sample is None else f"{model}, sample {sample:g}"


def _story(row: Row, options: Mapping[str, Any], stratum: Mapping[str, Any] | None) -> list[str]:
    reason, _, other = row["reason"].partition(":")
    chosen = f"chosen, rank {row['rank']} of {options['budget']}"
    lines = [chosen if row["selected"] else f"not chosen: {row['reason']} ({REASONS[reason]})"]
    weights = options["weights"] if is_weighted(options) else dict.fromkeys(METRICS)
    lines += [_metric_line(row, name, weights[name]) for name in weights if name in row]
    if row["model"] is not None:
        reward = "no reward" if row["reward"] is None else f"reward {row['reward']:g}"
        taken = "best-rewarded answer" if "fit" in row and not row["selected"] else "answer to train on"
        lines.append(f"{taken}: {answer_by(row)} ({reward}; {row['n_rewards']} rewards in all)")
    if "fit" in row:
        lines.append(_fit_line(row, options))
    others = (row.get("answers") or [])[1:]
    if others:
        told = ", ".join(
            f"{answer_by(each)} (reward {each['reward']:g})" for each in others if each["reward"] is not None
        )
        lines.append(f"and {len(others)} more: {told}")
    if row["score"] is not None:
        where = place_words(row["cluster"], row.get("stratum"), options)
        position = (
            f"place {row['place']} of {row['cluster_size']} in {where}"
            if reason in _IN_LINE
            else f"{row['place'] - 1} of {row['cluster_size']} rows that can be chosen are before it in {where}"
        )
        lines.append(f"score {row['score']:.6g}: {position}, which gave {row['quota']}")
        if row["last"] is not None:
            last = row["last"]
            lines.append(
                f"the last place there went to {last['id']} (rank {last['rank']}, score {last['score']:.6g})"
            )
    if stratum is not None:
        lines.append(
            f"the quota of {stratum_words(options, stratum['name'])} is {stratum['asked']} of the {options['budget']} rows; it got "
            f"{stratum['got']}, of {stratum['eligible']} that could be chosen"
        )
    if row.get("chance") is not None:
        lines.append(_chance_line(row, options))
    if row.get("example") is not None:
        pulled = (
            "it is the nearest row that was left to the example"
            if row["selected"]
            else "the nearest example is"
        )
        lines.append(f"{pulled} {row['example']}: similarity {row['similarity']:.3f}, 1 at most")
    lines.append(_change(row, reason, other, options))
    return lines


def _fit_line(row: Row, options: Mapping[str, Any]) -> str:
    """Say how well the answer fits, in words."""
    model = options["answer"].removeprefix("fits:")
    good = row["good_answers"]
    if good is None:
        return f"were it chosen, the one of its good answers that fits {model} best would be trained on"
    among = "its only good answer" if good == 1 else f"the best fit of {good} good answers"
    if row["fit"] is None:
        return f"no fit of its good answers ({good}) to {model} is known, so the best-rewarded is taken"
    return f"its fit to {model} is {row['fit']:.4g} (mean log-likelihood per token): {among}"


def place_words(cluster: object, stratum: str | None, options: Mapping[str, Any]) -> str:
    """Say whose places a row competes for.

    Args:
        cluster: Its cluster; None = there are none.
        stratum: Its stratum; None = there is no quota.
        options: Those of the selection.

    Example:
        >>> place_words(3, None, {}), place_words(3, "web", {"quota": "source=equal"}), place_words(None, None, {})
        ('cluster 3', 'cluster 3 of source web', 'the pool')
    """
    parts = [
        *([] if cluster is None else [f"cluster {cluster}"]),
        *([] if stratum is None else [stratum_words(options, stratum)]),
    ]
    return " of ".join(parts) or "the pool"


def _chance_line(row: Row, options: Mapping[str, Any]) -> str:
    """Say by what chance a row was drawn, in words."""
    own = row.get("student_good")
    likely = row.get("within_reach")
    learnt = likely is not None and likely != row["ease"]  # where nothing could be learnt, ease stands for it
    if method_of(options) != "teachable" or options.get("form") or not learnt:
        success = f"the crowd succeeds here with {row['ease'] or 0:.2f}"
    else:
        success = f"models that do as yours does elsewhere succeed here with {likely:.2f}"
    yours = "" if "student_good" not in row else f"; yours {'unknown' if own is None else f'{own:.2f}'}"
    return f"{success}{yours}; chance weight {row['chance']:.2f} (the median chosen row {row['median_chance']:.2f})"


def _metric_line(row: Row, name: str, weight: float | None) -> str:
    value, rank = row[name], row[f"{name}_rank"]
    shown = "undefined" if value is None else f"{value:.6g}"
    if rank is None:
        return f"{name} {shown}"
    counts = "" if weight is None else f", weight {weight:g} adds {weight * rank:+.4g}"
    return f"{name} {shown}: rank {rank:.3f} of the eligible rows, 0 lowest to 1 highest{counts}"


def _change(row: Row, reason: str, other: str, options: Mapping[str, Any]) -> str:
    """Describe what would have to change for the row to be chosen, or to drop out."""
    stratum = row.get("stratum")
    shared = row["cluster"] is None and stratum is None
    where = "its cluster" if stratum is None else place_words(row["cluster"], stratum, options)
    if reason == "selected":
        quota = (
            "`budget`" if shared else "the cluster's quota" if stratum is None else f"the quota of {where}"
        )
        return f"it would drop out if its score fell below that of the rows after it, or {quota} fell below {row['place']}"
    if reason == "below_cut":
        if row["last"] is None:
            more = "fewer `clusters`" if stratum is None else "a larger share of `quota`"
            return f"no row of {where} was taken: it needs a larger `budget` or {more}"
        gap = row["last"]["score"] - row["score"]
        more = f"{gap:.4g} more score" if gap else "a slightly higher score (a seeded hash broke the tie)"
        room = (
            f"a `budget` of up to {row['place']}"
            if shared
            else f"a quota of up to {row['place']} in {where} (a larger `budget`)"
        )
        return f"to be chosen it needs {more}, or {room}"
    turns = _room("turns", options)
    advice = {
        "excluded": "take its id out of `exclude`",
        "unfinished": "only if one of its answers were finished, or with `allow_cut=True` if it was cut",
        "not_included": "add its id to `include`",
        "malformed": "correct its row",
        "not_text": "only text can be trained on here: the pool needs a prompt of text and an answer of text",
        "bad_turns": "give it turns that an answer may follow" + (f", or {turns}" if turns else ""),
        "no_tools": _room("tools", options) or "no option holds tools here",
        "no_instruction": "add its text to the pool",
        "too_few_rewards": _more_rewards(row, options),
        "no_number": "give it that number, or leave its weight or its band out",
        **{code: undefined.remedy for code, undefined in UNDEFINED.items()},
        "no_answer": f"the pool needs an answer with text that `answer={options['answer']}` can take",
        "no_pair": "the pool needs two answers to one prompt with different rewards",
        "no_reference": "fill in what an answer is checked against",
        "outside": f"{_shown(row, other)}; make its band of `keep` wider",
        "no_quota": "give its value a share in `quota`, or `rest` one",
        "below_floor": "lower the floor, or collect a better answer",
        "contaminated": f"it stays out while {other} is in the evaluation{' or an example' * ('examples' in options)}",
        "no_score": f"the method leaves it out: {other}",
        "duplicate_of": f"only instead of {other}: exclude that one (`exclude`); this row's own score must also reach the cut",
        "near_duplicate_of": f"only if {other} were left out, or with a higher `near_duplicates` ({options['near_duplicates']})",
    }
    return f"to be chosen: {advice[reason]}"


def _more_rewards(row: Row, options: Mapping[str, Any]) -> str:
    """Say how a row with too few rewards is chosen: with more of them, or by what one is enough for."""
    said = f"score more answers (it has {row['n_rewards']})"
    weights = options["weights"] if is_weighted(options) else {}
    lacking = [name for name, weight in weights.items() if weight and row.get(name) is None]
    left = {name: weight for name, weight in weights.items() if weight and name not in lacking}
    bounded = any(band.name == "rewards" for band in bands_of(options.get("keep") or ()))
    paired = options.get("pairs") is not None
    if not row["n_rewards"] or paired or (weights and not left) or (bounded and not lacking):
        return said
    keep = [] if bounded else ["`keep='rewards=1..'`"]
    if not lacking:
        return f"{said}, or write {keep[0]}"
    without = " and ".join([weights_without("", left), *keep])
    return f"{said}, or write {without}: it has too few for {' and '.join(lacking)}"


def _room(need: str, options: Mapping[str, Any]) -> str:
    """The options that would hold what a row needs; nothing where those of the selection do."""
    name = options.get("format") or ("dpo" if options.get("pairs") else None)
    trainer, kind = options.get("trainer"), options.get("file_type") or "jsonl"
    if need in holds_of(name, trainer=trainer, file_type=kind):
        return ""
    others = no_room(need, name, trainer=trainer, file_type=kind)[1]
    return others and f"write it with {others}"


def _shown(row: Row, name: str) -> str:
    value = row.get(name)
    return f"its {name} is {value:.6g}" if isinstance(value, int | float) else f"its {name} lies outside"


def score_line(options: Mapping[str, Any]) -> str:
    """Describe what the score of a selection is made of.

    Example:
        >>> score_line({"method": "length", "of": "answer", "weights": {"difficulty": 0.0}})
        'length (of answer)'
    """
    if method_of(options) == CROWD.name:
        return " + ".join(f"{w:g} x {name}" for name, w in options["weights"].items() if w)
    known = {field.name for field in fields(Options)} | {"method"}
    arguments = ", ".join(
        f"{name} {value}" for name, value in options.items() if name not in known and value is not None
    )
    return method_of(options) + (f" ({arguments})" if arguments else "")


_ROUNDING = 1e-12  # relative; draws that differ by less are equal


@dataclass(frozen=True, slots=True)
class Control:
    """One column's mean over the chosen rows, and over random selections with the same quotas."""

    chosen: float
    random: float
    """Mean over the draws."""
    spread: float
    """Standard deviation over the draws: differences below two of these may be chance. Infinite on overflow."""


def random_control(selection: Selection, *, draws: int = 200, seed: int = 0) -> Mapping[str, Control]:
    """Compare the chosen rows with random eligible ones, as many from each cluster and stratum.

    Args:
        selection: What was chosen.
        draws: How many random selections.
        seed: Seed of the draws.

    Returns:
        One `Control` for `reward`, that of the answer to train on (unless it was taken by its fit), and for each metric, if
        every chosen row has a value. Random rows without a value are left out of their mean.

    Example:
        >>> random_control.__name__
        'random_control'
    """
    import pyarrow as pa

    there = selection.table.column_names
    own = () if "fit" in there else ("reward",)  # of rows that are not chosen nobody knows which answer fits
    columns = [name for name in (*own, *METRICS) if name in there]
    wanted = selection.table.select(["selected", *columns])  # no texts are copied
    eligible = wanted.filter(pa.array(selection.eligible))
    chosen = eligible["selected"].to_numpy()
    cell = selection.cells[selection.eligible]
    values = {name: eligible[name].to_numpy() for name in columns}
    rng = np.random.default_rng(seed)
    means: dict[str, list[float]] = {name: [] for name in columns}
    members = [np.flatnonzero(cell == number) for number in np.unique(cell[chosen])]
    for _ in range(draws):
        drawn = np.concatenate(
            [rng.choice(rows, size=int(chosen[rows].sum()), replace=False) for rows in members]
        )
        for name in columns:
            known = values[name][drawn]
            means[name].append(float(np.nanmean(known)) if not np.isnan(known).all() else np.nan)
    with np.errstate(over="ignore"):  # the spread of giant variances is infinite
        return {
            name: Control(float(values[name][chosen].mean()), float(np.nanmean(drawn)), _spread(drawn))
            for name, drawn in means.items()
            if not np.isnan(values[name][chosen]).any() and not np.isnan(drawn).all()
        }


def _spread(means: list[float]) -> float:
    """Compute the standard deviation of the draws; 0 if they differ by rounding only, as when every row is drawn."""
    spread = float(np.nanstd(means))
    return spread if spread > _ROUNDING * float(np.nanmax(np.abs(means))) else 0.0
