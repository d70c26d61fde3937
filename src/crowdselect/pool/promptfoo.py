"""The results of promptfoo: rows whose score is none, since the call or the grader failed.

promptfoo writes `score: 0` there, and `error` is no help: where an assertion fails fairly it holds the reason of that. What
tells is `failureReason`, the mark `graderError` of what a grader returned, and, before there was that mark, its message.
"""

from collections.abc import Iterator
from typing import Any

from crowdselect.pool.columns import Columns
from crowdselect.pool.rowfiles import Row

_ERROR = "2"  # of `failureReason`: 0 is none, 1 an assertion
_NO_VERDICT = ("Could not extract JSON from llm-rubric response", "llm-rubric produced malformed response")
"""How promptfoo's own messages begin where it found no verdict in what a grader said."""
_SCORES = ("score", "success", "namedScores")
_GRADED_SCORES = ("score", "pass", "namedScores")  # of `gradingResult`


def is_promptfoo(columns: Columns) -> bool:
    """Say whether rows are results of promptfoo, by their columns."""
    return "score" in columns and not {"failureReason", "gradingResult"}.isdisjoint(columns)


def is_ungraded(row: Row) -> bool:
    """Say whether the score of a row is none.

    Example:
        >>> is_ungraded({"score": 0, "failureReason": 2}), is_ungraded({"score": 0, "failureReason": 1, "error": "Too long"})
        (True, False)
    """
    if str(row.get("failureReason")).removesuffix(".0") == _ERROR:
        return True
    graded = row.get("gradingResult")
    told = [row.get("error"), *(result.get("reason") for result in _results(graded))]
    failed = any(_object(result.get("metadata")).get("graderError") is True for result in _results(graded))
    return failed or any(str(text).startswith(_NO_VERDICT) for text in told)


def without_scores(row: Row) -> Row:
    """A row without what its assertions gave."""
    bare = {name: value for name, value in row.items() if name not in _SCORES}
    graded = bare.get("gradingResult")
    if isinstance(graded, dict):
        bare["gradingResult"] = {n: value for n, value in graded.items() if n not in _GRADED_SCORES}
    return bare


def _results(graded: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  (whatever a file holds)
    """What a grader returned, and of what that was made."""
    if not isinstance(graded, dict):
        return
    yield graded
    for part in graded.get("componentResults") or []:
        yield from _results(part)


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401  (whatever a file holds)
    return value if isinstance(value, dict) else {}
