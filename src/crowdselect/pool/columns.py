"""What a column holds, whatever file type it comes from, and SQL of its values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

_NUMBERS = frozenset(
    {"tinyint", "smallint", "integer", "bigint", "hugeint", "float", "double", "decimal"}
    | {"utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"}
)
MISSING_TEXTS = frozenset({"", "na", "n/a", "#n/a", "<na>", "null", "none", "nan"})
"""Texts, in any case, that stand for no number in a column of numbers."""
WIDE_DIGITS = "０１２３４５６７８９．＋－"  # noqa: RUF001
"""How Chinese and Japanese keyboards write numbers: for Python's `float`, and for us, as good as the usual ones."""
_NARROW = f"'{WIDE_DIGITS}', '0123456789.+-'"
_SPACES_OF_PYTHON = "".join(filter(str.isspace, map(chr, range(0x3001))))
MISSING_SQL = ", ".join(f"'{text}'" for text in sorted(MISSING_TEXTS))

_BLANK = r"'[\t-\r\x1c-\x20\x{85}\p{Z}]*'"  # only white space, as Unicode (and Python's str.isspace) has it

FAILED = (
    "$ERROR$",  # FastChat
    "**API REQUEST ERROR**",
    "**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**",
    *("#ERROR!", "#REF!", "#NAME?", "#N/A", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"),  # spreadsheets
)
"""What stands as the whole answer where a call, or a formula of a spreadsheet, failed."""
_FAILED_SQL = ", ".join(f"'{mark}'" for mark in FAILED)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column or a field holds, whatever file type it comes from."""

    name: Literal["text", "number", "bool", "list", "struct", "mixed", "bytes", "other"]
    fields: Mapping[str, "Kind"] = field(default_factory=lambda: MappingProxyType({}))
    """The fields of a struct."""
    item: "Kind | None" = None
    """What a list is of."""
    written: bool = False
    """Kept as the text that stands in the file."""
    slips: bool = False
    """Most values are numbers, the others texts."""
    nearly: bool = False
    """All values are numbers but for a tenth of them, or for one, which are short texts."""
    asks: bool = False
    """The texts are conversations, written as JSON, that end with what a user says."""
    beside: bool = False
    """A list of numbers, as long as that of the answers in all of the first rows."""


Columns = Mapping[str, Kind]


def quote(name: str) -> str:
    """Write a name as an SQL identifier.

    Example:
        >>> print(quote('say "hi"; --'))
        "say ""hi""; --"
    """
    return '"' + name.replace('"', '""') + '"'


def blank(text: str) -> str:
    """SQL that is true where a text is null or only white space."""
    return f"coalesce(regexp_full_match({text}, {_BLANK}), true)"


def length(text: str) -> str:
    """SQL of the characters of a text as DOUBLE; null where it is null or only white space."""
    return f"CASE WHEN NOT {blank(text)} THEN CAST(length({text}) AS DOUBLE) END"


def folded(text: str, *, case: bool = False) -> str:
    """SQL of a number that tells texts apart, but for white space and, unless `case` says so, for case; -1 where there is none."""
    spelt = text if case else f"lower({text})"
    bare = f"trim(regexp_replace({spelt}, '\\s+', ' ', 'g'))"
    return f"CASE WHEN {blank(text)} THEN -1 ELSE CAST(hash({bare}) // 2 AS BIGINT) END"


def without_turns(messages: str, *roles: str) -> str:
    """SQL of the JSON of a conversation without the turns of some roles; other text stays as it is."""
    listed = ", ".join(f"'{role}'" for role in roles)
    turns = f"list_filter(TRY_CAST({messages} AS JSON[]), lambda turn: coalesce(turn ->> 'role', '') NOT IN ({listed}))"
    return f"coalesce(CAST(to_json({turns}) AS VARCHAR), {messages})"


_SPACES = "' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)"
_CONTROLS = r"'[\x00-\x08\x0e-\x1f]'"
_QUOTES = "chr(34), chr(39), chr(96)"


def broken(text: str) -> str:
    """SQL that is true where a text holds control characters, which servers and other files refuse."""
    return f"regexp_matches({text}, {_CONTROLS})"


def repaired(text: str) -> str:
    """SQL of a text with U+FFFD for control characters: the twin of `crowdselect.pool.content.Repairs`."""
    return f"regexp_replace({text}, {_CONTROLS}, chr(65533), 'g')"


OPENINGS = ("<|im_start|>assistant\n", "<|start_header_id|>assistant<|end_header_id|>\n\n")
"""How ChatML and Llama 3's template begin a turn of the assistant; prompts in these forms are read by `rendered`."""
_OPENING = r"'^(<\|im_start\|>assistant\n|<\|start_header_id\|>assistant<\|end_header_id\|>\n\n)'"
_CLOSING = r"'(\s*(<\|im_end\|>|<\|eot_id\|>|</s>|<\|endoftext\|>|<\|end_of_text\|>))*\s*$'"
_MARKER = r"'<\|(im_start|im_end|start_header_id|eot_id)\|>'"


def is_opened(text: str) -> str:
    """SQL that is true where a text begins as a chat template begins a turn of the assistant."""
    return f"regexp_matches({text}, {_OPENING})"


def is_wrapped(text: str) -> str:
    """SQL that is true where a text is one such turn and no more."""
    return f"({is_opened(text)} AND NOT regexp_matches({_inside(text)}, {_MARKER}))"


def unwrapped(text: str) -> str:
    """SQL of a text; where it is such a turn, of what it says."""
    return f"CASE WHEN {is_wrapped(text)} THEN {_inside(text)} ELSE {text} END"


def _inside(text: str) -> str:
    return f"regexp_replace(regexp_replace({text}, {_OPENING}, ''), {_CLOSING}, '')"


def begins(text: str, *, begin: str) -> str:
    """SQL that is true where a text begins so, after white space.

    Example:
        >>> print(begins("said", begin="Can't"))
        starts_with(ltrim(said, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)), 'Can''t')
    """
    literal = begin.replace("'", "''")
    return f"starts_with(ltrim({text}, {_SPACES}), '{literal}')"


def is_failed(text: str) -> str:
    """SQL that is true where a text is nothing but a mark of `FAILED`."""
    return f"({text} IN ({_FAILED_SQL}))"


def without_failed(text: str) -> str:
    """SQL of a text; null where it is nothing but such a mark."""
    return f"CASE WHEN NOT {is_failed(text)} THEN {text} END"


def answer_alone(response: str) -> str:
    """SQL of a response without the reasoning before it: the twin of `crowdselect.pool.content.parted`."""
    answer = f"ltrim(substr({response}, {_closes(response)} + 8), {_SPACES})"
    return f"CASE WHEN {_is_parted(response)} THEN {answer} ELSE {response} END"


def with_reasoning(response: str, reasoning: str) -> str:
    """SQL of a response with the reasoning of another column before it: the twin of the one in `content`."""
    begins = f"starts_with(ltrim({response}, {_SPACES}), '<think>')"
    bare = f"trim({reasoning}, {_SPACES})"
    return (
        f"CASE WHEN coalesce({bare}, '') = '' OR {begins} THEN {response} "
        f"ELSE '<think>' || chr(10) || {bare} || chr(10) || '</think>' || chr(10) || chr(10) || {response} END"
    )


def _closes(response: str) -> str:
    return f"strpos({response}, '</think>')"


def _is_parted(response: str) -> str:
    """The first `</think>` ends reasoning that begins the response; it is not quoted, and nothing opens after a beginning."""
    head = f"substr({response}, 1, {_closes(response)} - 1)"
    begins = f"starts_with(ltrim({head}, {_SPACES}), '<think>') OR NOT contains({head}, '<think>')"
    return f"({_closes(response)} > 0 AND ({begins}) AND right({head}, 1) NOT IN ({_QUOTES}))"


def as_text(sql: str, kind: Kind) -> str:
    """SQL of a value as text."""
    if kind.name == "text" or kind.written:
        return sql
    return f"CAST({f'to_json({sql})' if kind.name in {'list', 'struct'} else sql} AS VARCHAR)"


def as_id(sql: str, kind: Kind) -> str:
    """SQL of an id as text; null where it is empty, and 27 where a column of numbers holds 27.0."""
    text = as_text(sql, kind)
    if kind.name == "number":
        text = f"CASE WHEN contains({text}, '.') THEN regexp_replace({text}, '\\.0+$', '') ELSE {text} END"
    return f"nullif({text}, '')"


def as_number(sql: str, kind: Kind) -> str:
    """SQL of a number as DOUBLE: true is 1; an empty text and its like (`MISSING_TEXTS`) are null."""
    if not (kind.written or kind.name == "text"):
        return f"CAST({sql} AS DOUBLE)"
    text = f"trim({sql}, '{_SPACES_OF_PYTHON}')"
    if kind.name == "bool":
        return f"CASE lower({text}) WHEN 'true' THEN 1.0::DOUBLE WHEN 'false' THEN 0.0::DOUBLE END"
    usual = f"nullif(TRY_CAST({sql} AS DOUBLE), 'nan'::DOUBLE)"
    # The others take long to make out, and DuckDB's `coalesce` would do so in every row.
    return (
        f"CASE WHEN {usual} IS NOT NULL THEN {usual} ELSE CAST(CASE WHEN lower({text}) IN ({MISSING_SQL}) THEN NULL "
        f"WHEN lower({text}) IN ('true', 'false') THEN CAST(lower({text}) = 'true' AS INTEGER)::VARCHAR "
        f"ELSE translate({text}, {_NARROW}) END AS DOUBLE) END"
    )


def kind_of(sql_type: Any) -> Kind:  # noqa: ANN401  (DuckDB's type objects are not typed)
    """Turn a DuckDB type into a Kind."""
    name = sql_type.id
    if name in _NUMBERS:
        return Kind("number")
    if name in {"list", "array"}:
        return Kind("list", item=kind_of(sql_type.children[0][1]))
    if name == "struct":
        return Kind("struct", fields={field: kind_of(inner) for field, inner in sql_type.children})
    if name == "varchar" and str(sql_type) != "JSON":
        return Kind("text")
    return Kind("bool") if name == "boolean" else Kind("other")


def kind_in_json(structure: Any, *, top: bool = False) -> Kind:  # noqa: ANN401  (parsed JSON)
    """Turn a part of `json_group_structure` into a Kind: a name of a type, a list of one, or an object."""
    if isinstance(structure, list):
        return Kind("list", item=kind_in_json(structure[0]))
    if isinstance(structure, dict):
        twins = len({name.casefold() for name in structure}) < len(structure)
        if twins or not structure:
            return Kind("text", written=True)
        return Kind("struct", fields={name: kind_in_json(inner) for name, inner in structure.items()})
    if structure in {"UBIGINT", "BIGINT", "HUGEINT", "UHUGEINT", "DOUBLE"}:
        return Kind("number", written=top)
    if structure == "JSON":  # a text in one row, something else in another
        return Kind("mixed", written=True)
    return Kind("bool" if structure == "BOOLEAN" else "text", written=True)


def stored_type(kind: Kind) -> str:
    """Give the SQL type of a list or an object of JSON, or of what is in one."""
    if kind.name == "list" and kind.item is not None:
        return f"{stored_type(kind.item)}[]"
    if kind.name == "struct":
        return f"STRUCT({', '.join(f'{quote(name)} {stored_type(inner)}' for name, inner in kind.fields.items())})"
    return "DOUBLE" if kind.name == "number" else "VARCHAR"
