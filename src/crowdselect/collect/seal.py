"""Write a pool from the ledger: every answer in the `long` layout, in a fixed order, and a manifest beside it."""

import itertools
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crowdselect import __version__
from crowdselect.ask.calls import parsed_prompt
from crowdselect.ask.conversations import Conversation, ModelTally, read_conversations
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger
from crowdselect.collect.instructions import Instructions, Prompt, read_prompts
from crowdselect.pool.files import fingerprint
from crowdselect.pool.layouts import STUDENT
from crowdselect.pool.prompts import Chat
from crowdselect.writing import TOOL, new_file

if TYPE_CHECKING:
    import pyarrow as pa


_KEYS = 128  # answers read at a time: they may be long
_GROUP_BYTES = 32 << 20
_GROUP_ROWS = 50_000
_REASONS = 20  # most reasons listed per model


class _Row(NamedTuple):
    """A row of the pool, without the columns carried over from the instructions."""

    id: str
    instruction: str | None
    messages: Chat | None
    model: str
    sample: int
    response: str
    finish_reason: str | None
    reasoning: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    is_student: bool


_Placed = tuple[int, _Row]
"""The position of a row's instruction in its batch, and the row."""


def seal(
    instructions: Instructions,
    endpoints: Sequence[Endpoint],
    ledger: Ledger,
    target: Path,
    *,
    samples: int,
    facts: Mapping[str, Any],
) -> tuple[dict[str, ModelTally], bool]:
    """Write the pool and its manifest.

    Args:
        instructions: The instructions that were sent.
        endpoints: The models, in the order of their rows; with a student among them, a column marks its rows.
        ledger: Where the answers are.
        target: The Parquet file; a path checked by `writing.check_output`. It is replaced when the new one
            is complete, and left alone if there is no answer at all.
        samples: Answers per model.
        facts: Further entries of the manifest.

    Returns:
        Per model the counts of answers and of missing ones; and whether there was an answer to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tallies = {endpoint.name: ModelTally() for endpoint in endpoints}
    marked = any(endpoint.role == "student" for endpoint in endpoints)
    schema = _schema(instructions, samples, marked=marked)
    groups = _Groups(instructions, endpoints, ledger, tallies, samples)
    tables = (_table(instructions, schema, *group) for group in groups)
    first = next(tables, None)
    if first is None:
        return tallies, False
    with new_file(target) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for some in _gathered(itertools.chain([first], tables)):
            writer.write_table(pa.concat_tables(some))
    write_pool_manifest(instructions, ledger, target, tallies, facts=facts)
    return tallies, True


def _gathered(tables: "Iterator[pa.Table]") -> "Iterator[list[pa.Table]]":
    """Group small tables, so that row groups have a useful size."""
    group: list[pa.Table] = []
    for table in tables:
        group.append(table)
        if sum(t.nbytes for t in group) > _GROUP_BYTES or sum(len(t) for t in group) > _GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _schema(instructions: Instructions, samples: int, *, marked: bool) -> "pa.Schema":
    import pyarrow as pa

    chat = pa.list_(pa.struct([("role", pa.string()), ("content", pa.large_string())]))
    columns = [("id", pa.large_string())]
    columns += [("instruction", pa.large_string())] if instructions.has_instruction else []
    columns += [("messages", chat)] if instructions.has_messages else []
    columns += [("model", pa.string())]
    columns += [(STUDENT, pa.bool_())] if marked else []
    columns += [("sample", pa.int32())] if samples > 1 else []
    columns += [
        ("response", pa.large_string()),
        ("finish_reason", pa.string()),
        ("reasoning", pa.large_string()),
    ]
    columns += [("prompt_tokens", pa.int64()), ("completion_tokens", pa.int64()), ("cost", pa.float64())]
    staged = next(instructions.batches()).schema
    columns += [(name, staged.field(f"x{at}").type) for at, name in enumerate(instructions.carried)]
    return pa.schema(columns)


def _table(
    instructions: Instructions,
    schema: "pa.Schema",
    staged: "pa.RecordBatch",
    rows: list[_Placed],
) -> "pa.Table":
    """Build a table of rows, with the other columns of their instructions."""
    import pyarrow as pa

    positions = pa.array([at for at, _ in rows], pa.int64())
    values = dict(zip(_Row._fields, zip(*(row for _, row in rows), strict=True), strict=True))
    columns: dict[str, Any] = {
        name: pa.array(values[name], schema.field(name).type) for name in schema.names if name in values
    }
    for number, name in enumerate(instructions.carried):
        columns[name] = staged.column(staged.schema.get_field_index(f"x{number}")).take(positions)
    return pa.table(columns, schema=schema)


class _Groups:
    """The pool's rows in groups of bounded size, each row with its instruction's position in a batch."""

    def __init__(
        self,
        instructions: Instructions,
        endpoints: Sequence[Endpoint],
        ledger: Ledger,
        tallies: Mapping[str, ModelTally],
        samples: int,
    ) -> None:
        self._instructions = instructions
        self._endpoints = endpoints
        self._ledger = ledger
        self._tallies = tallies
        self._samples = samples

    def __iter__(self) -> "Iterator[tuple[pa.RecordBatch, list[_Placed]]]":
        step = max(1, _KEYS // self._samples)
        for batch in self._instructions.batches():
            prompts = read_prompts(batch)
            texts = batch.column(batch.schema.get_field_index("instruction")).to_pylist()
            plains = batch.column(batch.schema.get_field_index("plain")).to_pylist()
            beside = list(zip(texts, plains, strict=True))
            group: list[_Placed] = []
            size = 0
            for start in range(0, len(prompts), step):
                rows = self._rows(prompts[start : start + step], beside[start : start + step])
                group += [(start + at, row) for at, row in rows]
                size += sum(len(row.response) for _, row in rows)
                if size > _GROUP_BYTES or len(group) > _GROUP_ROWS:
                    yield batch, group
                    group, size = [], 0
            if group:
                yield batch, group

    def _rows(self, prompts: Sequence[Prompt], beside: Sequence[tuple[str | None, bool]]) -> list[_Placed]:
        """Look up the answers to some instructions, ordered by instruction, model and sample; count missing ones."""
        requests = [prompt.request(sample) for prompt in prompts for sample in range(self._samples)]
        per_model = [read_conversations(self._ledger, endpoint, requests) for endpoint in self._endpoints]
        rows = []
        for at, prompt in enumerate(prompts):
            first, _ = parsed_prompt(prompt.prompt)
            shared = prompt.mark in self._instructions.shared
            for endpoint, conversations in zip(self._endpoints, per_model, strict=True):
                for conversation in conversations[at * self._samples : (at + 1) * self._samples]:
                    self._tallies[endpoint.name].add(conversation, shared=shared)
                    if conversation.is_whole:
                        rows.append((at, _row(prompt, beside[at], first, conversation, endpoint)))
        return rows


def _row(
    prompt: Prompt,
    beside: tuple[str | None, bool],
    first: Chat,
    conversation: Conversation,
    endpoint: Endpoint,
) -> _Row:
    """Build the row of a complete conversation, whose first request was `first`."""
    text, plain = beside
    last = conversation.answers[-1]
    costs = [answer.cost for answer in conversation.answers]
    known = [cost for cost in costs if cost is not None]
    messages = first if conversation.turns == 1 else conversation.request.messages()
    return _Row(
        prompt.id,
        first[0]["content"] if plain else text,
        None if plain else messages,
        endpoint.name,
        conversation.request.sample,
        last.text or "",
        last.finish_reason,
        last.reasoning,
        last.prompt_tokens,
        last.completion_tokens,
        sum(known) if len(known) == len(costs) else None,
        endpoint.role == "student",
    )


def pool_manifest_path(target: Path) -> Path:
    """Return the manifest's path: beside the pool, with its name."""
    return target.with_name(target.name + ".manifest.json")


def read_pool_manifest(target: Path) -> dict[str, Any] | None:
    """Read the manifest of a sealed pool; None if crowdselect wrote none, or the pool has changed since."""
    try:
        manifest = json.loads(pool_manifest_path(target).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    if not isinstance(manifest, dict) or manifest.get("tool") != TOOL or not target.is_file():
        return None
    return manifest if manifest.get("fingerprint") == fingerprint([target]) else None


def write_pool_manifest(
    instructions: Instructions,
    ledger: Ledger,
    target: Path,
    tallies: Mapping[str, ModelTally],
    *,
    facts: Mapping[str, Any],
) -> None:
    """Write the manifest of a finished pool."""
    manifest = {
        "tool": TOOL,
        "kind": "pool",
        "version": __version__,
        "python": platform.python_version(),
        "ledger": ledger.noted("id"),
        "instructions": {
            "file": instructions.path,
            "rows": instructions.count,
            "without_text": instructions.without_text,
            "fingerprint": instructions.fingerprint,
        },
        "rows": sum(tally.rows for tally in tallies.values()),
        "missing": sum(tally.missing for tally in tallies.values()),
        "models": {name: _tally_facts(tally) for name, tally in tallies.items()},
        "spent": {name: asdict(spent) for name, spent in ledger.spent().items()},
        **facts,
        "written": sorted([target.name, pool_manifest_path(target).name]),
        "fingerprint": fingerprint([target]),
    }
    with new_file(pool_manifest_path(target)) as partial:
        partial.write_text(json.dumps(manifest, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")


def _tally_facts(tally: ModelTally) -> dict[str, Any]:
    return {
        "rows": tally.rows,
        "missing": tally.missing,
        "statuses": dict(sorted(tally.statuses.items())),
        "reasons": dict(tally.reasons.most_common(_REASONS)),
        **({"odd": dict(tally.odd.most_common(_REASONS))} if tally.odd else {}),
        "cost": tally.cost,
        "cost_unknown": tally.cost_unknown,
        "prompt_tokens": tally.prompt_tokens,
        "completion_tokens": tally.completion_tokens,
    }
