"""What a run found, laid out: the columns of `selection.parquet`, the facts of the manifest, the warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect import __version__
from crowdselect.numeric.quotas import Choice
from crowdselect.numeric.responses import Answers
from crowdselect.pool.files import is_remote
from crowdselect.pool.pool import Pool
from crowdselect.selection.clusters import Grouping
from crowdselect.selection.eligibility import ELIGIBLE
from crowdselect.selection.rows import Measured
from crowdselect.selection.targets import ending_notes
from crowdselect.types import FloatArray, IntArray

_NONE = -1
_LEAST = 10  # instructions named on which the rewards agree least
_FEW_FAMILIES = 3  # below this, stability warns


def selection_table(
    pool: Pool,
    measured: Measured,
    answers: Answers,
    choice: Choice,
    reasons: NDArray[Any],
    *,
    score: FloatArray,
    ranks: Mapping[str, FloatArray],
    grouping: Grouping,
) -> Any:  # noqa: ANN401  (a pyarrow table; pyarrow ships no types)
    """Lay out `selection.parquet`: one row per instruction, in id order."""
    import pyarrow as pa

    eligible = ~np.isnan(score)
    chosen = choice.rank > 0

    def number(values: FloatArray) -> Any:  # noqa: ANN401
        return pa.array(values, mask=np.isnan(values))

    def answer(
        columns: IntArray, samples: FloatArray | None, rewards: FloatArray, prefix: str
    ) -> dict[str, Any]:
        known = eligible & (columns != _NONE)
        names = pa.array(pool.models, pa.string()).take(pa.array(columns, mask=~known))
        found = {f"{prefix}model": names}
        if samples is not None:
            found[f"{prefix}sample"] = _numbered(np.where(known, samples, np.nan))
        return {**found, f"{prefix}reward": number(np.where(known, rewards, np.nan))}

    return pa.table(
        {
            "id": pa.array(pool.ids, pa.string()),
            "selected": pa.array(chosen),
            "rank": pa.array(choice.rank, mask=~chosen),
            "reason": pa.array(_with_choice(pool, reasons, choice), pa.string()),
            **answer(answers.chosen, answers.sample, answers.reward, ""),
            "cluster": pa.array(grouping.labels, pa.int64(), mask=~eligible | (not grouping.clustered)),
            "score": number(score),
            **{name: number(values) for name, values in measured.metrics.items()},
            **{f"{name}_rank": number(values) for name, values in ranks.items()},
            "n_rewards": pa.array(measured.n_rewards),
            **({} if measured.agreement is None else {"reward_agreement": number(measured.agreement.rows)}),
            **(
                {}
                if answers.rejected is None or answers.rejected_reward is None
                else answer(answers.rejected, answers.rejected_sample, answers.rejected_reward, "rejected_")
            ),
        }
    )


def _numbered(samples: FloatArray) -> Any:  # noqa: ANN401  (an Arrow array)
    """Numbers of samples, as whole numbers if all are."""
    import pyarrow as pa

    none = np.isnan(samples)
    whole = np.where(none, 0.0, samples)
    whole = whole.astype(np.int64) if (whole == np.rint(whole)).all() else whole
    return pa.array(whole, mask=none)


def agreement_facts(pool: Pool, measured: Measured) -> dict[str, Any] | None:
    """How far the rewards of an ensemble agree, and where they agree least; None where there is one reward."""
    agreement = measured.agreement
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
        "least": [{"id": pool.ids[row], "agreement": float(agreement.rows[row])} for row in least],
    }


def _with_choice(pool: Pool, reasons: NDArray[Any], choice: Choice) -> NDArray[Any]:
    out = np.where(reasons == ELIGIBLE, "below_cut", reasons).astype(object)
    for code, others in (
        ("near_duplicate_of", choice.near_duplicate_of),
        ("duplicate_of", choice.duplicate_of),
    ):
        for row in np.flatnonzero(others != _NONE):
            out[row] = f"{code}:{pool.ids[others[row]]}"
    out[choice.rank > 0] = "selected"
    return out


def run_facts(
    pool: Pool,
    measured: Measured,
    grouping: Grouping,
    choice: Choice,
    *,
    notes: list[str],
    benchmarks: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What was found on the way, for the manifest and the output; plain values only."""
    filled = int(measured.n_rewards.sum())
    return {
        "version": __version__,
        "simulated": "simulated" in pool.columns,
        "pool": _absolute(pool.path),
        "rewards": None if pool.rewards_path is None else _absolute(pool.rewards_path),
        "files": [str(file) for file in pool.files],
        "fingerprint": pool.fingerprint(),
        "layout": pool.layout,
        "limit": pool.limit,
        "reward": measured.reward if filled else None,
        "agreement": agreement_facts(pool, measured),
        "instructions": len(pool.ids),
        "models": len(pool.models),
        "filled": filled / (len(measured.n_rewards) * len(measured.crowd.members)),
        "crowd": [
            {**asdict(member), "rewards": int(count)}
            for member, count in zip(measured.crowd.members, measured.per_model, strict=True)
        ],
        "embedder": grouping.embedder,
        "quotas": {str(cluster): quota for cluster, quota in choice.quotas.items()}
        if grouping.clustered
        else {},
        "cluster_names": grouping.names,
        "benchmarks": [dict(benchmark) for benchmark in benchmarks],
        "notes": [*pool.notes, *notes, *grouping.notes],
    }


def _absolute(path: str) -> str:
    return path if is_remote(path) else str(Path(path).absolute())


def run_warnings(
    pool: Pool,
    measured: Measured,
    answers: Answers,
    choice: Choice,
    grouping: Grouping,
    *,
    eligible: NDArray[np.bool_],
    weights: Mapping[str, float],
    allow_cut: bool,
) -> list[str]:
    """What the person who trains on this should know, one line each."""
    found = list(measured.notes)
    if weights.get("stability") and measured.families < _FEW_FAMILIES:
        found.append(
            f"stability rests on {measured.families} model {'family' if measured.families == 1 else 'families'} of two sizes, "
            "so it has few distinct values and is mostly noise; give it a smaller weight (--weights)"
        )
    chosen = choice.rank > 0
    lowest = measured.lowest
    nobody = int((answers.best_reward[chosen] == lowest).sum())
    if nobody:
        found.append(
            f"{nobody} of the {int(chosen.sum())} chosen instructions were answered well by nobody: their best reward is the "
            f"pool's lowest ({lowest:g}); set a floor with --min-best-reward or --min-best-quantile"
        )
    if pool.has_responses and answers.unsaid:
        found.append(
            f"{answers.unsaid} answers with a reward have no text; they were passed over and none is chosen"
        )
    found += ending_notes(answers.endings, allow_cut=allow_cut)
    if not pool.has_text or not pool.has_responses:
        what, wanted = (
            ("instruction text", "instruction or messages") if not pool.has_text else ("answers", "response")
        )
        found.append(
            f"the pool holds no {what} (wanted a column {wanted}), so there is no training file and nothing for a trainer"
        )
    if grouping.clustered and len(choice.quotas) == 1:
        found.append("all eligible instructions are in one cluster, so clusters change nothing")
    without = sum(quota == 0 for quota in choice.quotas.values())
    if grouping.clustered and without:
        found.append(
            f"{without} of {len(choice.quotas)} clusters give no row: there are more clusters than rows to choose; "
            "lower --clusters"
        )
    sizes = np.bincount(grouping.labels[eligible])
    emptied = [c for c, quota in choice.quotas.items() if grouping.clustered and 2 * quota > sizes[c]]
    if emptied and 4 * int(chosen.sum()) < int(sizes.sum()):
        c = min(emptied)
        found.append(
            f"{len(emptied)} of {len(choice.quotas)} clusters gave more than half of their eligible rows (cluster {c}: "
            f"{choice.quotas[c]} of {sizes[c]}): equal quotas reach far down in small clusters; try fewer --clusters"
        )
    return found
