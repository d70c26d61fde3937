"""Scores unscored answers in this process or on the workers of a Ray cluster, in the same loop.

`score` passes sources to an engine; `unscored` reads each, and `record` (here) or a `ScoreWorker` (in an actor) scores
what it yields. The self-test is a source too: built-in conversations, scored before a long run.
"""

import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from crowdselect.cache import KEY, Keys, Parts
from crowdselect.engine.here import EngineOptions, Read, Run, Worker, run_here
from crowdselect.engine.stream import here, streamed
from crowdselect.errors import InputError, OptionError
from crowdselect.pool.howread import HowRead
from crowdselect.pool.pool import Pool, open_pool
from crowdselect.pool.prompts import user_turn
from crowdselect.reward.alike import Alike
from crowdselect.reward.loading import LocalOptions
from crowdselect.reward.local import LocalScorer
from crowdselect.reward.own import FunctionScorer
from crowdselect.reward.protocol import Item, Outcome, Scorer, conversation_text, score_key, settings_digest
from crowdselect.reward.run import CONVERSATIONS, Column, Reading, Scores, Window, items_in, row_of, windows
from crowdselect.reward.specs import Spec
from crowdselect.reward.stored import Stored, columns_of
from crowdselect.reward.verify import VerifyScorer, checked_text
from crowdselect.types import Table

BATCH = 512
"""Answers per part: a worker sorts them by length and writes them together; the most that a crash loses."""
COMPUTED = ("hf", "verify", "python")
"""Scorer kinds that compute locally: they run on workers, and their scores are stored as parts."""
ON_RAY = (*COMPUTED, "import")
"""Scorer kinds that need no server; those with a server are fast enough from one process."""
_ITEM = "item"

Source = dict[str, Any]
"""What is read as one: a file of a pool (`path`, `read`, `limit`), or conversations themselves (`items`, as JSON)."""
WHOLE: Source = {"path": None, "read": None, "limit": None, "items": None}
"""The pool that is open in this process."""


@dataclass(frozen=True, slots=True)
class ScorerSetup:
    """What a worker needs to create a scorer."""

    spec: Spec
    local: LocalOptions
    digest: bytes
    """Digest of the settings: a worker with another model stops."""
    extract: str | None = None
    """Where a verifier finds the final answer."""

    @property
    def identity(self) -> Callable[[Item], str]:
        """The scorer's `identity`, without the scorer."""
        return partial(checked_text, self.spec.target) if self.spec.kind == "verify" else conversation_text

    def scorer(self) -> Scorer:
        """Create the scorer, and check that it is the same as the driver's.

        Raises:
            InputError: It has other settings.
        """
        scorer: Scorer
        if self.spec.kind == "python":
            scorer = FunctionScorer(self.spec)
        elif self.spec.kind == "verify":
            scorer = VerifyScorer(self.spec, self.extract, processes=1)
        else:
            scorer = LocalScorer(self.spec, self.local)
        if settings_digest(scorer) != self.digest:
            raise InputError(
                f"{self.spec.text}: on a worker it is not what it is on the driver (another version, or other files); "
                "wanted the same on every machine"
            )
        return scorer


@dataclass(frozen=True, slots=True)
class Way:
    """How one column is scored: the engine, the reader of sources, and the worker that scores."""

    run: Run
    read: Read
    worker: Worker
    arguments: dict[str, Any]


def score(sources: Sequence[Source], way: Way) -> Iterator[tuple[int, list[str]]]:
    """Score unscored conversations, each once per source.

    Yields:
        Per batch, the number of new scores and the scorer's notes.

    Raises:
        CrowdselectError: The scorer cannot continue; scores so far are stored.
    """
    for table in way.run(sources, way.read, way.worker, way.arguments, batch=BATCH):
        for row in table.to_pylist():
            yield row["scored"], row["notes"]


def in_this_process(
    column: Column,
    pool: Pool,
    stored: Scores,
    *,
    retry_failed: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    alike: Alike | None = None,
) -> Way:
    """Return the way to score with the column's own scorer; for when outcomes reach the disk, see `Stored.put`.

    Args:
        column: The column to compute.
        pool: The pool that the source `WHOLE` means.
        stored: Where outcomes are looked up and stored.
        retry_failed: Retry scores that failed before, once.
        progress: Called with the number of new scores, every few scores.
        alike: Looks at the first scores; None = nothing does.
    """

    def batches(source: Source) -> Iterator[list[Item]]:
        if source != WHOLE:
            return items_of(source)
        return items_in(windows(pool, [column.reading]), column.reading)

    known = partial(stored.known, retry_failed=retry_failed)
    read = partial(
        unscored, digest=column.digest, identity=column.scorer.identity, known=known, batches=batches
    )
    watched = alike or Alike(column.name, 0, stops=False)
    return Way(
        run_here, read, record, {"column": column, "stored": stored, "progress": progress, "alike": watched}
    )


def on_workers(
    column: Column,
    setup: ScorerSetup,
    stored: Stored,
    parts: Parts,
    *,
    retry_failed: bool = False,
    alike: Alike,
    engine: EngineOptions,
) -> Way:
    """Return the way to score on a Ray cluster, with one scorer per worker.

    Args:
        column: The column to compute.
        setup: The setup of its scorer.
        stored: Where outcomes are looked up.
        parts: Where workers write.
        retry_failed: Retry scores that failed before.
        alike: Looks at the first scores of each worker.
        engine: The number of workers and their resources.
    """
    stored.read_again()
    known = partial(_found, stored.done(column.digest, retry_failed=retry_failed))
    read = partial(
        unscored,
        digest=column.digest,
        identity=setup.identity,
        known=known,
        batches=partial(items_of, reading=column.reading),
    )
    arguments = {"setup": setup, "folder": parts.folder, "place": here(), "alike": alike}
    return Way(partial(streamed, options=engine), read, ScoreWorker, arguments)


def placed(options: LocalOptions, engine: EngineOptions) -> LocalOptions:
    """Resolve the device for models: with Ray it depends on the workers' GPUs, not on this process."""
    if options.device != "auto" or not engine.on_ray:
        return options
    return replace(options, device="cuda" if engine.gpus_per_worker else "cpu")


def check_on_ray(specs: Sequence[Spec], pool: Pool) -> None:
    """Refuse what only the local engine can do.

    Raises:
        OptionError: A scorer that asks a server, or a limit over several files.
    """
    for spec in specs:
        if spec.kind not in ON_RAY:
            raise OptionError(
                f"`with` {spec.text}: `engine=ray` runs hf:, verify: and python: scorers; leave it out, requests to a server are "
                "sent at once as it is (`concurrency`)"
            )
    if pool.limit is not None and len(pool.files) > 1:
        raise OptionError(
            f"`limit` takes from the whole pool, and {pool.path} has {len(pool.files)} files that are read one by one "
            "with `engine=ray`; use `engine=local` to try something, or name one file"
        )


# Sources


def files_of(pool: Pool) -> list[Source]:
    """Give a pool's files, each of which a task reads as a pool of its own."""
    facts = {"read": json.dumps(pool.part.as_dict()), "limit": pool.limit}
    return [WHOLE | facts | {"path": str(file)} for file in pool.parts]


def windows_of_files(pool: Pool, readings: Sequence[Reading]) -> Iterator[Window]:
    """Yield a pool's answers file by file: only one file's instructions are in memory at a time."""
    for source in files_of(pool):
        with _opened(source) as shard:
            yield from windows(shard, readings)


def items_of(source: Source, *, reading: Reading = CONVERSATIONS) -> Iterator[list[Item]]:
    """Yield a source's items: the conversations in it, or the answers in its file."""
    if source["items"] is not None:
        yield [Item(json.loads(text)) for text in source["items"]]
        return
    with _opened(source) as pool:
        yield from items_in(windows(pool, [reading]), reading)


def _opened(source: Source) -> Pool:
    return open_pool(
        source["path"], read=HowRead.from_dict(json.loads(source["read"])), limit=source["limit"]
    )


# Reading and scoring, in this process or on workers


def unscored(
    sources: Table,
    *,
    digest: bytes,
    identity: Callable[[Item], str],
    known: Callable[[Sequence[bytes]], Collection[bytes]],
    batches: Callable[[Source], Iterator[list[Item]]],
) -> Iterator[Table]:
    """Read sources, and yield conversations without an outcome; runs in a task.

    Args:
        sources: A table of sources.
        digest: The digest of the scorer's settings.
        identity: As in `Scorer.identity`.
        known: Returns those of some keys that have an outcome.
        batches: Reads a source.

    Yields:
        Keys and conversations, each once per source.
    """
    import pyarrow as pa

    for source in sources.to_pylist():
        given: set[bytes] = set()
        for items in batches(source):
            keyed = {score_key(digest, identity(item)): item for item in items}
            keys = [key for key in keyed if key[:12] not in given]
            done = known(keys)
            keys = [key for key in keys if key not in done]
            given.update(key[:12] for key in keys)  # 96 bits: enough to tell them apart in one source
            texts = [json.dumps([keyed[key].messages, keyed[key].reference]) for key in keys]
            yield pa.table({KEY: pa.array(keys, pa.binary()), _ITEM: pa.array(texts, pa.large_string())})


def record(
    table: Table, *, column: Column, stored: Scores, progress: Callable[[int], None], alike: Alike
) -> Table:
    """Score a table from `unscored`, and store each outcome at once."""
    keys, scored, items = table[KEY].to_pylist(), 0, _items(table)
    for some in column.scorer.score(items) if keys else ():
        for at, outcome in some:
            stored.put(row_of(column, keys[at], outcome))
        scored += len(some)
        progress(len(some))
        for at, outcome in some:
            alike.add(items[at], outcome)
    stored.flush()  # a scorer that is faster than the disk would pile its scores up
    return _counted(scored, ())


class ScoreWorker:
    """Holds a scorer, scores batches, writes each as a part; runs in an actor.

    Args:
        setup: The setup of the scorer.
        folder: The folder of the parts.
        place: The folder of the user's own modules.
        alike: Looks at the first scores.
    """

    def __init__(self, setup: ScorerSetup, folder: Path, place: str, alike: Alike) -> None:
        if place not in sys.path:
            sys.path.insert(0, place)
        self._scorer, self._parts, self._returned = setup.scorer(), Parts(folder), 0
        self._alike = alike

    def __call__(self, batch: Table) -> Table:
        """Score a batch, unless its part exists already because it was handed out twice."""
        keys = batch[KEY].to_pylist()
        name = self._parts.name(keys)
        scored = 0
        if keys and not self._parts.has(name):
            items = _items(batch)
            found: dict[int, Outcome] = {
                at: outcome for some in self._scorer.score(items) for at, outcome in some
            }
            self._parts.write(name, columns_of(keys, [found[at] for at in range(len(keys))]))
            scored = len(keys)
            for at, item in enumerate(items):
                self._alike.add(item, found[at])
        fresh, self._returned = self._scorer.notes[self._returned :], len(self._scorer.notes)
        return _counted(scored, fresh)


def _items(table: Table) -> list[Item]:
    return [Item(*json.loads(text)) for text in table[_ITEM].to_pylist()]


def _counted(scored: int, notes: Sequence[str]) -> Table:
    import pyarrow as pa

    return pa.table({"scored": [scored], "notes": pa.array([list(notes)], pa.list_(pa.string()))})


def _found(done: Keys, keys: Sequence[bytes]) -> set[bytes]:
    return {key for key, at in zip(keys, done.find(keys).tolist(), strict=True) if at >= 0}


# The self-test

PAIRS = (
    (
        "What is the capital of France?",
        "The capital of France is Paris.",
        "bananas bananas I do not care, go away",
    ),
    (
        "Explain in two sentences why the sky looks blue.",
        "Sunlight holds all colours, and air scatters short blue waves far more than long red ones. So blue reaches us from everywhere.",
        "The sky is green because seven fish fish fish. No.",
    ),
)
"""Two questions, each with a clearly good and a clearly bad answer."""


def built_in() -> Source:
    """Return the conversations of the self-test as a source."""
    return WHOLE | {"items": [conversation_text(item) for item in built_in_items()]}


def built_in_items() -> list[Item]:
    """Return the self-test's conversations, good and bad alternating."""
    return [
        Item([*user_turn(question), {"role": "assistant", "content": answer}])
        for question, *answers in PAIRS
        for answer in answers
    ]


def self_test(name: str, score: Callable[[Sequence[Item]], list[Outcome]]) -> list[str]:
    """Test a scorer on the built-in conversations.

    Args:
        name: The scorer's column, for messages.
        score: Returns one outcome per item.

    Returns:
        Warnings, one line each; none if both good answers score higher than the bad ones.

    Example:
        >>> from crowdselect.reward.protocol import outcome_of
        >>> self_test("length", lambda items: [outcome_of(len(i.messages[-1]["content"])) for i in items])[0][:40]
        'SELF-TEST: length prefers the bad answer'
    """
    outcomes = score(built_in_items())
    warnings = []
    for at, (question, *_) in enumerate(PAIRS):
        good, bad = outcomes[2 * at : 2 * at + 2]
        if good.score is None or bad.score is None:
            warnings.append(f"SELF-TEST: {name} gives no score to {question!r}: {good.reason or bad.reason}")
        elif good.score == bad.score:
            warnings.append(f"SELF-TEST: {name} gives {good.score:.4g} to both answers to {question!r}")
        elif good.score < bad.score:
            warnings.append(
                f"SELF-TEST: {name} prefers the bad answer to {question!r}: {bad.score:.4g}, to the good one {good.score:.4g}"
            )
    if warnings:
        warnings.append(
            "SELF-TEST: such scores choose the wrong answers. It may be: a wrong chat template, another output than the "
            "reward, a number that is lower for better answers, a model that was never trained to score answers or not for "
            "English, an activation that squeezes scores together, or a cut that is too short; `self_test=False` skips this"
        )
    return warnings
