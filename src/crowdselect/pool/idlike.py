"""Ids where instructions are wanted: columns that are ids by their names, and instructions that are ids by their texts."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"(.*[_. -])?(ids?|uu?id|guid|hash|md5|sha\d*|key)", re.IGNORECASE)
_TEXT = r"^\s*(?:[0-9a-fA-F-]{8,}|[0-9]+)\s*$"
_MOST = 0.95  # of the instructions


def id_columns(names: Iterable[str]) -> list[str]:
    """Find the columns that are ids by their names.

    Example:
        >>> id_columns(["session_id", "turn", "uuid", "prompt", "said"])
        ['session_id', 'uuid']
    """
    return [name for name in names if _NAME.fullmatch(name)]


def like_ids(texts: "pa.Array") -> list[int]:
    """Count the texts; and those that are a number, or one word of hexadecimal digits, as ids are.

    Example:
        >>> import pyarrow as pa
        >>> like_ids(pa.array(["6739103a10b54043", "1729", "add 1", "猫", None]))
        [4, 2]
    """
    import pyarrow.compute as pc

    found = pc.sum(pc.match_substring_regex(texts, _TEXT)).as_py() or 0
    return [len(texts) - texts.null_count, int(found)]


def id_lines(counts: Sequence[int]) -> list[str]:
    """Warn of instructions nearly all of which look like ids; one line, or none.

    Args:
        counts: From `like_ids`.
    """
    total, found = counts
    if not found or found < _MOST * total:
        return []
    line = (
        f"{found:,} of the {total:,} instructions look like ids (a number, or one word of hexadecimal digits): if they are, the "
        "column that is read as the instruction holds no prompts; join these from where they are, by the id"
    )
    return [line]
