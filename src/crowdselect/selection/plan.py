"""What a choice that runs a model would compute, found without running it."""

from dataclasses import dataclass

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.embed.models import check_embedder
from crowdselect.embed.texts import TextVectors
from crowdselect.embed.vectors import vector_kind
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
    """What one model would compute."""

    what: str
    """In words: what, and by which model."""
    rows: int
    """Eligible rows; at most so many have to be computed."""
    known: int
    """Those of them whose result is in the cache."""
    is_here: bool = True
    """The model is on this machine; else it is fetched from the Hub first."""


def runs_a_model(options: Options, method: Method) -> bool:
    """Say whether a model is run to choose: by the method, or as the embedder."""
    return method.known is not None or _embeds(options, method)


def plan(
    pool: Pool, options: Options, *, method: Method, crowd: Crowd | None = None, stages: Stages | None = None
) -> list[Work]:
    """Find what `select` would have models compute; none is loaded, and nothing is kept.

    Args:
        pool: As for `crowdselect.select`, and the rest.
        options: See there.
        method: See there.
        crowd: See there.
        stages: See there.

    Returns:
        One entry per model; none where no model is run.

    Raises:
        CrowdselectError: As `crowdselect.select`, for all that can be known before a model is run.
    """
    stage = stages or Stages()
    with stage("rewards and metrics"):
        shards, rows = look_at(pool, options=options, crowd=crowd, method=method)
    with stage("eligibility"):
        reasons = bars(rows, lists(rows.ids, options), options, weighted=method.weighted)
        check_rows(options, reasons, rows.groups)
    seen = Seen(shards=shards, known=rows, options=options, eligible=reasons == ELIGIBLE)
    found = []
    with stage("what is in the cache") as progress:
        if method.known is not None:
            model = f"{method.name} by {method.arguments.get('model')}"
            found.append(Work(model, len(seen.rows), method.known(seen, progress)))
        if _embeds(options, method):
            found.append(_embedding(seen, progress))
    return found


def _embeds(options: Options, method: Method) -> bool:
    return wants_model(options) or (method.vectors and vector_kind(options.embedder).runs_a_model)


def _embedding(seen: Seen, progress: Progress) -> Work:
    options, rows = seen.options, seen.rows
    if options.cluster_by is None:
        check_clusters(options.clusters, len(rows))
    is_here, known = check_embedder(options.embedder), 0
    if is_here and options.cache:
        keys = reseeded(seen.known.hashes[rows], seed=options.seed, salt="sample")
        reading = embeddable(seen.shards, seen.known)
        vectors = vectors_for(reading, rows, keys, options, progress, k=options.clusters)
        known = int(np.sum(vectors.kept(rows))) if isinstance(vectors, TextVectors) else 0
    return Work(f"vectors by {options.embedder}", len(rows), known, is_here)
