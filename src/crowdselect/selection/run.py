"""The whole way from a scored pool to a selection, on one page, whatever the pool's size and wherever it is read.

pool ─▶ look ─▶ rows: metrics ─▶ uniform ranks ─▶ score ─┐
  └───▶ texts ─▶ vectors ─▶ clusters ────────────────────┴▶ choice ─▶ (answers that fit) ─▶ Selection
"""

from crowdselect.crowd import Crowd
from crowdselect.engine.here import Run
from crowdselect.pool.pool import Pool
from crowdselect.progress import Stages
from crowdselect.selection.eligible import ELIGIBLE, bars, lists, not_scored
from crowdselect.selection.facts import Found, selection_of
from crowdselect.selection.fitting import AS_USUAL, Fitting, scorer_of, with_fits
from crowdselect.selection.look import look_at
from crowdselect.selection.methods import (
    Method,
    Seen,
    arranged,
    check_rows,
    choice_of,
    default_method,
    grouped,
    scored_rows,
)
from crowdselect.selection.options import Options
from crowdselect.selection.rows import check_usable
from crowdselect.selection.selection import Selection


def select(
    pool: Pool,
    options: Options,
    *,
    crowd: Crowd | None = None,
    method: Method | None = None,
    fitting: Fitting = AS_USUAL,
    run: Run | None = None,
    stages: Stages | None = None,
) -> Selection:
    """Choose the instructions of a pool to train on.

    Args:
        pool: From `crowdselect.open_pool`. Above a million rows in several Parquet files, one file is in memory
            at a time, with the same result.
        options: How to choose.
        crowd: Family and size of the models; None reads them off the names.
        method: What scores the rows; see `crowdselect.methods` for others. None = the crowd's metrics; with a student,
            `teachable`.
        fitting: How a model scores answers, where `answer` is fits:MODEL.
        run: What reads the pool's files one by one, as on a cluster; None = this process, and only for large pools.
        stages: Times the stages and shows progress.

    Returns:
        Every instruction, chosen or not, with the reason. The same pool in any row order, file type, layout or number
        of files gives the same selection.

    Raises:
        CrowdselectError: The pool, the crowd or an option is not usable; the message says what to do.

    Example:
        See `crowdselect.Selection`.
    """
    stage, method = stages or Stages(), method or default_method(options)
    scorer = scorer_of(options, fitting)
    with stage("rewards and metrics"):
        shards, rows = look_at(pool, options=options, crowd=crowd, method=method, run=run)
        if method.weighted:
            check_usable(rows, options.weights)
    with stage("eligibility"):
        listed = lists(rows.ids, options)
        reasons = bars(rows, listed, options, weighted=method.weighted)
        check_rows(options, reasons, rows, shards.pool)
    with stage("score") as progress:
        seen = Seen(shards=shards, known=rows, options=options, eligible=reasons == ELIGIBLE)
        scored, seen, reasons = scored_rows(method, seen, reasons, progress)
    with stage("clusters") as progress:
        grouping = grouped(method, seen, progress)
    with stage("choice"):
        ordered = arranged(method, seen, scored, grouping)
        choice = choice_of(seen, ordered.score, grouping)
    if scorer is not None:
        with stage("answers that fit") as progress:
            rows = with_fits(rows, choice.rank > 0, scorer, shards=shards, options=options, progress=progress)
    notes = [*listed.notes, *not_scored(reasons), *scored.notes, *ordered.notes]
    found = Found(
        shards, rows, reasons, seen, ordered.score, grouping, choice, fitting, scored.chance, ordered.columns
    )
    return selection_of(found, method=method, notes=notes, seconds=stage.seconds)
