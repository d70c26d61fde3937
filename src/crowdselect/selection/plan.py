"""Plan a selection that runs a model: what would be computed, found without running it."""

from dataclasses import dataclass

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.embed.models import check_embedder
from crowdselect.embed.texts import TextVectors
from crowdselect.pool.pool import Pool
from crowdselect.progress import Progress, Stages
from crowdselect.seeding import reseeded
from crowdselect.selection.clusters import check_clusters, vectors_for
from crowdselect.selection.eligible import ELIGIBLE, bars, lists
from crowdselect.selection.look import look_at
from crowdselect.selection.methods import Method, Seen, check_rows
from crowdselect.selection.options import Options, wants_model
from crowdselect.selection.reading import embeddable


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one model."""

    what: str
    """What is computed, and by which model, for people to read."""
    rows: int
    """Eligible rows: the most that have to be computed."""
    known: int
    """How many of them have their result in the cache."""
    is_here: bool = True
    """The model is on this machine; otherwise it is downloaded from the Hub first."""


def runs_a_model(options: Options, method: Method) -> bool:
    """Tell whether a selection runs a model: by its method, or as its embedder."""
    return method.known is not None or wants_model(options, method=method.vectors)


def plan(
    pool: Pool, options: Options, *, method: Method, crowd: Crowd | None = None, stages: Stages | None = None
) -> list[Work]:
    """List what `select` would compute by models, without loading one or storing anything.

    Args:
        pool: As for `crowdselect.select`.
        options: As for `crowdselect.select`.
        method: As for `crowdselect.select`.
        crowd: As for `crowdselect.select`.
        stages: As for `crowdselect.select`.

    Returns:
        One entry per model; empty if no model is run.

    Raises:
        CrowdselectError: As for `crowdselect.select`, as far as it can be known before a model runs.
    """
    stage = stages or Stages()
    with stage("rewards and metrics"):
        shards, rows = look_at(pool, options=options, crowd=crowd, method=method)
    with stage("eligibility"):
        reasons = bars(rows, lists(rows.ids, options), options, weighted=method.weighted)
        check_rows(options, reasons, rows.groups)
    seen = Seen(shards=shards, known=rows, options=options, eligible=reasons == ELIGIBLE)
    work = []
    with stage("what is in the cache") as progress:
        if method.known is not None:
            model = f"{method.name} by {method.arguments.get('model')}"
            known = method.known(seen, progress)
            work.append(Work(model, len(seen.rows), known or 0, is_here=known is not None))
        if wants_model(options, method=method.vectors):
            work.append(_embedding(seen, progress))
    return work


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
    return Work(f"vectors by {options.embedder}", len(rows), known, is_here)
