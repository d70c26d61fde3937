"""A run's results as a selection: the columns of `selection.parquet`, the facts of the manifest, the warnings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect import __version__
from crowdselect.errors import ShapeError
from crowdselect.numeric.quotas import Choice
from crowdselect.numeric.responses import ChosenAnswers, fits_of
from crowdselect.numeric.strata import shared_out
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.files import is_remote
from crowdselect.selection.benchmarks import evaluation_lines
from crowdselect.selection.clusters import Grouping
from crowdselect.selection.eligible import ELIGIBLE, benchmark_facts, format_lines, id_doubt
from crowdselect.selection.fitting import AS_USUAL, Fitting
from crowdselect.selection.keep import lowest_kept
from crowdselect.selection.methods import Method, Seen
from crowdselect.selection.options import Options
from crowdselect.selection.quota import read_quota
from crowdselect.selection.reading import Shards
from crowdselect.selection.rewards import empty_line, marker_lines
from crowdselect.selection.rows import Rows, nullable
from crowdselect.selection.selection import Selection
from crowdselect.selection.student import student_facts
from crowdselect.selection.telling import telling_lines, unrewarded_lines
from crowdselect.selection.texts import absent_texts
from crowdselect.terminal import counted
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray, Table

_NONE = -1
_LEAST = 10  # how many of the instructions on which the rewards agree least are named
_SHOWN = 3  # strata named in a note


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that a run computed."""

    shards: Shards
    rows: Rows
    reasons: ObjectArray
    """Why each row is not eligible, shape (N,)."""
    seen: Seen
    score: FloatArray
    """Shape (N,); NaN = not eligible."""
    grouping: Grouping
    choice: Choice
    fitting: Fitting = AS_USUAL
    """By which answers were scored, where some were."""
    chance: FloatArray | None = None
    """The weight of each row, where rows were drawn by weights, shape (N,)."""
    columns: Mapping[str, ObjectArray] = field(default_factory=dict)
    """Further columns of the method's; see `Scored`."""

    @property
    def candidates(self) -> IntArray:
        """The rows that could be chosen: eligible, and no duplicates of better-scoring ones."""
        return np.flatnonzero(~np.isnan(self.score) & (self.choice.duplicate_of == _NONE))

    @property
    def quotas(self) -> dict[int, int]:
        """How many rows were chosen from each cluster that has candidates."""
        labels = self.grouping.labels
        counts = np.bincount(labels[self.choice.rank > 0], minlength=int(labels.max()) + 1)
        return {int(label): int(counts[label]) for label in np.unique(labels[self.candidates])}


def selection_of(
    found: Found, *, method: Method, notes: list[str], seconds: Mapping[str, float]
) -> Selection:
    """Build the selection from a run's results."""
    options, rows, shards = found.seen.options, found.rows, found.shards
    table = selection_table(found)
    files = {}
    if not shards.whole:
        chosen = np.flatnonzero(found.choice.rank > 0)
        files = {rows.ids[row]: str(shards.files[rows.shard[row]]) for row in chosen.tolist()}
    return Selection(
        table=table,
        options={**options.as_dict(), **method.settings},
        facts=run_facts(found, notes=notes),
        warnings=tuple(run_warnings(found, weights=options.weights if method.weighted else {})),
        seconds=seconds,
        files=files,
    )


def selection_table(found: Found) -> Table:
    """Build the table of `selection.parquet`: one row per instruction, in id order."""
    import pyarrow as pa

    rows, choice, grouping, answers = found.rows, found.choice, found.grouping, found.rows.answers
    eligible = ~np.isnan(found.score)
    chosen = choice.rank > 0
    student = None if rows.reach is None else rows.reach.student.name
    models = [*rows.crowd.names, student]  # in pairs it comes after the crowd

    def answer(
        columns: IntArray, samples: FloatArray | None, rewards: FloatArray, prefix: str
    ) -> dict[str, Any]:
        known = eligible & (columns != _NONE)
        names = pa.array(models, pa.string()).take(pa.array(columns, mask=~known))
        named = {f"{prefix}model": names}
        if samples is not None:
            named[f"{prefix}sample"] = _numbered(np.where(known, samples, np.nan))
        return {**named, f"{prefix}reward": nullable(np.where(known, rewards, np.nan))}

    return pa.table(
        {
            "id": pa.array(rows.ids, pa.string()),
            "selected": pa.array(chosen),
            "rank": pa.array(choice.rank, mask=~chosen),
            "reason": pa.array(_with_choice(found), pa.string()),
            **answer(answers.chosen, answers.sample, answers.reward, ""),
            **_fit_columns(rows),
            **({} if answers.several is None else {"answers": answers_column(found, eligible)}),
            "cluster": pa.array(grouping.labels, pa.int64(), mask=~eligible | (not grouping.clustered)),
            **_stratum_column(found, eligible),
            "score": nullable(found.score),
            **(
                {} if found.chance is None else {"chance": nullable(np.where(eligible, found.chance, np.nan))}
            ),
            **{name: _of_method(values, eligible) for name, values in found.columns.items()},
            **{name: nullable(values) for name, values in rows.metrics.items()},
            **{f"{name}_rank": nullable(values) for name, values in found.seen.ranks.items()},
            **{name: nullable(v) for name, v in rows.numbers.items() if name not in rows.metrics},
            "n_rewards": pa.array(rows.n_rewards),
            **({} if rows.agreement is None else {"reward_agreement": nullable(rows.agreement.rows)}),
            **(
                {}
                if answers.rejected is None or answers.rejected_reward is None
                else answer(answers.rejected, answers.rejected_sample, answers.rejected_reward, "rejected_")
            ),
        }
    )


def _of_method(values: ObjectArray, eligible: BoolArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """A column of the method's: numbers or texts, null where a row is not eligible."""
    import pyarrow as pa

    if values.dtype == object:
        return pa.array(values, pa.string(), mask=~eligible)
    return nullable(np.where(eligible, values, np.nan))


def _fit_columns(rows: Rows) -> dict[str, Any]:
    """How well the answer of each chosen row fits, and of how many good ones it was taken; null for other rows."""
    import pyarrow as pa

    fitted = rows.fitted
    if fitted is None:
        return {}
    at, fit, count = fitted.good.row[fitted.taken], np.full(len(rows), np.nan), np.zeros(len(rows), np.int64)
    fit[at], count[at] = fitted.fits[fitted.taken], fitted.counts
    return {"fit": nullable(fit), "good_answers": pa.array(count, mask=count == 0)}


def fit_facts(rows: Rows, options: Options, fitting: Fitting) -> dict[str, Any]:
    """Describe what taking the answers that fit did, beside taking the best-rewarded; nothing where it was not done."""
    fits, fitted = fits_of(options.answer), rows.fitted
    if fits is None or fitted is None:
        return {}

    def mean(values: FloatArray, at: IntArray) -> float | None:
        known = np.sort(
            values[at][~np.isnan(values[at])]
        )  # sorted: the order of rows does not change the sum
        return float(known.mean()) if known.size else None

    fit, reward = fitted.fits, fitted.good.reward
    return {
        "fits": {
            "model": fits.model,
            "share": fits.share,
            "max_length": fitting.max_length,
            "scored": len(fit),
            "without": int(np.isnan(fit).sum()),
            "other_than_best": int((fitted.taken != fitted.best).sum()),
            "fit": mean(fit, fitted.taken),
            "fit_of_best": mean(fit, fitted.best),
            "reward": mean(reward, fitted.taken),
            "reward_of_best": mean(reward, fitted.best),
        }
    }


def _stratum_column(found: Found, eligible: BoolArray) -> dict[str, Any]:
    """The stratum of each eligible row by its name, where there is a quota."""
    import pyarrow as pa

    strata = found.grouping.strata
    if strata is None:
        return {}
    return {"stratum": pa.array(strata.names, pa.string()).take(pa.array(strata.of, mask=~eligible))}


def answers_column(found: Found, eligible: BoolArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """The answers of each eligible row, best first: a list of `model`, `reward` and, in a pool with samples, `sample`.

    Those below the lower end of a band of `best_reward` are left out.
    """
    import pyarrow as pa

    rows, several = found.rows, found.rows.answers.several
    if several is None:
        raise ShapeError("each row has one answer")
    low = lowest_kept(found.seen.options.keep, "best_reward", rows.answers.best_reward)
    kept = eligible[several.row] & ~(np.nan_to_num(several.reward, nan=-np.inf) < low)
    names = pa.array(rows.crowd.names, pa.string()).take(pa.array(several.model[kept]))
    rewards = several.reward[kept]
    parts = {"model": names, "reward": pa.array(rewards, mask=np.isnan(rewards))}
    if several.sample is not None:
        parts["sample"] = _numbered(several.sample[kept])
    offsets = np.searchsorted(several.row[kept], np.arange(len(rows) + 1)).astype(np.int32)
    flat = pa.StructArray.from_arrays(list(parts.values()), list(parts))
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _numbered(samples: FloatArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """Convert sample numbers to whole numbers, if all are."""
    import pyarrow as pa

    none = np.isnan(samples)
    whole = np.where(none, 0.0, samples)
    whole = whole.astype(np.int64) if (whole == np.rint(whole)).all() else whole
    return pa.array(whole, mask=none)


def agreement_facts(rows: Rows) -> dict[str, Any] | None:
    """Describe how far the rewards of an ensemble agree, and where they agree least; None for a single reward."""
    agreement = rows.agreement
    if agreement is None:
        return None

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    order = np.argsort(agreement.rows, kind="stable")  # NaN last; ties by id
    least = [int(row) for row in order[:_LEAST] if not np.isnan(agreement.rows[row])]
    return {
        "pairs": [
            {
                "rewards": list(pair),
                "overall": plain(agreement.overall[pair]),
                "within": plain(agreement.within[pair]),
            }
            for pair in agreement.overall
        ],
        "least": [{"id": rows.ids[row], "agreement": float(agreement.rows[row])} for row in least],
    }


def _with_choice(found: Found) -> ObjectArray:
    choice, ids = found.choice, found.rows.ids
    codes = np.where(found.reasons == ELIGIBLE, "below_cut", found.reasons).astype(object)
    for code, others in (
        ("near_duplicate_of", choice.near_duplicate_of),
        ("duplicate_of", choice.duplicate_of),
    ):
        for row in np.flatnonzero(others != _NONE):
            codes[row] = f"{code}:{ids[others[row]]}"
    codes[choice.rank > 0] = "selected"
    return codes


def run_facts(found: Found, *, notes: list[str]) -> dict[str, Any]:
    """Collect what the run found out, for the manifest and the output; plain values only."""
    pool, rows, grouping = found.shards.pool, found.rows, found.grouping
    filled = int(rows.n_rewards.sum())
    return {
        "version": __version__,
        "simulated": "simulated" in pool.columns,
        "pool": _absolute(pool.path),
        "rewards": None if pool.rewards_path is None else _absolute(pool.rewards_path),
        "files": [str(file) for file in pool.files],
        "fingerprint": pool.fingerprint(),
        "layout": pool.layout,
        "read": pool.read.as_dict(),
        "read_as": rows.read_as,
        "malformed": pool.malformed,
        "limit": pool.limit,
        "reward": rows.reward if filled else None,
        "agreement": agreement_facts(rows),
        "instructions": len(rows),
        "models": len(rows.crowd.members),
        "filled": filled / (len(rows) * len(rows.crowd.members)),
        "crowd": [
            {**asdict(member), "rewards": int(count)}
            for member, count in zip(rows.crowd.members, rows.per_model, strict=True)
        ],
        "embedder": grouping.embedder,
        "quotas": {str(cluster): quota for cluster, quota in found.quotas.items()}
        if grouping.clustered
        else {},
        "cluster_names": grouping.names,
        **quota_facts(found),
        "benchmarks": benchmark_facts(rows),
        **(
            {}
            if rows.checked is None
            else {"checked": {**asdict(rows.checked), "needed": rows.checked.needed}}
        ),
        **_answers_given(found),
        **fit_facts(rows, found.seen.options, found.fitting),
        "students": list(found.shards.students),
        **_of_student(found),
        "notes": [*rows.pool_notes, *notes, *grouping.notes, *_short_notes(found)],
    }


def quota_facts(found: Found) -> dict[str, Any]:
    """Describe what each stratum was to have and got; nothing without a quota.

    Returns:
        `quota` with the `column` and the `strata`: of each the `name`, `eligible` (rows that could be chosen), `asked` (its
        places) and `got` (rows chosen, fewer where it has no more, and more where it took the places of others).
    """
    strata, quota = found.grouping.strata, read_quota(found.seen.options.quota)
    if strata is None or quota is None:
        return {}
    eligible = strata.sizes(found.candidates)
    asked = shared_out(found.seen.options.budget, strata.weighing(eligible))
    got = strata.sizes(np.flatnonzero(found.choice.rank > 0))
    rows = zip(strata.names, eligible, asked, got, strict=True)
    keys = ("name", "eligible", "asked", "got")
    return {"quota": {"column": quota.column, "strata": [dict(zip(keys, row, strict=True)) for row in rows]}}


def _without_places(found: Found) -> list[str]:
    """Warn of strata that are too many or whose shares are too small for a single place."""
    facts = quota_facts(found)
    if not facts:
        return []
    strata = facts["quota"]["strata"]
    idle = sum(one["eligible"] > 0 and one["got"] == 0 for one in strata)
    return [
        f"{idle} of the {counted(len(strata), 'value')} of {facts['quota']['column']} get no row: `budget` is too small for them"
    ] * bool(idle)


def _short_notes(found: Found) -> list[str]:
    """Name the strata that could not fill their places, those that lack most first."""
    facts = quota_facts(found)
    short = [one for one in facts["quota"]["strata"] if one["got"] < one["asked"]] if facts else []
    if not short:
        return []
    short.sort(key=lambda one: one["got"] - one["asked"])
    named = ", ".join(f"{one['name']} {one['got']} of {one['asked']}" for one in short[:_SHOWN])
    more = f" and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
    left = sum(one["asked"] - one["got"] for one in short)
    return [
        f"`quota`: too few rows of {facts['quota']['column']} {named}{more}; {left} {'place' if left == 1 else 'places'} went to the others"
    ]


def _of_student(found: Found) -> dict[str, Any]:
    """What is good, and what the student can; see `crowdselect.selection.student.student_facts`."""
    facts = student_facts(found.rows.reach, found.choice.rank > 0)
    if facts.get("student", {}).get("answers") is not None:
        facts["student"]["answers"] = _absolute(facts["student"]["answers"])
        if found.rows.joined is not None:
            facts["student"]["fingerprint"] = found.rows.joined.own.pool.fingerprint()
    return facts


def _answers_given(found: Found) -> dict[str, Any]:
    """How many answers the chosen rows have, where they may have several."""
    if found.rows.answers.several is None:
        return {}
    offsets = to_numpy(answers_column(found, ~np.isnan(found.score)).offsets)
    counts = np.diff(offsets)[found.choice.rank > 0]
    wanted = found.seen.options.answers_per_row
    return {"answers": {"wanted": wanted, "all": int(counts.sum()), "fewer": int((counts < wanted).sum())}}


def _absolute(path: str) -> str:
    return path if is_remote(path) else str(Path(path).absolute())


def run_warnings(found: Found, *, weights: Mapping[str, float]) -> list[str]:
    """Collect what the person who trains on this should know, one line each."""
    pool, rows, choice, grouping = found.shards.pool, found.rows, found.choice, found.grouping
    answers, has_text, warnings = (
        rows.answers,
        not rows.blank.all(),
        [*evaluation_lines(pool.evaluations), *rows.notes],
    )
    warnings += telling_lines(rows, found.seen.eligible, found.seen.options, weights)
    repeated = len(rows) - len(np.unique(rows.groups))
    doubt = id_doubt(pool, most=int(rows.n_rewards.max(initial=0)), repeated=repeated)
    warnings += [] if doubt is None else [doubt]
    warnings += marker_lines(str(rows.reward), rows.ends)
    warnings += unrewarded_lines(rows, found.reasons, found.seen.options)
    warnings += format_lines(found.reasons, rows, found.seen.options)
    chosen = choice.rank > 0
    warnings += _poor_answers(found)
    given = _answers_given(found).get("answers")
    if given and given["fewer"]:
        warnings.append(
            f"{given['fewer']} of the {int(chosen.sum())} chosen instructions have fewer than {given['wanted']} different answers; "
            f"there are {given['all']} in all"
        )
    warnings += answer_notes(answers, allow_cut=found.seen.options.allow_cut)
    if not has_text or not (pool.has_responses or rows.checked is not None):
        warnings.append(
            f"{absent_texts(has_text=has_text)}, so there is no training file and nothing for a trainer"
        )
    quotas = found.quotas
    if grouping.clustered and len(quotas) == 1:
        warnings.append("all eligible instructions are in one cluster, so clusters change nothing")
    without = sum(quota == 0 for quota in quotas.values())
    if grouping.clustered and without:
        warnings.append(
            f"{without} of {len(quotas)} clusters contribute no row: there are more clusters than rows to choose; "
            "lower `clusters`"
        )
    warnings += _without_places(found)
    sizes = np.bincount(grouping.labels[found.seen.eligible])
    emptied = [
        cluster for cluster, quota in quotas.items() if grouping.clustered and 2 * quota > sizes[cluster]
    ]
    if emptied and 4 * int(chosen.sum()) < int(sizes.sum()):
        cluster = min(emptied)
        warnings.append(
            f"{len(emptied)} of {len(quotas)} clusters are so small that more than half of their eligible rows were "
            f"taken (cluster {cluster}: {quotas[cluster]} of {sizes[cluster]}), including low-scoring ones; try fewer `clusters`"
        )
    return warnings


def _poor_answers(found: Found) -> list[str]:
    """Warn of chosen rows whose answers to train on, or all answers, have no reward above the pool's lowest."""
    rows, chosen = found.rows, found.choice.rank > 0
    answers, several, lowest, count = rows.answers, rows.answers.several, rows.lowest, int(chosen.sum())
    if (answers.best_reward[found.seen.eligible] == lowest).all():
        return [f"all rewards are equal ({lowest:g}), so there is nothing to choose by but the seed"]
    floor = f"set a floor, such as `keep='{_floor(answers.best_reward, lowest)}'`"
    poor, warnings = answers.best_reward == lowest, []
    if poor[chosen].any():
        warnings.append(
            f"no model answered {int(poor[chosen].sum())} of the {count} chosen instructions well: their best reward is the "
            f"pool's lowest ({lowest:g}); {floor}"
        )
    low = answers.reward <= lowest  # a single sample may lie below the lowest mean
    if several is not None:
        least = lowest_kept(found.seen.options.keep, "best_reward", answers.best_reward)
        low[several.row[(several.reward <= lowest) & (several.reward >= least)]] = True
    worse = int((low & ~poor & chosen).sum())
    if worse and rows.checked is None:
        banded = several is not None or rows.fitted is not None
        remedy = floor if banded else "train on the best with `answer='best'`"
        warnings.append(
            f"in {worse} of the {count} chosen instructions an answer to train on has the pool's lowest reward ({lowest:g}), "
            f"though there is a better one; {remedy}"
        )
    return warnings


def _floor(best: FloatArray, lowest: float) -> str:
    """A band that leaves out the lowest: a quantile; where so many rows share the lowest that it leaves out none, the next number."""
    band, better = "best_reward=10%..", best[best > lowest]
    if not better.size or lowest_kept([band], "best_reward", best) > lowest:
        return band
    least = float(better.min())
    return f"best_reward={least:g}.." if float(f"{least:g}") == least else f"best_reward={least!r}.."


def answer_notes(answers: ChosenAnswers, *, allow_cut: bool) -> list[str]:
    """Describe the answers that have a reward but no text, and those that did not end as they should."""
    empty = [empty_line(answers.empty)] if answers.empty else []
    return [*empty, *ending_notes(answers.endings, allow_cut=allow_cut)]


_ENDED = {
    "cut": "cut (finish_reason, or a <think> without an end)",
    "filtered": "withheld by a filter (finish_reason)",
    "failed": "broken off by an error (finish_reason)",
}


def ending_notes(endings: Mapping[str, int], *, allow_cut: bool) -> list[str]:
    """Describe how many answers did not end as they should, one line per kind of ending.

    Example:
        >>> ending_notes({"cut": 2}, allow_cut=False)
        ['2 answers were cut (finish_reason, or a <think> without an end); their rewards count, but they are not training targets (`allow_cut=True` allows them)']
    """
    notes = []
    for kind, words in _ENDED.items():
        count = endings.get(kind, 0)
        if not count:
            continue
        said = f"{count} answers were {words}" if count > 1 else f"1 answer was {words}"
        if kind == "cut" and allow_cut:
            notes.append(f"{said}; `allow_cut=True` allows them as training targets")
            continue
        hint = " (`allow_cut=True` allows them)" if kind == "cut" else ""
        notes.append(f"{said}; their rewards count, but they are not training targets{hint}")
    odd = endings.get("odd", 0)
    if odd:
        notes.append(
            f"{odd} {'answers have' if odd > 1 else 'answer has'} an unknown finish_reason; they were kept"
        )
    return notes
