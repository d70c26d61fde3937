"""The three files of a benchmark that FastChat's `llm_judge` ran, none of which is a pool alone: what to do with each.

They are question.jsonl (question_id, turns), model_answer/MODEL.jsonl (question_id, model_id, choices with turns) and
model_judgment/JUDGE_single.jsonl (question_id, model, judge, user_prompt, judgment, score, turn).
"""

import os.path
import shlex
from pathlib import Path

from crowdselect.errors import LayoutError
from crowdselect.pool.columns import Columns, Kind, quote
from crowdselect.pool.howread import HowRead
from crowdselect.pool.parts import Names

_ANSWERS = frozenset({"question_id", "model_id", "choices"})
_OF_QUESTIONS = frozenset({"turns", "reference"})
_JUDGMENTS = frozenset({"question_id", "model", "judge", "user_prompt", "judgment", "score", "turn"})
_JOIN = (
    "SELECT q.question_id AS id, q.* EXCLUDE (question_id, turns), q.turns[1] AS instruction, a.model_id AS model, "
    "a.choices[1].turns[1] AS response, j.score FROM {questions} q JOIN {answers} a USING (question_id) LEFT JOIN "
    "(SELECT question_id, model, avg(nullif(score, -1)) AS score FROM {judgments} WHERE turn = 1 GROUP BY ALL) j "
    "ON j.question_id = q.question_id AND j.model = a.model_id"
)


def refuse_fastchat(columns: Columns, names: Names, how: HowRead, *, path: str) -> None:
    """Refuse a file of FastChat's, with the line that joins it with the two others.

    Args:
        columns: Of the file.
        names: From `names_of`.
        how: Questions whose columns or model are named are left alone.
        path: The file, or a folder of it.

    Raises:
        LayoutError: It is one.
    """
    what = _part(columns)
    more = any(kind.name in {"list", "struct"} for name, kind in columns.items() if name not in _OF_QUESTIONS)
    if what is None or (
        what == "questions" and (names.model or how.model or how.named or names.asked or more)
    ):
        return
    root = _root(path)
    judged = sorted((root / "model_judgment").glob("*_single.jsonl"))
    files = {
        "questions": root / "question.jsonl",
        "answers": root / "model_answer" / "*.jsonl",
        "judgments": judged[0] if judged else root / "model_judgment" / "gpt-4_single.jsonl",
    }
    if what == "judgments" and Path(path).is_file():
        files[what] = Path(path)
    names_ = {part: file.as_posix() for part, file in files.items()}
    others = " and ".join(f"its {part} {names_[part]}" for part in files if part != what)
    join = _JOIN.format_map({part: quote(name) for part, name in names_.items()})
    code = f'import duckdb; duckdb.sql("""{join}""").write_parquet("pool.parquet")'
    raise LayoutError(
        f"{path}: these are the {what} of a benchmark that FastChat ran; to it belong {others}; this line joins the three "
        f"to a pool of the first turns (turn 2 is left out, a score of -1 is missing): python -c {shlex.quote(code)}"
    )


def _part(columns: Columns) -> str | None:
    """Which of the files has these columns."""
    if columns.keys() >= _JUDGMENTS:
        return "judgments"
    choices = columns.get("choices", Kind("other")).item
    if columns.keys() >= _ANSWERS and choices is not None and _are_texts(choices.fields.get("turns")):
        return "answers"
    return "questions" if "question_id" in columns and _are_texts(columns.get("turns")) else None


def _are_texts(kind: Kind | None) -> bool:
    return kind is not None and kind.item is not None and kind.item.name == "text"


def _root(path: str) -> Path:
    """The folder of the three files, as seen from one of them or its folder; where it is not there, FOLDER."""
    above = (Path(os.path.normpath(os.path.join(path, *[".."] * up))) for up in range(3))  # noqa: PTH118  (`.` has no parent)
    return next((folder for folder in above if (folder / "question.jsonl").is_file()), Path("FOLDER"))
