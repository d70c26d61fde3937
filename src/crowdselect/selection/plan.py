"""Plan a selection that runs a model: what would be computed, found without running it."""

from dataclasses import dataclass

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.embed.models import HIDDEN, check_embedder
from crowdselect.embed.texts import TextVectors
from crowdselect.hubaccess import ask_for
from crowdselect.modelfolders import is_here
from crowdselect.numeric.responses import fits_of
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress, Stages
from crowdselect.seeding import reseeded
from crowdselect.selection.clusters import check_clusters, vectors_for
from crowdselect.selection.eligible import ELIGIBLE, bars, lists
from crowdselect.selection.fitting import AS_USUAL, Fitting, checked_fits, good_of, scored_answers, scorer_of
from crowdselect.selection.look import look_at
from crowdselect.selection.methods import Method, Seen, arranged, check_rows, choice_of, grouped, scored_rows
from crowdselect.selection.options import Options, wants_model
from crowdselect.selection.reading import embeddable
from crowdselect.types import BoolArray, ObjectArray


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one model."""

    what: str
    """What is computed, and by which model, for people to read."""
    rows: int
    """Eligible rows, or answers: the most that have to be computed."""
    known: int
    """How many of them have their result in the cache."""
    is_here: bool = True
    """The model is on this machine; otherwise it is downloaded from the Hub first."""
    unasked: str | None = None
    """Why it is not known whether the Hub has a model that is not here; None = it has it."""


def runs_a_model(options: Options, method: Method) -> bool:
    """Tell whether a selection runs a model: by its method, as its embedder, or for the answers that fit."""
    embeds = wants_model(options, method=method.vectors)
    return method.known is not None or embeds or fits_of(options.answer) is not None


def plan(
    pool: Pool,
    options: Options,
    *,
    method: Method,
    fitting: Fitting = AS_USUAL,
    crowd: Crowd | None = None,
    stages: Stages | None = None,
) -> list[Work]:
    """List what `select` would compute by models, without loading one or storing anything.

    Args:
        pool: As for `crowdselect.select`.
        options: As for `crowdselect.select`.
        method: As for `crowdselect.select`.
        fitting: As for `crowdselect.select`.
        crowd: As for `crowdselect.select`.
        stages: As for `crowdselect.select`.

    Returns:
        One entry per model; empty if no model is run.

    Raises:
        CrowdselectError: As for `crowdselect.select`, as far as it can be known before a model runs; the Hub is asked
            whether it has a model that is not on this machine.
    """
    stage, fits = stages or Stages(), checked_fits(options)
    with stage("rewards and metrics"):
        shards, rows = look_at(pool, options=options, crowd=crowd, method=method)
    with stage("eligibility"):
        reasons = bars(rows, lists(rows.ids, options), options, weighted=method.weighted)
        check_rows(options, reasons, rows, shards.pool)
    seen = Seen(shards=shards, known=rows, options=options, eligible=reasons == ELIGIBLE)
    work = []
    with stage("what is in the cache") as progress:
        if method.known is not None:
            model = str(method.arguments.get("model"))
            known = method.known(seen, progress)
            what = f"{method.name} by {model}"
            work.append(Work(what, len(seen.rows), known or 0, *_where(model, is_here=known is not None)))
        if wants_model(options, method=method.vectors):
            work.append(_embedding(seen, progress))
        if fits is not None:
            done = all(each.is_here and each.known == each.rows for each in work)
            chosen = _chosen(method, seen, reasons, progress) if done else None
            work.append(_scoring(fits.model, seen, chosen, fitting, progress))
    return work


def _chosen(method: Method, seen: Seen, reasons: ObjectArray, progress: Progress) -> BoolArray:
    """Choose the rows, shape (N,), where no model has to run for that."""
    scored, seen, _ = scored_rows(method, seen, reasons, progress)
    grouping = grouped(method, seen, progress)
    return choice_of(seen, arranged(method, seen, scored, grouping).score, grouping).rank > 0


def _scoring(model: str, seen: Seen, chosen: BoolArray | None, fitting: Fitting, progress: Progress) -> Work:
    """Count the good answers of the chosen rows; where these are not known, of those that have the most."""
    shards, rows, options = seen.shards, seen.known, seen.options
    good = good_of(rows, seen.eligible if chosen is None else chosen, options)
    here = is_here(model)
    if chosen is None:
        counts = np.sort(np.unique(good.row, return_counts=True)[1])
        most = int(counts[-options.budget :].sum())
        what = f"fits of answers by {model}, at most (the vectors decide which)"
        return Work(what, most, 0, *_where(model, is_here=here))
    scorer = scorer_of(options, fitting) if here else None
    known = 0
    if scorer is not None:
        found = scored_answers(scorer.are_known, good, shards=shards, rows=rows, progress=progress)
        known = int(found.sum())
    return Work(f"fits of answers by {model}", len(good.row), known, *_where(model, is_here=here))


def _embedding(seen: Seen, progress: Progress) -> Work:
    options, rows = seen.options, seen.rows
    if options.cluster_by is None:
        check_clusters(options.clusters, len(rows))
    is_here, known = check_embedder(options.embedder), 0
    if is_here and options.cache:
        keys = reseeded(seen.known.hashes[rows], seed=options.seed, salt="sample")
        reading = embeddable(seen.shards, seen.known, options, seen.eligible)
        vectors = vectors_for(reading, rows, keys, options, progress, k=options.clusters)
        known = int(np.sum(vectors.kept(rows))) if isinstance(vectors, TextVectors) else 0
    where = _where(options.embedder.removeprefix(HIDDEN), is_here=is_here)
    return Work(f"vectors by {options.embedder}", len(rows), known, *where)


def _where(model: str, *, is_here: bool) -> tuple[bool, str | None]:
    """Whether a model is on this machine, and if not, why it is not known whether the Hub has it."""
    return is_here, None if is_here else ask_for(model, extra="hub")
