"""Scoring on a Ray cluster: tasks read the pool's files, actors hold the model and write Parquet parts."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowdselect.cache import KEY, Keys, Parts
from crowdselect.engine.options import EngineOptions
from crowdselect.engine.stream import here, streamed
from crowdselect.errors import InputError, OptionError
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.reward.loading import LocalOptions
from crowdselect.reward.local import LocalScorer
from crowdselect.reward.own import FunctionScorer
from crowdselect.reward.protocol import Item, Outcome, Scorer, conversation_text, score_key, settings_digest
from crowdselect.reward.run import Column, Window, windows
from crowdselect.reward.specs import Spec
from crowdselect.reward.stored import columns_of

BATCH = 512
"""Answers that a worker is given at a time, sorts by length, and writes as a part: what a crash loses at most."""
COMPUTED = ("hf", "python")
"""Kinds of scorers that compute: they run on workers, and their scores are parts."""
KINDS = (*COMPUTED, "import")
"""Kinds of scorers that need no server; those that ask one are fast enough from one process."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a worker needs to make a scorer."""

    spec: Spec
    local: LocalOptions
    digest: bytes
    """Of the settings: a worker whose model is another one stops."""

    def scorer(self) -> Scorer:
        """Make the scorer, and see that it is the one that was asked for.

        Raises:
            InputError: It is another one.
        """
        made = FunctionScorer(self.spec) if self.spec.kind == "python" else LocalScorer(self.spec, self.local)
        if settings_digest(made) != self.digest:
            raise InputError(
                f"{self.spec.text}: on a worker it is not what it is on the driver (another version, or other files); "
                "wanted the same on every machine"
            )
        return made


def placed(options: LocalOptions, engine: EngineOptions) -> LocalOptions:
    """Settle the device that models run on: workers' own GPUs, whatever this process has."""
    if options.device != "auto" or not engine.on_ray:
        return options
    return replace(options, device="cuda" if engine.gpus_per_worker else "cpu")


def check_sharded(specs: Sequence[Spec], pool: Pool) -> None:
    """Refuse what only the local engine can do.

    Raises:
        OptionError: A scorer that asks a server, or a limit over several files.
    """
    for spec in specs:
        if spec.kind not in KINDS:
            raise OptionError(
                f"`with` {spec.text}: `engine=ray` runs hf: and python: scorers; leave it out, requests to a server are "
                "sent at once as it is (`concurrency`)"
            )
    if pool.limit is not None and len(pool.files) > 1:
        raise OptionError(
            f"`limit` takes from the whole pool, and {pool.path} has {len(pool.files)} files that are read one by one "
            "with `engine=ray`; use `engine=local` to try something, or name one file"
        )


def all_windows(pool: Pool) -> Iterator[Window]:
    """Read the answers of a pool file by file: the instructions of one file are in memory at a time."""
    for source in sources_of(pool):
        with _opened(source) as shard:
            yield from windows(shard)


def score_shards(
    sources: Sequence[dict[str, Any]],
    column: Column,
    recipe: Recipe,
    *,
    done: Keys,
    parts: Parts,
    engine: EngineOptions,
) -> Iterator[tuple[int, list[str]]]:
    """Have workers score what is not done.

    Args:
        sources: From `sources_of`, or `built_in`.
        column: What to score; workers hold its model and no other.
        recipe: Of its scorer.
        done: What need not be scored.
        parts: Where workers write.
        engine: How many workers, and on what.

    Yields:
        How many were scored, and what the scorer has to say, batch by batch.
    """
    arguments = {"recipe": recipe, "folder": parts.folder, "place": here()}
    reader = Reader(column.digest, done)
    for table in streamed(sources, reader, ScoreWorker, arguments, batch=BATCH, options=engine):
        for row in table.to_pylist():
            yield row["scored"], row["notes"]


def sources_of(pool: Pool) -> list[dict[str, Any]]:
    """Give a pool's files, each of which a task reads as a pool of its own."""
    return [
        {"path": str(file), "read": json.dumps(pool.part.as_dict()), "limit": pool.limit, "items": None}
        for file in pool.parts
    ]


def built_in(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Give some conversations themselves instead of files."""
    return [{"path": None, "read": None, "limit": None, "items": [conversation_text(one) for one in items]}]


class Reader:
    """Reads a source and gives what is not done; runs in a task.

    Args:
        digest: Of the scorer's settings.
        done: What need not be scored.
    """

    def __init__(self, digest: bytes, done: Keys) -> None:
        self._digest, self._done = digest, done

    def __call__(self, sources: Any) -> Iterator[Any]:  # noqa: ANN401  (Arrow tables)
        """Yield keys and conversations, each once per source."""
        import pyarrow as pa

        given: set[bytes] = set()
        for source in sources.to_pylist():
            for texts in _conversations(source):
                keyed = {score_key(self._digest, text): text for text in texts}
                keys = [key for key in keyed if key[:12] not in given]
                keys = [key for key, at in zip(keys, self._done.find(keys).tolist(), strict=True) if at < 0]
                given.update(key[:12] for key in keys)  # 96 bits: enough to tell them apart in one file
                yield pa.table(
                    {
                        KEY: pa.array(keys, pa.binary()),
                        "conversation": pa.array([keyed[key] for key in keys], pa.large_string()),
                    }
                )


class ScoreWorker:
    """Holds a scorer, scores batches, writes each as a part; runs in an actor.

    Args:
        recipe: Of the scorer.
        folder: Of the parts.
        place: Where the user's own modules are.
    """

    def __init__(self, recipe: Recipe, folder: Path, place: str) -> None:
        if place not in sys.path:
            sys.path.insert(0, place)
        self._scorer, self._parts, self._said = recipe.scorer(), Parts(folder), 0

    def __call__(self, batch: Any) -> Any:  # noqa: ANN401  (Arrow tables)
        """Score a batch, unless its part is there: it was handed out a second time."""
        import pyarrow as pa

        keys = batch[KEY].to_pylist()
        name = self._parts.name(keys)
        scored = 0
        if keys and not self._parts.has(name):
            items = [Item(json.loads(text)) for text in batch["conversation"].to_pylist()]
            found: dict[int, Outcome] = {
                at: outcome for some in self._scorer.score(items) for at, outcome in some
            }
            self._parts.write(name, columns_of(keys, [found[at] for at in range(len(keys))]))
            scored = len(keys)
        fresh, self._said = list(self._scorer.notes[self._said :]), len(self._scorer.notes)
        return pa.table({"scored": [scored], "notes": pa.array([fresh], pa.list_(pa.string()))})


def _conversations(source: dict[str, Any]) -> Iterator[list[str]]:
    if source["items"] is not None:
        yield source["items"]
        return
    with _opened(source) as pool:
        for window in windows(pool):
            yield [conversation_text(item) for item in window.items if item is not None]


def _opened(source: dict[str, Any]) -> Pool:
    return open_pool(
        source["path"], read=HowRead.from_dict(json.loads(source["read"])), limit=source["limit"]
    )
