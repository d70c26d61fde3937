"""DuckDB, opened so that nothing is fetched and no setting can be changed later."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    import duckdb


def connect(*, memory: str | None = None) -> "duckdb.DuckDBPyConnection":
    """Open DuckDB in memory: no extension is fetched, none of its settings can be changed later.

    Args:
        memory: The most that it may take before it spills to disk, as "200MB"; None = most of what there is.
    """
    import duckdb

    spill = Path(tempfile.gettempdir()) / f"crowdselect-{uuid4().hex}"  # made when needed, removed on close
    connection = duckdb.connect(
        ":memory:",
        config={
            "allow_community_extensions": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "arrow_large_buffer_size": True,  # texts above 2 GB in a batch
            "temp_directory": str(spill),
        },
    )
    [shows] = connection.execute("SELECT current_setting('enable_progress_bar')").fetchone() or (False,)
    if shows:  # in a notebook without widgets it is off, and the setting is refused
        connection.execute("SET enable_progress_bar = false")
    connection.execute("SET parquet_metadata_cache = true")  # a pool asks the same files several times
    # `x IN (many constants)` becomes a join, after which the rows of several files come in any order.
    connection.execute("SET disabled_optimizers = 'in_clause'")
    if memory is not None:
        connection.execute("SET memory_limit = ?", [memory])
    connection.execute("SET lock_configuration = true")
    return connection
