"""Write a selection as a folder to train from: training file, every row's reason, card, manifest last."""

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from crowdselect.engine.here import Run
from crowdselect.errors import InputError, OptionError
from crowdselect.parquetfile import read_parquet
from crowdselect.pool.content import MarkerCuts
from crowdselect.pool.files import is_remote
from crowdselect.pool.pool import Pool
from crowdselect.pool.prompts import Chat
from crowdselect.selection import rl
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.formats import (
    check_format,
    file_type_of,
    record,
    record_schema,
    trainer_files,
)
from crowdselect.selection.options import Options
from crowdselect.selection.records import FORMATS, RL, Record, has_earlier_answer
from crowdselect.selection.selection import Selection
from crowdselect.selection.texts import Chosen, absent_texts, chosen_of, rejected_in
from crowdselect.selection.trainers import TRAINERS
from crowdselect.writing import MANIFEST, TOOL, check_output, new_folder, read_manifest, write_manifest

if TYPE_CHECKING:
    import pyarrow as pa


FILE_TYPES = ("jsonl", "parquet")
_BATCH = 1000  # chosen rows fetched and written at a time
_DIGITS = 8  # of a training file's hash, enough to tell apart the folders that lie side by side
_PACKAGES = ("duckdb", "numpy", "pyarrow", "scikit-learn", "scipy")


def export(
    selection: Selection,
    pool: Pool | Chosen,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002  (the option's name)
    file_type: str = "jsonl",
    trainer: str | None = None,
    license: str | None = None,  # noqa: A002  (the option's name)
    overwrite: bool = False,
    run: Run | None = None,
    made: Mapping[str, Any] | None = None,
) -> Path:
    """Write a selection as a folder to train from.

    Args:
        selection: What was chosen from `pool`.
        pool: The pool; only the chosen answers are fetched from it.
        path: The folder to create.
        format: One of `crowdselect.selection.records.FORMATS`; None = `messages`, or `dpo` for pairs.
        file_type: "jsonl" or "parquet".
        trainer: One of `crowdselect.selection.trainers.TRAINERS`: in its form, with the files that it needs.
        license: The licence to state in the card; None = unknown.
        overwrite: Replace the files of an earlier result, which its manifest lists, once the new one is complete;
            everything else in the folder stays.
        run: As for `crowdselect.select`.
        made: From `crowdselect.repeats.made_by`, by which the same command recognises its result.

    Returns:
        The folder. It holds `train.jsonl` (or `.parquet`; left out where the pool has no texts and neither `format` nor
        `trainer` is given), `selection.parquet`, `README.md`, `manifest.json` (written last) and the trainer's files.

    Raises:
        OptionError: The format, file type or trainer is unknown, or they do not fit together; or the format is `rl`, and the pool
            does not say for every chosen row what an answer is checked against.
        OutputError: The path is refused; see `crowdselect.writing.check_output`.
        InputError: The pool no longer holds an answer that was chosen; or it has no texts for the format or trainer that is given.

    Example:
        >>> from crowdselect import export
        >>> export.__name__
        'export'
    """
    pairs = selection.options["pairs"]
    _check_kind(format, pairs=pairs)
    name = check_export(
        format or selection.options.get("format"), file_type=file_type, pairs=pairs, trainer=trainer
    )
    check_texts(pool, name, format=format, trainer=trainer)
    if name == RL and selection.facts.get("checked") is None:
        selection = _of_prompts(selection, pool, trainer=trainer, run=run)
    options, checked = selection.options, selection.facts.get("checked")
    if (name == RL) != (checked is not None):
        named = options.get("format")
        made_so = "without `format`" if named is None else f"with `format={named!r}`"
        raise OptionError(
            f"`format={name!r}` does not fit a selection made {made_so}; select again with `format={name!r}`"
        )
    if checked is not None and trainer in rl.CHECKED and trainer != options.get("trainer"):
        raise OptionError(
            f"this selection was not made for {trainer}; select again with `trainer={trainer!r}`"
        )
    lists = [
        options["include"],
        options["exclude"],
        options.get("student_answers"),
        options.get("examples"),
        *options["decontaminate"],
    ]
    inputs = [*pool.files, *(Path(file) for file in lists if file)]
    source = chosen_of(pool, selection, run=run)
    custom = bool(checked and checked["custom"])
    writes = file_names(source, file_type=file_type, trainer=trainer, name=name, custom=custom)
    target = check_output(path, inputs=inputs, overwrite=overwrite, folder=True, writes=writes)
    train_file = training_file(source, name=name, file_type=file_type, trainer=trainer)
    cuts, earlier = MarkerCuts(), ""
    with new_folder(target, overwrite=overwrite) as folder:
        if train_file is not None:
            records = training_records(selection, source, format=name, trainer=trainer, cuts=cuts)
            written = _Written()
            _write_training(folder / train_file, written.counted(records), name=name, trainer=trainer)
            count = len(selection.chosen)
            extra_files: dict[str, str] = {}
            if trainer is not None:
                earlier = TRAINERS[trainer].earlier_line(name, written.earlier, written.rows)
                extra_files |= trainer_files(
                    trainer,
                    name=name,
                    train_file=train_file,
                    digest=_digest(folder / train_file),
                    rows=count,
                    earlier=earlier,
                )
            extra_files |= {rl.REWARD_FILE: rl.REWARD} if custom else {}
            for file, text in extra_files.items():
                (folder / file).write_text(text, encoding="utf-8")
        _write_parquet(folder / "selection.parquet", selection.table)
        card = dataset_card(selection, train_file=train_file, format_name=name, license_name=license)
        (folder / "README.md").write_text(card, encoding="utf-8")
        manifest = _manifest(
            selection,
            export={
                "format": name,
                "file": train_file,
                "trainer": trainer,
                "markers_cut": cuts.count,
                **({"earlier_answers": earlier} if earlier else {}),
            },
        )
        write_manifest(folder, manifest if made is None else {**manifest, "made": dict(made)})
    return target


class _Written:
    """Counts records as they are written, and those of `messages` with earlier answers of the assistant."""

    def __init__(self) -> None:
        self.rows = self.earlier = 0

    def counted(self, records: Iterator[Record]) -> Iterator[Record]:
        for each in records:
            self.rows += 1
            self.earlier += has_earlier_answer(each)
            yield each


def _of_prompts(
    selection: Selection, pool: Pool | Chosen, *, trainer: str | None, run: Run | None
) -> Selection:
    """Take a selection of answers for one of prompts, where its pool says what an answer is checked against.

    Raises:
        OptionError: The pool does not, or not for every chosen row, or the trainer does not know the check.
    """
    again = "select again with `format='rl'`"
    if not isinstance(pool, Pool):
        raise OptionError(f"`format={RL!r}` needs the pool itself; {again}")
    options = {**selection.options, "format": RL, "trainer": trainer, "reference": None, "source": None}
    try:
        columns = rl.columns_in(Options(budget=1, format=RL, trainer=trainer), pool)
    except OptionError as error:
        raise OptionError(f"{error}; {again}") from error
    checked = {**asdict(columns), "needed": columns.needed}
    found = replace(selection, options=options, facts={**selection.facts, "checked": checked})
    texts, ids = chosen_of(pool, found, run=run), found.chosen
    for column in columns.needed:
        values = np.array(texts.values_of(column, ids), dtype=object)
        without = int((values == np.array(None)).sum())
        if without:
            raise OptionError(
                f"{pool.path}: {without:,} of the {len(ids):,} chosen rows have no {column}, so no answer to them can be checked; {again}"
            )
        if column == columns.source:
            rl.check_sources(values, trainer=trainer, where=f"{pool.path}: {column}")
    tools = sum(each is not None for each in texts.tools(ids))
    if tools:
        raise OptionError(
            f"{pool.path}: {tools:,} of the {len(ids):,} chosen rows need tools, which `format={RL!r}` does not hold; {again}"
        )
    return found


def _check_kind(name: str | None, *, pairs: str | None) -> None:
    """Refuse a format for another kind of rows than a finished selection has, which no export can change.

    Args:
        name: The format that is asked for.
        pairs: The selection's option.

    Raises:
        OptionError: Pairs are asked for and there are none, or there are pairs and something else is asked for.
    """
    if name not in FORMATS or (name == "dpo") == (pairs is not None):
        return
    if pairs is None:
        raise OptionError(
            "`format='dpo'` needs preference pairs, which are made as rows are chosen, and this selection has none; select "
            "again with `pairs='best-worst'` or `pairs='within-model'`"
        )
    raise OptionError(
        f"this selection is of preference pairs, which `format={name!r}` cannot hold; use `format='dpo'`, or select again "
        "without pairs"
    )


def check_export(name: str | None, *, file_type: str, pairs: str | None, trainer: str | None) -> str:
    """Check that the format, file type and trainer fit together, before any work is done.

    Args:
        name: The format's name; None for the default.
        file_type: "jsonl" or "parquet".
        pairs: "best-worst" for preference data, else None.
        trainer: A key of `crowdselect.selection.trainers.TRAINERS`, or None.

    Returns:
        The format's name.

    Raises:
        OptionError: See `crowdselect.selection.formats.check_format`; or an unknown file type.

    Example:
        >>> check_export(None, file_type="jsonl", pairs="best-worst", trainer=None)
        'dpo'
    """
    chosen = name or ("dpo" if pairs else "messages")
    check_format(chosen, pairs=pairs, trainer=trainer)
    if file_type not in FILE_TYPES:
        raise OptionError(f"`file_type={file_type!r}` is unknown; choose one of: {', '.join(FILE_TYPES)}")
    return chosen


def check_texts(
    pool: Pool | Chosen,
    name: str,
    *,
    format: str | None,  # noqa: A002  (the option's name)
    trainer: str | None,
) -> None:
    """Refuse a format or trainer that was asked for where the pool has no texts for a training file.

    Args:
        pool: The pool.
        name: The format, from `check_export`.
        format: The same as it was asked for; None = not at all.
        trainer: A key of `crowdselect.selection.trainers.TRAINERS`, or None.

    Raises:
        InputError: There would be no training file. Without either, the rest of the folder is what is wanted.
    """
    asked = [option for option, given in (("trainer", trainer), ("format", format)) if given is not None]
    if not asked or training_file(pool, name=name, file_type="jsonl", trainer=trainer) is not None:
        return
    wanted = f"`format={format!r}`" if trainer is None else TRAINERS[trainer].title
    raise InputError(
        f"{pool.path}: {absent_texts(has_text=pool.has_text)}, so there is no training file for {wanted}; select from a pool with "
        f"these texts, or leave out {' and '.join(f'`{option}`' for option in asked)} to write selection.parquet and the card alone"
    )


def file_names(
    pool: Pool | Chosen,
    *,
    file_type: str,
    trainer: str | None,
    name: str | None = None,
    custom: bool = False,
) -> list[str]:
    """List the file names of a selection's folder, before it is written.

    Args:
        pool: The pool.
        file_type: "jsonl" or "parquet".
        trainer: A key of `crowdselect.selection.trainers.TRAINERS`, or None.
        name: The format; None = the usual one.
        custom: Whether a reward function of one's own is written.
    """
    names = ["selection.parquet", "README.md", MANIFEST]
    train_file = training_file(pool, name=name, file_type=file_type, trainer=trainer)
    if train_file is not None:
        usual = name or "messages"
        if trainer is not None:
            names += trainer_files(trainer, name=usual, train_file=train_file, digest="", rows=0)
        names += [train_file, *([rl.REWARD_FILE] if custom else [])]
    return names


def training_file(
    pool: Pool | Chosen, *, name: str | None, file_type: str, trainer: str | None
) -> str | None:
    """Name the training file; None where the pool has no texts for it: answers too, but for reinforcement learning."""
    enough = pool.has_text and (pool.has_responses or name == RL)
    return f"train.{file_type_of(file_type, trainer=trainer)}" if enough else None


def training_records(
    selection: Selection,
    pool: Chosen,
    *,
    format: str,  # noqa: A002  (the option's name)
    trainer: str | None = None,
    cuts: MarkerCuts | None = None,
) -> Iterator[Record]:
    """Build the training records, first choice first; only the chosen answers are read.

    Args:
        selection: What was chosen from `pool`.
        pool: The pool.
        format: One of `crowdselect.selection.records.FORMATS`.
        trainer: See `crowdselect.selection.formats.record`.
        cuts: Counts the answers at whose end chat markers were cut.

    Yields:
        One record per chosen row, or per answer where a row may have several.

    Raises:
        InputError: The pool no longer holds a chosen answer.
    """
    rows, cuts = selection.rows(), cuts or MarkerCuts()
    if format == RL:
        yield from _rl_records(selection, pool, rows, trainer=trainer)
        return
    rows = [each for row in rows for each in _answers_of(row)]
    with rejected_in(selection, pool) as others:
        yield from _records(selection, pool, others, rows, format, trainer=trainer, cuts=cuts)


def _records(
    selection: Selection,
    pool: Chosen,
    rejected_pool: Chosen,
    rows: list[dict[str, Any]],
    name: str,
    *,
    trainer: str | None,
    cuts: MarkerCuts,
) -> Iterator[Record]:
    for begin in range(0, len(rows), _BATCH):
        batch = rows[begin : begin + _BATCH]
        chosen, samples = [(row["id"], row["model"]) for row in batch], [row.get("sample") for row in batch]
        prompts, answers = pool.prompts(chosen, samples), _fetch(pool, chosen, samples, cuts)
        paired = selection.options["pairs"] is not None
        rejected: list[str] | list[None] = [None] * len(batch)
        if paired:
            others = [(row["id"], row["rejected_model"]) for row in batch]
            samples = [row.get("rejected_sample") for row in batch]
            rejected = _fetch(rejected_pool, others, samples, cuts)
            _check_prompts(pool, chosen, prompts, rejected_pool.prompts(others, samples))
        tools = pool.tools([row["id"] for row in batch])
        for row, prompt, answer, other, may_call in zip(
            batch, prompts, answers, rejected, tools, strict=True
        ):
            yield record(
                name,
                instruction_id=row["id"],
                prompt=prompt,
                answer=answer,
                rejected=other,
                tools=may_call,
                trainer=trainer,
            )


def _answers_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """A chosen row once for each of its answers."""
    return [{**row, **each} for each in row["answers"]] if row.get("answers") else [row]


def _rl_records(
    selection: Selection, pool: Chosen, rows: list[dict[str, Any]], *, trainer: str | None
) -> Iterator[Record]:
    checked, rate = selection.facts["checked"], selection.options["pass_rate"]
    columns = rl.Columns(checked["reference"], checked["source"], custom=checked["custom"])
    name = rl.PASS_RATE if rate is None else f"{rl.PASS_RATE}:{rate}"
    return rl.records(rows, pool, columns, rate=name, trainer=trainer)


def load_selection(path: str | os.PathLike[str]) -> Selection:
    """Read a selection back from its folder.

    Args:
        path: A folder that `export` wrote.

    Returns:
        The selection.

    Raises:
        InputError: The folder holds no finished selection of crowdselect.

    Example:
        >>> load_selection("no-such-folder")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-folder: not a crowdselect output folder (no manifest.json); pass a folder created by `crowdselect select`
    """
    import pyarrow as pa

    folder = Path(path)
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("kind") != "selection":
        what = f"a crowdselect output folder (no {MANIFEST})" if manifest is None else "a selection"
        raise InputError(f"{path}: not {what}; pass a folder created by `crowdselect select`")
    try:
        return Selection(
            table=read_parquet(folder / "selection.parquet"),
            options=manifest["options"],
            facts=manifest["facts"],
            warnings=tuple(manifest["warnings"]),
            seconds=manifest["seconds"],
        )
    except (OSError, pa.ArrowException, KeyError) as error:
        raise InputError(f"{path}: the selection is damaged ({_cause(error)}); select again") from error


def _cause(error: Exception) -> str:
    return f"{MANIFEST} has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())


def _fetch(
    pool: Chosen, pairs: list[tuple[str, str]], samples: list[float | None], cuts: MarkerCuts
) -> list[str]:
    answers = pool.exported(pairs, samples)
    for (instruction_id, model), answer in zip(pairs, answers, strict=True):
        if answer is None or not answer.strip():
            raise InputError(
                f"{pool.path}: the answer of {model!r} to id {instruction_id!r} is gone; was the pool changed?"
            )
    return [cuts(answer) for answer in answers if answer is not None]


def _check_prompts(pool: Chosen, pairs: list[tuple[str, str]], ours: list[Chat], others: list[Chat]) -> None:
    """Check that both answers of a pair reply to the same messages; otherwise they express no preference."""
    for (instruction_id, model), one, other in zip(pairs, ours, others, strict=True):
        if _but_system(one) != _but_system(other):
            raise InputError(
                f"{pool.path}: the messages before the rejected answer to id {instruction_id!r} are not those before "
                f"that of {model!r}; was the pool changed? select again"
            )


def _but_system(chat: Chat) -> Chat:
    """What was asked: an answer may have a system prompt of its own, and the chosen one's is written."""
    return [turn for turn in chat if turn["role"] != "system"]


def _write_training(path: Path, records: Iterator[Record], *, name: str, trainer: str | None) -> None:
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = record_schema(name, trainer=trainer)
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while batch := list(islice(records, _BATCH)):
                writer.write_table(pa.Table.from_pylist(batch, schema))
        return
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in records)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def _write_parquet(path: Path, table: "pa.Table") -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")


def _manifest(selection: Selection, *, export: dict[str, Any]) -> dict[str, Any]:
    return {
        "tool": TOOL,
        "kind": "selection",
        "version": selection.facts["version"],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "options": dict(selection.options),
        "facts": dict(selection.facts),
        "export": export,
        "counts": selection.counts(),
        "warnings": list(selection.warnings),
        "seconds": {stage: round(seconds, 3) for stage, seconds in selection.seconds.items()},
    }


_FOLDERS = re.compile(r"(?<![\w/])/(?:[^/\s'\"]+/)+(?=[^/\s])")  # of an absolute path: not to be published
_PATHS = ("pool", "include", "exclude", "decontaminate", "student_answers", "examples")


def dataset_card(
    selection: Selection, *, train_file: str | None, format_name: str, license_name: str | None
) -> str:
    r"""Write the card of a selection.

    Args:
        selection: What was chosen.
        train_file: The training file's name; None where there is none.
        format_name: Its format.
        license_name: The licence as the user states it; None = unknown.

    Returns:
        Markdown with a YAML header; if there is a training file, `load_dataset(FOLDER)` reads that file alone.

    Example:
        >>> code("a`b|c")
        '`` a`b\\|c ``'
    """
    facts = selection.facts
    hidden = {"cache"} | ({"embedder", "trust_remote_code"} if facts["embedder"] is None else set())
    chosen = selection.counts()["selected"]
    head: dict[str, Any] = {
        "license": "unknown",
        "tags": ["crowdselect", "instruction-tuning", "data-selection"],
    }
    if train_file is not None:
        head["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": train_file}]}]
    card = "\n".join(
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
            *_quota_table(facts.get("quota")),
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
            f"The licences of the instructions and of the models' answers are those of their sources{_UNLICENSED}",
            "",
        ]
    )
    return card if license_name is None else licensed(card, license_name)


_UNLICENSED = ", unknown here."
_LICENSE = re.compile(r"\A---\n(?:(?!---$).*\n)*?(license: *(.*)\n)", re.MULTILINE)


def license_in(card: str) -> str | None:
    r"""Read which licence a card states in its header; None = none, or "unknown".

    Example:
        >>> license_in("---\nlicense: mit\n---\n"), license_in("---\nlicense: unknown\n---\n")
        ('mit', None)
    """
    found = _LICENSE.match(card)
    name = found[2].strip().strip("\"'") if found else ""
    return None if name in ("", "unknown") else name


def licensed(card: str, name: str) -> str:
    r"""State a licence in a card's header, and in its last section where that names none.

    Args:
        card: What `dataset_card` wrote, perhaps edited since; without a header it gets one.
        name: The licence.

    Example:
        >>> print(licensed("---\nlicense: unknown\n---\n# Mine", "mit"))
        ---
        license: "mit"
        ---
        # Mine
    """
    line, found = f"license: {_yaml(name)}\n", _LICENSE.match(card)
    if found:
        card = card[: found.start(1)] + line + card[found.end(1) :]
    else:
        card = f"---\n{line}" + (card[4:] if card.startswith("---\n") else f"---\n\n{card}")
    return card.replace(_UNLICENSED, f"; the person who made this folder names: {code(name)}.")


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


def _quota_table(quota: Mapping[str, Any] | None) -> list[str]:
    """Write what each stratum was to have and got; nothing without a quota."""
    if quota is None:
        return []
    rows = {
        one["name"]: f"{one['got']} of {one['asked']} asked for, from {one['eligible']} eligible"
        for one in quota["strata"]
    }
    return card_table(f"Rows by {code(quota['column'])}", rows)


def card_table(title: str, values: Mapping[str, Any]) -> list[str]:
    """Write a heading and a Markdown table of two columns: names and values."""
    rows = [f"| {code(key)} | {code(_plain(key, value))} |" for key, value in values.items()]
    return [f"## {title}", "", "| | |", "|---|---|", *rows, ""]


def _plain(key: str, value: object) -> str:
    """Write a value, paths without this machine's folders, which the manifest has."""
    if isinstance(value, list):
        return ", ".join(_plain(key, part) for part in value)
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if key in _PATHS and not is_remote(value):
        return PurePath(value).name
    return _FOLDERS.sub("", value)


def _yaml(value: object) -> str:
    """Write a value as JSON, which is YAML; characters that YAML does not allow become escapes."""
    return "".join(
        c if c.isprintable() else f"\\U{ord(c):08x}" for c in json.dumps(value, ensure_ascii=False)
    )


def code(text: str) -> str:
    """Quote untrusted text literally, so that nothing in it can act as Markdown or HTML.

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
