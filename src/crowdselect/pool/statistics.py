"""What the statistics of a Parquet file prove of a column, without reading it."""

from typing import Any


def proves_values(metadata: Any, leaf: int) -> bool:  # noqa: ANN401  (untyped)
    """See `Source.never_null`, for one file."""
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(leaf).statistics
        if known is None or not (known.has_null_count and known.has_min_max) or known.null_count:
            return False
        if known.physical_type == "BYTE_ARRAY" and not known.min_raw:
            return False
    return True


def proves_text(metadata: Any, leaf: int) -> bool:  # noqa: ANN401  (untyped)
    """See `Source.never_blank`, for one file."""
    for group in range(metadata.num_row_groups):
        known = metadata.row_group(group).column(leaf).statistics
        if known is None or not (known.has_null_count and known.has_min_max) or known.null_count:
            return False
        if known.physical_type != "BYTE_ARRAY" or known.min_raw < b"!" or known.max_raw >= "\u0085".encode():
            return False
    return True
