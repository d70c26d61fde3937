"""Local models' answers generated on a Ray cluster: actors write Parquet parts, the driver adds them to the ledger."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from crowdselect.ask.budget import Limits
from crowdselect.ask.calls import Request
from crowdselect.ask.conversations import followed
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Answer, Ledger, now
from crowdselect.ask.local_client import LocalClient
from crowdselect.cache import KEY, Parts
from crowdselect.engine.here import EngineOptions
from crowdselect.engine.stream import cluster, streamed
from crowdselect.errors import InputError
from crowdselect.parquetfile import read_parquet
from crowdselect.running import running
from crowdselect.types import Table

Requests = Callable[[], Iterator[Request]]

BATCHES = 4
"""Batches of a model per part that a worker writes: the most that a crash loses."""
_REQUESTS = ".requests-"
_FILE = 4096  # requests per file that a task reads
_TEXTS = ("text", "finish_reason", "status", "error")


def generate(
    endpoints: Sequence[Endpoint],
    requests: Requests,
    ledger: Ledger,
    folder: Path,
    *,
    limits: Limits,
    engine: EngineOptions,
) -> int:
    """Have workers answer the local models' requests that have no answer yet; conversations turn by turn.

    Args:
        endpoints: Only local models are run, and under a cost cap only those without a price.
        requests: Returns a fresh iterator over the requests for one model.
        ledger: Where the answers end up; only this process opens it.
        folder: The folder of the parts, which are deleted once the ledger has them.
        limits: `max_requests` and `retry_failed` apply here.
        engine: The number of workers.

    Returns:
        The number of answers added to the ledger.
    """
    capped = limits.max_cost is not None
    local = [one for one in endpoints if one.local and not (capped and (one.price_in or one.price_out))]
    ledger.keep_settings(local)
    taken = 0
    with cluster(engine):
        for endpoint in local:
            parts = Parts(folder / endpoint.digest.hex()[:16])
            taken += take_in(parts, endpoint, ledger)  # of a run that was killed
            asked: set[bytes] = set()
            while True:
                running().tell(f"{endpoint.name} answers on the cluster", taken)
                left = pending(endpoint, requests(), ledger, asked=asked, retry_failed=limits.retry_failed)
                if limits.max_requests is not None:
                    sent = sum(spent.attempts for spent in ledger.spent().values())
                    left = islice(left, max(limits.max_requests - sent, 0))
                if not _answered(endpoint, left, parts, engine):
                    break
                taken += take_in(parts, endpoint, ledger)
    _remove_empty(folder, local)
    return taken


def _remove_empty(folder: Path, endpoints: Sequence[Endpoint]) -> None:
    """Remove the folders of the parts, and requests that a killed run left; anything else in them stays."""
    for place in (folder / endpoint.digest.hex()[:16] for endpoint in endpoints):
        for left in place.glob(f"{_REQUESTS}*"):
            shutil.rmtree(left, ignore_errors=True)
        with suppress(OSError):  # not empty, or never made
            place.rmdir()
    with suppress(OSError):
        folder.rmdir()


def pending(
    endpoint: Endpoint, requests: Iterator[Request], ledger: Ledger, *, asked: set[bytes], retry_failed: bool
) -> Iterator[Request]:
    """Yield an endpoint's requests that are still to send, each once, following conversations to their last turn."""
    while batch := list(islice(requests, 256)):
        for key, request, is_known in followed(batch, endpoint, ledger, retry_failed=retry_failed):
            if not is_known and key not in asked:
                asked.add(key)
                yield request


def take_in(parts: Parts, endpoint: Endpoint, ledger: Ledger) -> int:
    """Add the parts that workers wrote to the ledger, then delete them."""
    count = 0
    for path in parts.paths():
        rows = read_parquet(path).to_pylist()
        ended = ledger.known([row[KEY] for row in rows], retry_failed=True)
        for row in rows:
            if row[KEY] not in ended:
                ledger.put(_row(row, endpoint))
                count += 1
        ledger.flush()
        path.unlink()
    return count


def read_requests(sources: Table) -> Iterator[Table]:
    """Read the request files that the driver wrote; runs in a task."""
    for path in sources["path"].to_pylist():
        yield from (read_parquet(path).slice(begin, 64) for begin in range(0, _FILE, 64))


class GenerateWorker:
    """Holds a model, answers batches, writes them as parts; runs in an actor.

    Args:
        endpoint: With a local model.
        folder: The folder of the parts.
    """

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self._client, self._endpoint, self._parts = LocalClient(endpoint), endpoint, Parts(folder)

    def __call__(self, table: Table) -> Table:
        """Answer a batch, unless its part exists already because it was handed out twice."""
        import pyarrow as pa

        keys = table[KEY].to_pylist()
        name = self._parts.name(keys)
        if keys and not self._parts.has(name):
            rows = table.to_pylist()
            requests = [Request(row["prompt"], row["digest"], row["sample"]) for row in rows]
            replies = self._client.answers(requests)
            values = [_reply_values(reply) for reply in replies]
            columns = {field: pa.array([row[field] for row in values], pa.large_string()) for field in _TEXTS}
            counts = {
                field: pa.array([row[field] for row in values], pa.int64())
                for field in ("prompt_tokens", "completion_tokens")
            }
            self._parts.write(
                name, {**{field: table[field] for field in (KEY, "digest", "sample")}, **columns, **counts}
            )
        return pa.table({"answered": [len(keys)]})


def _answered(endpoint: Endpoint, left: Iterator[Request], parts: Parts, engine: EngineOptions) -> int:
    """Write requests for workers to read, and have them answered; return how many there were."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_REQUESTS, dir=parts.folder) as place:
        sources: list[dict[str, Any]] = []
        count = 0
        while batch := list(islice(left, _FILE)):
            path = Path(place) / f"{len(sources)}.parquet"
            columns = {
                KEY: pa.array([request.key(endpoint) for request in batch], pa.binary()),
                "prompt": pa.array([request.prompt for request in batch], pa.large_string()),
                "digest": pa.array([request.digest for request in batch], pa.binary()),
                "sample": pa.array([request.sample for request in batch], pa.int64()),
            }
            pq.write_table(pa.table(columns), path)
            sources.append({"path": str(path)})
            count += len(batch)
        arguments = {"endpoint": endpoint, "folder": parts.folder}
        size = BATCHES * endpoint.batch_size
        for _ in streamed(sources, read_requests, GenerateWorker, arguments, batch=size, options=engine):
            pass
    return count


def _reply_values(reply: Any) -> dict[str, Any]:  # noqa: ANN401  (a Reply or a CallError)
    """Return a reply as plain values; a model that cannot be used at all ends the run."""
    none = dict.fromkeys((*_TEXTS, "prompt_tokens", "completion_tokens"))
    if isinstance(reply, Exception):
        if getattr(reply, "verdict", "stop") == "stop":
            raise InputError(str(reply))
        return {**none, "status": "failed", "error": str(reply)}
    return {
        "text": reply.text.encode("utf-8", "replace").decode(),
        "finish_reason": reply.finish_reason,
        "status": reply.status,
        "error": reply.error,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
    }


def _row(row: dict[str, Any], endpoint: Endpoint) -> Answer:
    return Answer(
        key=row[KEY],
        model=endpoint.name,
        settings=endpoint.digest,
        prompt=row["digest"],
        sample=row["sample"],
        status=row["status"],
        text=row["text"],
        finish_reason=row["finish_reason"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cost=endpoint.cost(row["prompt_tokens"], row["completion_tokens"]),
        error=row["error"],
        at=now(),
    )
