"""The whole way from a scored pool to a selection, on one page.

pool ─▶ score matrix ─▶ metrics ─────────▶ uniform ranks ─▶ score ─┐
     └▶ texts ─▶ vectors ─▶ clusters ───────────────────────────────┴▶ choice ─▶ Selection
"""

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.errors import SplitError
from crowdselect.numeric.quotas import choose
from crowdselect.numeric.responses import check_answer, find_answers
from crowdselect.pool.pool import Pool
from crowdselect.progress import Stages
from crowdselect.seeding import content_hash, reseeded
from crowdselect.selection.clusters import group
from crowdselect.selection.eligibility import ELIGIBLE, duplicate_groups
from crowdselect.selection.eligible import fixed_bars, not_scored, row_reasons
from crowdselect.selection.facts import run_facts, run_warnings, selection_table
from crowdselect.selection.methods import CROWD, Method, Scored, Seen, check_rows, score_rows
from crowdselect.selection.options import Options
from crowdselect.selection.rows import check_usable, measure, pick_samples
from crowdselect.selection.selection import Selection
from crowdselect.selection.sharded import by_file, select_sharded
from crowdselect.selection.targets import find_targets, with_targets


def select(
    pool: Pool,
    options: Options,
    *,
    crowd: Crowd | None = None,
    stages: Stages | None = None,
    method: Method = CROWD,
) -> Selection:
    """Choose the instructions of a pool to train on.

    Args:
        pool: From `crowdselect.open_pool`. Above a million rows in several Parquet files, one file is in memory
            at a time, with the same result (`crowdselect.selection.sharded`).
        options: How to choose.
        crowd: Family and size of the models; None reads them off the names.
        stages: Times the stages and shows progress.
        method: What gives the score; see `crowdselect.methods.baselines` for others.

    Returns:
        Every instruction, chosen or not, with the reason. The same pool in any row order, file type or
        layout gives the same selection.

    Raises:
        CrowdselectError: The pool, the crowd or an option is not usable; the message says what to do.

    Example:
        See `crowdselect.Selection`.
    """
    stage = stages or Stages()
    files = by_file(pool, options, method)
    if files is not None:
        try:
            return select_sharded(files, options, crowd=crowd, stages=stage, method=method)
        except SplitError:
            if files is pool:  # it was asked for
                raise
    with stage("rewards and metrics"):
        measured = measure(
            pool,
            reward=options.reward,
            ensemble=options.ensemble,
            numbers=options.metrics,
            crowd=crowd,
            ties=options.ties,
            needed=method.weighted,
        )
        if method.weighted:
            check_usable(measured, options.weights)
    with stage("answers"):
        hashes = content_hash(pool.ids)
        check_answer(options.answer, models=pool.models)
        targets = find_targets(pool, measured.scores, allow_cut=options.allow_cut)
        answers = find_answers(
            measured.scores,
            usable=targets.usable,
            hashes=hashes,
            models=pool.models,
            answer=options.answer,
            pairs=options.pairs is not None,
            seed=options.seed,
            prompts=pool.prompt_codes() if options.pairs is not None and not pool.sampled else None,
            picks=pick_samples(pool, options.reward, options),
        )
        answers = with_targets(answers, targets, measured.scores, options=options, models=pool.models)
    with stage("eligibility"):
        texts = pool.instructions()
        fixed = fixed_bars(pool, texts, options)
        reasons = row_reasons(len(hashes), fixed, measured, answers, options, weighted=method.weighted)
        groups = duplicate_groups(texts)
        check_rows(options, reasons, groups)
    with stage("score") as progress:
        keys = reseeded(hashes, seed=options.seed, salt="tie")
        seen = Seen(
            pool=pool,
            options=options,
            measured=measured,
            answers=answers,
            texts=texts,
            eligible=reasons == ELIGIBLE,
            hashes=hashes,
            keys=keys,
            groups=groups,
        )
        scored, seen, reasons = score_rows(method, seen, reasons, progress)
    with stage("clusters") as progress:
        grouping = group(pool, texts, seen.eligible, options, progress, vectors=method.vectors)
    with stage("choice"):
        arranged = method.arrange(seen, scored.score, grouping) if method.arrange else Scored(scored.score)
        score = np.where(seen.eligible, arranged.score, np.nan)
        choice = choose(
            score,
            labels=grouping.labels,
            keys=keys,
            groups=groups,
            budget=options.budget,
            vectors=grouping.vectors,
            near_duplicates=options.near_duplicates,
        )
        table = selection_table(
            pool, measured, answers, choice, reasons, score=score, ranks=seen.ranks, grouping=grouping
        )
    notes = [*fixed.notes, *not_scored(reasons), *scored.notes, *arranged.notes]
    return Selection(
        table=table,
        options={**options.as_dict(), **method.settings},
        facts=run_facts(pool, measured, grouping, choice, notes=notes, benchmarks=fixed.benchmarks),
        warnings=tuple(
            run_warnings(
                pool,
                measured,
                answers,
                choice,
                grouping,
                eligible=seen.eligible,
                weights=options.weights if method.weighted else {},
                allow_cut=options.allow_cut,
            )
        ),
        seconds=stage.seconds,
    )
