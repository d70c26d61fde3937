"""Clusters of a pool that is read file by file: fitted on a sample, assigned text by text, no vectors kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect import lsa
from crowdselect.cluster import fit_centres, group_labels, nearest, renumbered, sample_size
from crowdselect.embed import lsa_name, text_model
from crowdselect.errors import OptionError
from crowdselect.grouping import Grouping, check_clusters
from crowdselect.merged import Merged, Places
from crowdselect.options import Options
from crowdselect.ordering import UInt64Array, reseeded
from crowdselect.shards import Run, Table, Texts, Unchanged
from crowdselect.stages import Progress

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_BATCH = 4096  # texts that a worker is given at a time


class LsaLabels:
    """A worker that puts texts into clusters by `lsa`."""

    def __init__(self, basis: lsa.Basis, centres: NDArray[np.float32]) -> None:
        self._basis, self._centres = basis, centres

    def __call__(self, table: Table) -> Table:
        """Give `shard`, `row` and `label`."""
        vectors = lsa.project(table["text"].to_pylist(), self._basis)
        return _labelled(table, nearest(vectors, self._centres))


class ModelVectors:
    """A worker that embeds texts by a model, loaded once."""

    def __init__(self, embedder: str, *, trust_remote_code: bool) -> None:
        self._model = text_model(embedder, trust_remote_code=trust_remote_code)

    def __call__(self, table: Table) -> Table:
        """Give the table with `vector`."""
        import pyarrow as pa

        vectors = self.vectors(table)
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return table.drop_columns(["text"]).append_column("vector", flat)

    def vectors(self, table: Table) -> NDArray[np.float32]:
        """Give one vector per row."""
        return self._model(table["text"].to_pylist())


class ModelLabels(ModelVectors):
    """A worker that puts texts into clusters by a model's vectors."""

    def __init__(self, embedder: str, centres: NDArray[np.float32], *, trust_remote_code: bool) -> None:
        super().__init__(embedder, trust_remote_code=trust_remote_code)
        self._centres = centres

    def __call__(self, table: Table) -> Table:
        """Give `shard`, `row` and `label`."""
        return _labelled(table, nearest(self.vectors(table), self._centres))


@dataclass(frozen=True, slots=True)
class _Task:
    """What the parts of one clustering share."""

    files: Sequence[Path]
    layout: str
    places: Places
    run: Run

    def over(
        self,
        wanted: BoolArray,
        worker: type,
        arguments: dict[str, Any],
    ) -> Any:  # noqa: ANN401  (an iterator of tables)
        sources = [
            {"shard": shard, "path": str(self.files[shard]), "rows": bits}
            for shard, bits in self.places.bits(wanted).items()
        ]
        return self.run(sources, Texts(self.layout), worker, arguments, batch=_BATCH)


def group_shards(
    files: Sequence[Path],
    layout: str,
    merged: Merged,
    *,
    eligible: BoolArray,
    hashes: UInt64Array,
    options: Options,
    run: Run,
    progress: Progress,
) -> Grouping:
    """Do what `crowdselect.grouping.group` does, with the same labels, and no vectors.

    Args:
        files: The shards.
        layout: Of the pool.
        merged: What was found in them.
        eligible: Which rows may be chosen, shape (N,).
        hashes: Content hash of each id, shape (N,).
        options: `clusters`, `cluster_by`, `embedder` and `seed` count here.
        run: Has the texts read and worked on.
        progress: Told how many texts are done.

    Raises:
        OptionError: More clusters than eligible rows, or an embedder that reads text where there is none.
    """
    rows = np.flatnonzero(eligible)
    labels = np.zeros(len(eligible), dtype=np.int64)
    if options.cluster_by is not None:
        labels[rows], names = group_labels(merged.numbers("group")[rows])
        return Grouping(labels, names, None, None, clustered=True)
    if options.clusters == 0:
        return Grouping(labels, None, None, None, clustered=False)
    check_clusters(options.clusters, len(rows))
    if not merged.table["digest"].is_valid().to_numpy().any():
        raise OptionError(f"no instruction has text, so embedder {options.embedder} has nothing to read")
    keys = reseeded(hashes[rows], seed=options.seed, salt="sample")
    task = _Task(files, layout, Places.of(merged), run)
    by_key = np.argsort(keys, kind="stable")[: max(lsa.SAMPLE, sample_size(options.clusters))]
    sample = np.zeros(len(eligible), dtype=np.bool_)
    sample[rows[by_key]] = True
    chosen = np.sort(by_key)
    fit = _fit_lsa if options.embedder == "lsa" else _fit_model
    worker, arguments, name = fit(task, sample, keys[chosen], options, len(rows))
    if options.clusters > 1:
        done, raw = 0, np.empty(len(eligible), dtype=np.int64)
        for table in task.over(eligible, worker, arguments):
            at = task.places.rows(table["shard"].to_numpy(), table["row"].to_numpy())
            raw[at] = table["label"].to_numpy()
            done += len(at)
            progress(done, len(rows))
        labels[rows] = renumbered(raw[rows])
    return Grouping(labels, None, None, name, clustered=True)


def _fit_lsa(
    task: _Task, sample: BoolArray, keys: UInt64Array, options: Options, count: int
) -> tuple[Any, dict[str, Any], str]:
    texts = [text for _, text in sorted(_read(task, sample, Unchanged, {}, "text").items())]
    first = np.sort(np.argsort(keys, kind="stable")[: lsa.SAMPLE])
    basis = lsa.fit([texts[row] for row in first], seed=options.seed)
    vectors = np.concatenate(
        [lsa.project(texts[begin : begin + _BATCH], basis) for begin in range(0, len(texts), _BATCH)]
    )
    arguments = {"basis": basis, "centres": _centres(vectors, keys, options)}
    return LsaLabels, arguments, lsa_name(count, vectors.shape[1])


def _fit_model(
    task: _Task, sample: BoolArray, keys: UInt64Array, options: Options, _count: int
) -> tuple[Any, dict[str, Any], str]:
    own = {"embedder": options.embedder, "trust_remote_code": options.trust_remote_code}
    found = _read(task, sample, ModelVectors, own, "vector")
    vectors = np.array([vector for _, vector in sorted(found.items())], dtype=np.float32)
    model = text_model(options.embedder, trust_remote_code=options.trust_remote_code)
    return ModelLabels, {**own, "centres": _centres(vectors, keys, options)}, model.named(vectors.shape[1])


def _centres(vectors: NDArray[np.float32], keys: UInt64Array, options: Options) -> NDArray[np.float32]:
    if options.clusters == 1:
        return vectors[:1]
    return fit_centres(vectors, k=options.clusters, keys=keys, seed=options.seed)


def _read(
    task: _Task,
    wanted: BoolArray,
    worker: type,
    arguments: dict[str, Any],
    column: str,
) -> dict[int, Any]:
    """Give a value per row in id order."""
    found: dict[int, Any] = {}
    for table in task.over(wanted, worker, arguments):
        at = task.places.rows(table["shard"].to_numpy(), table["row"].to_numpy())
        found.update(zip(at.tolist(), table[column].to_pylist(), strict=True))
    return found


def _labelled(table: Table, labels: IntArray) -> Table:
    import pyarrow as pa

    return table.drop_columns(["text"]).append_column("label", pa.array(labels.astype(np.int32)))
