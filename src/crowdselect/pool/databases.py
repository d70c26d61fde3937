"""SQLite files, which are not read but told: their tables, and a line that writes a pool from one."""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote as quoted

MAGIC = b"SQLi"
"""The beginning of such a file."""

_WANTED = ("id", "instruction", "prompt", "model", "response", "answer", "score", "rating", "reward")


_PROGRAM = (
    "import csv, sqlite3, sys; rows = sqlite3.connect(sys.argv[1]).execute(sys.argv[2]); "
    'table = csv.writer(open("pool.csv", "w", newline="", encoding="utf-8")); '
    "table.writerow(part[0] for part in rows.description); table.writerows(rows)"
)


def told(file: Path) -> str:
    """Say which tables a SQLite file has, and how to write one of them as CSV."""
    try:
        tables = _tables(file)
    except (sqlite3.Error, UnicodeError) as error:
        return f"an SQLite database that cannot be read ({' '.join(str(error).split())[:120]})"
    if not tables:
        return "an SQLite database without a table"
    listed = "; ".join(f"{name} ({', '.join(columns)})" for name, columns in list(tables.items())[:20])
    more = "; ..." if len(tables) > 20 else ""
    # The table that has most of what is wanted, of several the first.
    best = max(tables, key=lambda name: len({column.casefold() for column in tables[name]} & set(_WANTED)))
    spelt = best if best.isidentifier() else f'"{best.replace(chr(34), chr(34) * 2)}"'
    words = [str(file), f"select * from {spelt}"]
    return (
        f"an SQLite database with the tables {listed}{more}; write what is wanted as CSV (id, instruction, model, response, "
        f"score; the query may rename and join): python -c '{_PROGRAM}' {shlex.join(words)}"
    )


def _tables(file: Path) -> dict[str, list[str]]:
    """The names of tables and views with those of their columns; nothing is written, not even beside the file."""
    address = f"file:{quoted(str(file.absolute()))}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as base:
        names = base.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        ).fetchall()
        return {
            name: [column for (column,) in base.execute("SELECT name FROM pragma_table_info(?)", [name])]
            for (name,) in names
        }
