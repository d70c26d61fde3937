"""The whole way from a scored pool to a selection, on one page.

pool ─▶ score matrix ─▶ metrics ─────────▶ uniform ranks ─▶ score ─┐
     └▶ texts ─▶ vectors ─▶ clusters ───────────────────────────────┴▶ choice ─▶ Selection
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.choose import check_budget, choose
from crowdselect.combine import combine, uniform_ranks
from crowdselect.crowd import Crowd
from crowdselect.eligibility import ELIGIBLE, duplicate_groups, eligibility
from crowdselect.errors import OptionError
from crowdselect.grouping import group
from crowdselect.idlist import read_ids
from crowdselect.measure import Measured, measure
from crowdselect.metrics import METRICS
from crowdselect.options import Options
from crowdselect.ordering import content_hash, reseeded
from crowdselect.pool import Pool
from crowdselect.responses import Answers, check_answer, find_answers
from crowdselect.results import run_facts, run_warnings, selection_table
from crowdselect.selection import Selection
from crowdselect.stages import Stages

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_NONE = -1


def select(
    pool: Pool, options: Options, *, crowd: Crowd | None = None, stages: Stages | None = None
) -> Selection:
    """Choose the instructions of a pool to train on.

    Args:
        pool: From `crowdselect.open_pool`.
        options: How to choose.
        crowd: Family and size of the models; None reads them off the names.
        stages: Times the stages and shows progress.

    Returns:
        Every instruction, chosen or not, with the reason. The same pool in any row order, file type or
        layout gives the same selection.

    Raises:
        CrowdselectError: The pool, the crowd or an option is not usable; the message says what to do.

    Example:
        See `crowdselect.Selection`.
    """
    stage = stages or Stages()
    with stage("rewards and metrics"):
        measured = measure(pool, reward=options.reward, crowd=crowd, ties=options.ties)
        _check_weights(measured, options)
    with stage("answers"):
        hashes = content_hash(pool.ids)
        check_answer(options.answer, models=pool.models)
        answers = find_answers(
            measured.scores,
            usable=pool.answered() if pool.has_responses else ~np.isnan(measured.scores),
            hashes=hashes,
            models=pool.models,
            answer=options.answer,
            pairs=options.pairs is not None,
            seed=options.seed,
        )
    with stage("eligibility"):
        texts = pool.instructions()
        listed, notes = _lists(pool, options)
        reasons = _reasons(pool, measured, answers, texts, options, listed=listed)
        eligible = reasons == ELIGIBLE
        groups = duplicate_groups(texts)
        check_budget(options.budget, eligible=eligible, groups=groups)
    with stage("clusters") as progress:
        grouping = group(pool, texts, eligible, options, progress)
    with stage("choice"):
        ranks = {name: uniform_ranks(values, eligible) for name, values in measured.metrics.items()}
        score = np.where(eligible, combine(ranks, options.weights), np.nan)
        choice = choose(
            score,
            labels=grouping.labels,
            keys=reseeded(hashes, seed=options.seed, salt="tie"),
            groups=groups,
            budget=options.budget,
            vectors=grouping.vectors,
            near_duplicates=options.near_duplicates,
        )
        table = selection_table(
            pool, measured, answers, choice, reasons, score=score, ranks=ranks, grouping=grouping
        )
    return Selection(
        table=table,
        options=options.as_dict(),
        facts=run_facts(pool, measured, grouping, choice, options, notes=notes),
        warnings=tuple(run_warnings(pool, measured, answers, choice, grouping)),
        seconds=stage.seconds,
    )


def _check_weights(measured: Measured, options: Options) -> None:
    if options.weights["stability"] != 0 and not measured.crowd.has_order:
        raise OptionError(
            "stability has a weight, but no model family of two known sizes is in the pool; name families and sizes "
            "in a file (crowdselect crowd POOL --toml > crowd.toml, then --crowd crowd.toml), or give "
            "--weights without stability"
        )


def _reasons(
    pool: Pool,
    measured: Measured,
    answers: Answers,
    texts: NDArray[Any],
    options: Options,
    *,
    listed: dict[str, BoolArray],
) -> NDArray[Any]:
    n = len(pool.ids)
    barred = dict(listed)
    if pool.has_text:
        barred["no_instruction"] = np.asarray(texts == None)  # noqa: E711  (element by element)
    metrics, weights = measured.metrics, options.weights
    barred["too_few_rewards"] = (measured.n_rewards < options.min_rewards) | np.any(
        [np.isnan(metrics[name]) & (weights[name] != 0) for name in METRICS if name != "stability"], axis=0
    )
    if weights["stability"] != 0:
        barred["no_stability"] = np.isnan(metrics["stability"])
    barred["no_answer"] = answers.chosen == _NONE
    if answers.rejected is not None:
        barred["no_pair"] = answers.rejected == _NONE
    floor = _floor(answers.best_reward, options)
    if floor is not None:
        barred["below_floor"] = ~(answers.best_reward >= floor)
    return eligibility(n, barred)


def _floor(best_reward: FloatArray, options: Options) -> float | None:
    if options.min_best_quantile is not None:
        known = best_reward[~np.isnan(best_reward)]
        return float(np.quantile(known, options.min_best_quantile)) if known.size else None
    return options.min_best_reward


def _lists(pool: Pool, options: Options) -> tuple[dict[str, BoolArray], list[str]]:
    """The rows that the user's own lists bar, by reason; and how many of the lists' ids are unknown."""
    barred, notes = {}, []
    for reason, option, path in (
        ("excluded", "--exclude", options.exclude),
        ("not_included", "--include", options.include),
    ):
        if path is not None:
            wanted = read_ids(path)
            there = np.fromiter((i in wanted for i in pool.ids), dtype=bool, count=len(pool.ids))
            barred[reason] = there if reason == "excluded" else ~there
            unknown = len(wanted) - int(there.sum())
            if unknown:
                notes.append(f"{option} {path}: {unknown} of {len(wanted)} ids are not in the pool")
    return barred, notes
