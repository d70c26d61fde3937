"""The dataset card beside the training file, in the Hub's form. Names from pools are data: they are escaped."""

import json
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from crowdselect.pool.files import is_remote
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.selection import Selection

_FOLDERS = re.compile(r"(?<![\w/])/(?:[^/\s'\"]+/)+(?=[^/\s])")  # of an absolute path: not for the public
_PATHS = ("pool", "include", "exclude", "decontaminate")


def dataset_card(
    selection: Selection, *, train_file: str | None, format_name: str, license_name: str | None
) -> str:
    r"""Write the card of a selection.

    Args:
        selection: What was chosen.
        train_file: The training file's name; None where there is none.
        format_name: Its format.
        license_name: The licence that the user names; None = unknown.

    Returns:
        Markdown with YAML in front; with a training file, `load_dataset(FOLDER)` reads that file alone.

    Example:
        >>> code("a`b|c")
        '`` a`b\\|c ``'
    """
    facts = selection.facts
    hidden = {"cache"} | ({"embedder", "trust_remote_code"} if facts["embedder"] is None else set())
    chosen = selection.counts()["selected"]
    head: dict[str, Any] = {
        "license": license_name or "unknown",
        "tags": ["crowdselect", "instruction-tuning", "data-selection"],
    }
    if train_file is not None:
        head["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": train_file}]}]
    return "\n".join(
        [
            "---",
            *(f"{key}: {_yaml(value)}" for key, value in head.items()),
            "---",
            "",
            f"# {chosen} instructions chosen by a crowd",
            "",
            *(
                ["**This pool is simulated: no real model or reward is behind it.**", ""]
                if facts["simulated"]
                else []
            ),
            _how(selection, train_file=train_file, format_name=format_name),
            "",
            *card_table("Where it comes from", _provenance(facts)),
            *card_table(
                "How it was chosen",
                {
                    key: value
                    for key, value in selection.options.items()
                    if value not in (None, (), []) and key not in hidden
                },
            ),
            *card_table(
                "Every instruction of the pool, by reason",
                {f"{name}: {REASONS[name]}": count for name, count in selection.counts().items()},
            ),
            *(
                []
                if not selection.warnings
                else ["## Warnings", "", *(f"- {code(_FOLDERS.sub('', w))}" for w in selection.warnings), ""]
            ),
            "## Licence",
            "",
            "The licences of the instructions and of the models' answers are those of their sources"
            + (
                f"; the person who made this folder names: {code(license_name)}."
                if license_name
                else ", unknown here."
            ),
            "",
        ]
    )


def _how(selection: Selection, *, train_file: str | None, format_name: str) -> str:
    text = (
        f"Chosen with crowdselect {selection.facts['version']} from {selection.facts['instructions']} instructions that "
        f"{selection.facts['models']} models answered. "
    )
    if train_file is None:
        return (
            text
            + "There is no training file, because the pool holds no texts; `selection.parquet` has the ids."
        )
    return text + (
        f"`{train_file}` holds the chosen rows in the format `{format_name}`; `selection.parquet` holds every "
        'instruction with its metrics and the reason. Load the training rows with `load_dataset("FOLDER")`.'
    )


def _provenance(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: facts[key]
        for key in ("pool", "fingerprint", "layout", "reward", "embedder")
        if facts.get(key) is not None
    }


def card_table(title: str, values: Mapping[str, Any]) -> list[str]:
    """Write a heading and a Markdown table of two columns: names and values."""
    rows = [f"| {code(key)} | {code(_plain(key, value))} |" for key, value in values.items()]
    return [f"## {title}", "", "| | |", "|---|---|", *rows, ""]


def _plain(key: str, value: object) -> str:
    """Write a value, paths without the folders of the machine that it was made on; the manifest has them."""
    if isinstance(value, list):
        return ", ".join(_plain(key, part) for part in value)
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if key in _PATHS and not is_remote(value):
        return PurePath(value).name
    return _FOLDERS.sub("", value)


def _yaml(value: object) -> str:
    """Write a value as JSON, which is YAML; what YAML does not allow to stand there goes as its code."""
    return "".join(
        c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False)
    )


def code(text: str) -> str:
    """Show text from outside as it is, so that nothing in it can act as Markdown or HTML.

    Args:
        text: Any text.

    Returns:
        A Markdown code span on one line, control characters as escapes, safe inside a table.

    Example:
        >>> code("plain")
        '`plain`'
    """
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text
    )
    shown = shown.replace("|", "\\|")
    fence = "`"
    while fence in shown:
        fence += "`"
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown or ' '}{fence}"
