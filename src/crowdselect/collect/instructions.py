"""Instructions to send: read from a file, checked, and stored in one form in a temporary file.

Every endpoint reads the instructions at its own speed, so they are stored where each can continue from its own
position without holding them in memory. The temporary file has no name: it disappears with the process.
"""

import hashlib
import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from crowdselect.ask.calls import Request, make_request
from crowdselect.errors import InputError
from crowdselect.pool.columns import Kind, as_id, as_number, as_text, quote
from crowdselect.pool.connection import connect
from crowdselect.pool.howread import HowRead
from crowdselect.pool.layouts import LAYOUTS, STUDENT, detect
from crowdselect.pool.opening import OpenedInstructions, opened_instructions
from crowdselect.pool.prompts import Chat, parse_chat, user_turn
from crowdselect.pool.rendered import FORMS, READ, messages_in, read_as, template_lines
from crowdselect.pool.source import Source
from crowdselect.terminal import counted

if TYPE_CHECKING:
    import pyarrow as pa

OWN = (
    *("id", "instruction", "messages", "model", "sample", "response", "finish_reason", "reasoning"),
    *("prompt_tokens", "completion_tokens", "cost", STUDENT),
)
"""Columns of the sealed pool; an instruction column with one of these names is not carried over."""

_MEMORY = "160MB"  # DuckDB's limit while it reads; more spills to disk
_ROWS = 1024
_WHOLE = r"'\s*[+-]?[0-9]{1,18}\s*'"
_OWN = 6  # columns that `_row` takes
_PROMPT = ("id", "prompt", "digest", "then")
_PARTS = frozenset({"instruction", "messages", "turns"})


class Prompt(NamedTuple):
    """One instruction, ready to be sent."""

    id: str
    prompt: str
    digest: bytes
    then: tuple[str, ...]

    @property
    def mark(self) -> int:
        """A short hash of the first request."""
        return int.from_bytes(self.digest[:8], "little")

    def request(self, sample: int) -> Request:
        """Make the request for one sample."""
        return Request(self.prompt, self.digest, sample, self.then)


def read_prompts(batch: "pa.RecordBatch") -> list[Prompt]:
    """Read the prompts of a batch of instructions."""
    columns = (batch.column(batch.schema.get_field_index(name)).to_pylist() for name in _PROMPT)
    return [
        Prompt(id_, prompt, digest, () if then is None else tuple(json.loads(then)))
        for id_, prompt, digest, then in zip(*columns, strict=True)
    ]


class Instructions:
    """Instructions in file order. Returned by `open_instructions`; close it, or use it in a `with`.

    Attributes:
        path: The input.
        count: Number of instructions; `turns` counts their turns.
        notes: Lines for the user.
        has_instruction: Whether some are plain texts.
        has_messages: Whether some are conversations.
        carried: Names of the input's other columns.
        fingerprint: Hash of all ids, prompts and further turns, in order.
        shared: Marks (`Prompt.mark`) of first requests that several instructions begin with.
    """

    def __init__(self, path: str, stream: IO[bytes], skipped: NDArray[np.bool_], facts: "_Facts") -> None:
        self.path = path
        self.count = facts.count - int(skipped.sum())
        self.turns = facts.turns
        self.without_text = facts.blank
        self.notes = facts.notes
        self.has_instruction = facts.plain > 0
        self.has_messages = facts.chats > 0
        self.carried = facts.carried
        self.fingerprint = facts.hash.hexdigest()
        self.files = facts.files
        self.shared = facts.shared()
        self._stream = stream
        self._skipped = skipped

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary file."""
        self._stream.close()

    def prompts(self) -> Iterator[Prompt]:
        """Iterate over the instructions; several iterations may run at once."""
        for batch in self.batches(_PROMPT):
            yield from read_prompts(batch)

    def requests(self, samples: int) -> Iterator[Request]:
        """Yield the requests for one model: every sample of an instruction, then the next instruction."""
        for prompt in self.prompts():
            for sample in range(samples):
                yield prompt.request(sample)

    def batches(self, columns: Sequence[str] | None = None) -> "Iterator[pa.RecordBatch]":
        """Read the temporary file: `id`, `prompt`, `digest`, `then`, `instruction`, and the carried columns."""
        import pyarrow as pa

        options = None
        if columns is not None:
            with self._reader(None) as reader:
                wanted = [reader.schema.get_field_index(name) for name in columns]
            options = pa.ipc.IpcReadOptions(included_fields=wanted)
        with self._reader(options) as reader:
            start = 0
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                skipped = self._skipped[start : start + batch.num_rows]
                start += batch.num_rows
                if columns is not None:
                    batch = batch.select(list(columns))
                yield batch.filter(pa.array(~skipped)) if skipped.any() else batch

    def carried_texts(self, name: str) -> list[str | None]:
        """Read one of the input's other columns as text, a value per instruction; JSON where it is none; None where missing."""
        at = f"x{self.carried.index(name)}"
        values = itertools.chain.from_iterable(batch.column(0).to_pylist() for batch in self.batches([at]))
        return [
            value
            if value is None or isinstance(value, str)
            else json.dumps(value, ensure_ascii=False, default=str)
            for value in values
        ]

    def leave_out(self, why: Sequence[str | None]) -> None:
        """Skip instructions, and add to the notes how many there are of each reason.

        Args:
            why: A reason per instruction, in their order; None = it stays.
        """
        gone = np.array([reason is not None for reason in why], dtype=bool)
        if not gone.any():
            return
        turns = [1 + len(prompt.then) for prompt in self.prompts()]
        self.turns -= int(np.array(turns)[gone].sum())
        self.count -= int(gone.sum())
        self._skipped[~self._skipped] = gone
        self.fingerprint = hashlib.sha256(self.fingerprint.encode() + np.packbits(gone).tobytes()).hexdigest()
        counts = Counter(reason for reason in why if reason is not None)
        self.notes += [
            f"left out: {counted(count, 'instruction')}: {reason}" for reason, count in counts.most_common()
        ]

    def _reader(self, options: Any) -> Any:  # noqa: ANN401  (pyarrow ships no types)
        import pyarrow as pa

        self._stream.seek(0)
        return pa.ipc.open_file(pa.PythonFile(self._stream, mode="r"), options=options)


class _Facts:
    """Counts and hashes collected while the instructions are read."""

    def __init__(self, files: Sequence[Path], carried: Sequence[str], notes: list[str]) -> None:
        self.files = tuple(files)
        self.carried = tuple(carried)
        self.notes = notes
        self.hash = hashlib.sha256()
        self.count = self.turns = self.blank = self.plain = self.chats = 0
        self.digests: list[bytes] = []
        self.marks = bytearray()
        self.left_out: Counter[str] = Counter()
        self.forms = [0] * len(FORMS)

    def shared(self) -> frozenset[int]:
        """Return the marks that appear more than once."""
        marks, counts = np.unique(np.frombuffer(self.marks, dtype="<u8"), return_counts=True)
        return frozenset(marks[counts > 1].tolist())


def open_instructions(
    path: str | PathLike[str], *, near: Path | None = None, read: HowRead | None = None
) -> Instructions:
    """Read a file of instructions.

    Args:
        path: A file, folder or glob as for a pool (Parquet, JSONL, CSV), with a column `instruction`,
            `messages` or `turns`, optionally `id`, and any other columns.
        near: The folder for the temporary file; None = the system's.
        read: How it is read: columns of other names, parts of a data set, malformed rows.

    Returns:
        The instructions. Those without text are skipped and counted; without an id column the id is the hash
        of the content, and duplicates are skipped and counted.

    Raises:
        InputError: A row cannot be sent, or an id is missing or appears twice; the message names it.
    """
    text = fspath(path)
    connection = connect(memory=_MEMORY)
    try:
        return _stage(opened_instructions(connection, text, read or HowRead()), near)
    finally:
        connection.close()


def _stage(found: OpenedInstructions, near: Path | None) -> Instructions:
    source, name = found.source, found.id
    columns = source.columns
    id_ = "NULL" if name is None else as_id(quote(name), columns[name])
    if name is not None:
        _check_ids(source, id_)
    carried, notes = _carried(source, name)
    parts = [
        as_text(quote(part), columns[part]) if part in columns else "NULL"
        for part in ("instruction", "messages", "turns", "tools")
    ]
    parts.append(found.left_out or "NULL")
    others = [_typed(source, other) for other in carried]
    facts = _Facts(source.originals, carried, [*found.notes, *notes])
    stream = tempfile.TemporaryFile(dir=near)  # noqa: SIM115  (closed by Instructions.close)
    try:
        batches = source.batches(id_, *parts, *others, rows=_ROWS)
        _write(stream, (_staged(source, batch, facts, made=name is None) for batch in batches))
        _check_count(source, facts)
    except BaseException:
        stream.close()
        raise
    skipped = _repeated(facts.digests) if name is None else np.zeros(facts.count, dtype=bool)
    facts.notes += [f"left out: {counted(count, 'row')}: {why}" for why, count in facts.left_out.items()]
    if facts.blank:
        facts.notes.append(f"left out: {counted(facts.blank, 'row')} without text")
    read = read_as(None, facts.forms)
    facts.notes += [*([] if read is None else [read]), *template_lines(facts.forms)]
    if skipped.any():
        facts.notes.append(
            f"{int(skipped.sum())} rows repeat another and are left out (there is no id column)"
        )
    return Instructions(source.path, stream, skipped, facts)


def _write(stream: IO[bytes], batches: "Iterator[pa.RecordBatch]") -> None:
    import pyarrow as pa

    first = next(batches, None)
    if first is not None:
        with pa.ipc.new_file(pa.PythonFile(stream, mode="w"), first.schema) as writer:
            for batch in itertools.chain([first], batches):
                writer.write_batch(batch)


def _check_count(source: Source, facts: _Facts) -> None:
    if not facts.count:
        raise InputError(f"{source.path}: holds no instruction with text; wanted at least one")


def _check_ids(source: Source, id_: str) -> None:
    """Check that every row has an id, and that ids are unique."""
    rows, present, different, duplicate = (
        column[0].as_py()
        for column in source.fetch(
            "count(*)", f"count({id_})", f"count(DISTINCT {id_})", f"mode({id_})"
        ).columns
    )
    if present < rows:
        missing = int(np.argmax(source.fetch(id_).column(0).is_null().to_numpy()))
        raise InputError(f"{source.place(missing)}: the id is missing; fill it in, or drop the whole column")
    if different < present:
        raise InputError(
            f"{source.path}: duplicate id {duplicate!r}; wanted one row per instruction; drop one, or the whole column"
        )


def _carried(source: Source, id_: str | None) -> tuple[list[str], list[str]]:
    """Return the columns to carry over into the pool, and notes about those that are not."""
    own = {name.casefold() for name in OWN} | _PARTS
    pool = detect(source.columns)
    carried, clash, answers = [], [], []
    for name, kind in source.columns.items():
        if name == id_ or name in _PARTS:
            continue
        if name.casefold() in own:
            clash.append(name)
        elif pool is not None and LAYOUTS[pool].nested and kind.name in {"struct", "list"}:
            answers.append(name)
        else:
            carried.append(name)
    notes = []
    if clash:
        notes.append(f"columns not carried into the pool, which has its own: {', '.join(clash)}")
    if answers:
        notes.append(f"columns not carried into the pool, for holding other answers: {', '.join(answers)}")
    return carried, notes


def _typed(source: Source, name: str) -> str:
    """Return the SQL of a carried column; numbers and booleans written as text in a file get their types back."""
    kind: Kind = source.columns[name]
    sql = quote(name)
    if not kind.written:
        return sql
    if kind.name == "bool":
        return f"CAST({sql} AS BOOLEAN)"
    if kind.name != "number":
        return sql
    value = f"nullif(trim({sql}), '')"
    whole = (
        source.fetch(f"coalesce(bool_and(regexp_full_match({value}, {_WHOLE})), false)").column(0)[0].as_py()
    )
    return f"CAST({value} AS BIGINT)" if whole else as_number(sql, kind)


def _staged(source: Source, batch: "pa.RecordBatch", facts: _Facts, *, made: bool) -> "pa.RecordBatch":
    """Convert rows of the source into rows of the temporary file."""
    import pyarrow as pa

    rows, used = [], []
    for at, parts in enumerate(
        zip(*(batch.column(number).to_pylist() for number in range(_OWN)), strict=True)
    ):
        row = _row(source, parts, facts, made=made)
        if row is not None:
            rows.append(row)
            used.append(at)
    text = pa.large_string()
    schema = pa.schema(
        [
            *(("id", text), ("prompt", text), ("digest", pa.binary(32)), ("then", text)),
            *(("instruction", text), ("plain", pa.bool_())),
        ]
    )
    values = zip(*rows, strict=True) if rows else [[]] * len(schema)
    columns = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    others = [
        batch.column(number).take(pa.array(used, pa.int64())) for number in range(_OWN, batch.num_columns)
    ]
    names = [*schema.names, *(f"x{number}" for number in range(len(others)))]
    return pa.RecordBatch.from_arrays([*columns, *others], names=names)


def _row(
    source: Source, parts: tuple[str | None, ...], facts: _Facts, *, made: bool
) -> tuple[Any, ...] | None:
    """Put one instruction into its form, and take note of it; None where it has no text."""
    id_, text, chat, turns, tools, barred = parts
    if barred is not None:
        facts.left_out[barred] += 1
        return None
    number = facts.count + facts.blank + facts.left_out.total() + 1
    where = f"{source.path}: " + (f"row {number}" if id_ is None else f"id {id_!r}")
    messages, then = _asked(text, chat, turns, where)
    messages, form = messages_in(messages)
    request = _request(messages, then, tools, where)
    if request is None:
        facts.blank += 1
        return None
    further = json.dumps(request.then, ensure_ascii=False) if request.then else None
    content_hash = (
        request.digest if further is None else hashlib.sha256(request.digest + further.encode()).digest()
    )
    plain = _is_absent(chat) and _is_absent(turns)
    if form in READ:
        plain, text = False, None
    facts.forms[form] += 1
    facts.plain += text is not None
    facts.chats += not plain
    facts.count += 1
    facts.turns += 1 + len(request.then)
    facts.marks += request.digest[:8]
    if made:
        facts.digests.append(content_hash[:16])
    name = content_hash.hex()[:32] if id_ is None else id_
    facts.hash.update(f"{len(name)} {name} ".encode("utf-8", "surrogatepass") + content_hash)
    return name, request.prompt, request.digest, further, None if plain else text, plain


def _asked(text: str | None, chat: str | None, turns: str | None, where: str) -> tuple[Chat, list[str]]:
    """Put an instruction's parts together: what is asked first, nothing where there is no text, and the turns after it."""
    messages = _chat(chat, where)
    then = _turns(turns, where)
    if then:
        messages = [*messages, *user_turn(then[0])]
    elif not messages:
        messages = user_turn(text) if text is not None and text.strip() else []
    return messages, then[1:]


def _request(messages: Chat, then: list[str], tools: str | None, where: str) -> Request | None:
    """Make the request of what is asked; None where that is nothing."""
    if not messages:
        return None
    if messages[-1]["role"] not in {"user", "tool"}:
        raise InputError(
            f"{where}: its messages end with the {messages[-1]['role']}'s; wanted the user's last, which is to be answered"
        )
    return make_request(messages, then=then, tools=None if tools is None else json.loads(tools))


def _is_absent(written: str | None) -> bool:
    """Return whether there is no list: null, an empty cell, or JSON `null` or `[]`."""
    return written is None or written.strip() in {"", "null", "[]"}


def _chat(written: str | None, where: str) -> Chat:
    if written is None or _is_absent(written):
        return []
    try:
        return parse_chat(written)
    except ValueError as error:
        raise InputError(
            f"{where}: messages are {written[:80]!r}; wanted a list of {{role, content}}, both texts"
        ) from error


def _turns(written: str | None, where: str) -> list[str]:
    if written is None or _is_absent(written):
        return []
    try:
        parsed = json.loads(written)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, list) or not all(isinstance(turn, str) and turn.strip() for turn in parsed):
        raise InputError(f"{where}: turns are {written[:80]!r}; wanted a list of texts, none of them empty")
    return parsed


def _repeated(digests: list[bytes]) -> NDArray[np.bool_]:
    """Mark every row whose content appeared in an earlier row."""
    hashes = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    same = (hashes[order[1:]] == hashes[order[:-1]]).all(axis=1)
    repeated = np.zeros(len(hashes), dtype=bool)
    repeated[order[1:][same]] = True
    return repeated
