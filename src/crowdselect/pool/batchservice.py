"""The files of a batch service, in OpenAI's form: what came back, in a row with what was asked or joined with it by custom_id.

A request is {custom_id, method, url, body: {model, messages}}; what came back is {custom_id, response: {body: {model,
choices}}, error}, in the output or, of requests that failed, in a file of errors.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crowdselect.errors import LayoutError
from crowdselect.pool.columns import Columns
from crowdselect.pool.howread import HowRead
from crowdselect.pool.inner import path_to
from crowdselect.pool.parts import Names
from crowdselect.pool.rowfiles import Broken, Row, rows_of
from crowdselect.pool.rowforms import Answer, Fitted, text_of

_OWN = frozenset({"id", "custom_id", "response", "error", "request", "method", "url", "body", "model"})
"""What a row of the service may have, or one that was joined with its request."""
_ASKED = ("messages", "prompt", "input", "tools")
"""What is asked in the body of a request; other models may be asked the same in other settings."""
_FIRST_ERROR = 400  # of the codes of HTTP
_TOGETHER = (
    "at once: a folder that holds nothing else, or a glob that matches both (such as 'FOLDER/*.jsonl')"
)


def is_batch(columns: Columns) -> bool:
    """Say whether rows are answers of a batch service, each inside the record of its request."""
    return "custom_id" in columns and "response" in columns and "body" in columns["response"].fields


def is_requests(columns: Columns) -> bool:
    """Say whether rows are what a batch service is sent: they name a model, and hold no answer."""
    return {"custom_id", "method", "url", "body"} <= set(columns) and "response" not in columns


def is_of_service(file: Path) -> bool:
    """Say whether a JSON file is one of a batch service, by its first row."""
    first = next((row for _, row in rows_of(file, "json")), None)
    return isinstance(first, dict) and "custom_id" in first


def asked_in(columns: Columns) -> dict[str, str]:
    """Say where the requests are beside what came back, as `columns` takes it; the ids of these are no instruction's."""
    found = {"id": ""}
    for what, field in (("messages", "messages"), ("instruction", "prompt"), ("tools", "tools")):
        places = (f"{sent}.{field}" for sent in ("request", "request.body", "body"))
        place = next((place for place in places if path_to(columns, place) is not None), None)
        found |= {} if place is None else {what: place}
    return found


def refuse_batch(columns: Columns, names: Names, how: HowRead, *, path: str) -> None:
    """Refuse files of a batch service of which a part is missing, or whose answers are of another kind, and say what to do.

    Args:
        columns: Of the files.
        names: From `names_of`.
        how: Where it names the answers, they are left alone.
        path: For messages.

    Raises:
        LayoutError: They are such files.
    """
    if is_requests(columns) and names.response is None:
        raise LayoutError(
            f"{path}: these are the requests that a batch service was sent, which hold no answers; open its output and them "
            f"{_TOGETHER}"
        )
    if not is_batch(columns) or "response" in how.named:
        return
    came = columns["response"].fields["body"].fields
    if not names.asked and not {"body", "request"} & set(columns):
        raise LayoutError(
            f"{path}: this is the output of a batch service, which does not hold what was asked; open it and the file of requests "
            f"{_TOGETHER}"
        )
    if set(came) <= {"error"}:
        raise LayoutError(
            f"{path}: of this batch service there are only requests that failed, and no answers; open its output, too, "
            f"{_TOGETHER}"
        )
    if not names.asked or "choices" not in came:
        line = "instruction=body.input,model=response.body.model,response=response.body.output"
        named = f"; answers of /v1/responses are read with `columns='{line}'`" if "output" in came else ""
        raise LayoutError(
            f"{path}: of a batch service, chat and text completions are read: messages or a prompt in the request, and choices in "
            f"response.body; found {', '.join(came)} there{named}"
        )


def fit_batch(columns: Columns, names: Names, how: HowRead) -> Fitted | None:
    """Recognise the output of a batch service beside its requests."""
    if not is_batch(columns) or not names.asked or "choices" not in columns["response"].fields["body"].fields:
        return None

    def model_of(row: Row) -> str | None:
        sent = _object(row.get("request"))
        asked = (_came(row), sent, _object(sent.get("body")), _object(row.get("body")))
        return text_of(next((found["model"] for found in asked if found.get("model")), how.model))

    def parted(row: Row) -> list[Row]:
        """The row, unless it says no more than that a request failed."""
        return [] if _has_failed(row) and (model_of(row) is None or not _holds_more(row)) else [row]

    def answers(row: Row) -> Iterator[Answer]:
        choices = list(map(_object, _came(row).get("choices") or [{}]))  # none where the request failed
        for at, choice in enumerate(choices):
            sample, finish = float(at) if len(choices) > 1 else None, choice.get("finish_reason")
            yield Answer(
                model_of(row), choice.get("message", choice.get("text")), sample, finish_reason=finish
            )

    says = "answers of a batch service in response.body"
    taken = frozenset({"method", "url", "request", "body", "response"} & set(columns))
    return Fitted(
        name="batch", says=says, answers=answers, names=names.without_answer(), taken=taken, parted=parted
    )


class Requests:
    """The requests among the files of a batch service, all of them in memory, for what came back."""

    def __init__(self, files: Iterable[Path]) -> None:
        self._sent: dict[str, list[Mapping[str, Any]]] = {}
        self._answered: Counter[str] = Counter()
        self.count = 0
        """How many requests there are."""
        self.others: dict[str, str] = {}
        """Models that answered → a model that was asked under the same custom_id, where their names have nothing in common."""
        errors = 0
        for row in (row for file in files for _, row in rows_of(file, "json")):
            if isinstance(row, Broken) or "custom_id" not in row:
                continue
            if _is_request(row):
                self._sent.setdefault(str(row["custom_id"]), []).append(_object(row["body"]))
                self.count += 1
            elif _has_failed(row):
                errors += 1
            else:
                self._answered[str(row["custom_id"])] += 1
        self.unanswered = max(self.count - errors - self._answered.total(), 0)
        """Of how many requests neither an answer nor an error is there."""

    @property
    def notes(self) -> list[str]:
        """What there is to say once the rows were joined."""
        lacking = f"{self.unanswered} requests have neither an answer nor an error in these files"
        odd = "; ".join(f"{other} answered what {model} was asked" for other, model in self.others.items())
        return [
            *([lacking] if self.unanswered and self.count else []),
            *([f"{odd}: see that requests and output are of the same batch"] if odd else []),
        ]

    def joined(self, rows: Iterable[tuple[int, Row | Broken]]) -> Iterator[tuple[int, Row | Broken]]:
        """Give what came back, each row with the `body` of its request; the requests and the service's own lists of batches are left out."""
        for at, row in rows:
            if isinstance(row, Broken):
                yield at, row
            elif not _is_request(row) and row.get("object") != "batch":
                yield at, self._with_body(row)

    def _with_body(self, row: Row) -> Row | Broken:
        if "body" in row or "request" in row or (_has_failed(row) and not _holds_more(row)):
            return row
        if row.get("custom_id") is None:
            return Broken("has no custom_id, by which requests and output of a batch service are joined")
        sent = self._sent.get(str(row["custom_id"]), [])
        if not sent:
            return Broken(f"has the custom_id {row['custom_id']!r}, which no request in these files has")
        if self._answered[str(row["custom_id"])] > len(sent):
            return Broken(
                f"has the custom_id {row['custom_id']!r}, under which there are more answers than requests; open the requests of "
                "every batch, and no output twice"
            )
        if not _alike(sent):
            sent = [body for body in sent if body.get("model") == _came(row).get("model")]
        if not sent or not _alike(sent):
            return Broken(
                f"has the custom_id {row['custom_id']!r}, under which several requests ask different things; open each batch alone, "
                "its requests and its output, or make its custom_ids others than those of the other batches in both files"
            )
        models = [str(model) for body in sent if (model := body.get("model"))]
        self._compare(str(_came(row).get("model") or ""), models)
        return {**row, "body": {**sent[0], "model": models[0] if len(set(models)) == 1 else None}}

    def _compare(self, answered: str, asked: Sequence[str]) -> None:
        """Take note of a model that answers under a name which none has that was asked, nor a longer or shorter form of one."""
        own = answered.casefold()
        if own and asked and not any(own in each.casefold() or each.casefold() in own for each in asked):
            self.others.setdefault(answered, asked[0])


def _is_request(row: Row) -> bool:
    return "body" in row and "response" not in row


def _alike(sent: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all of some requests ask the same."""
    return all(body.get(name) == sent[0].get(name) for body in sent for name in _ASKED)


def _came(row: Row) -> Mapping[str, Any]:
    """The body of what came back; an empty one where there is none."""
    return _object(_object(row.get("response")).get("body"))


def _has_failed(row: Row) -> bool:
    """Whether a request has no answer, but an error: its status says so, or what came back, which may be nothing."""
    came, status = _came(row), _object(row.get("response")).get("status_code")
    refused = isinstance(status, int | float) and status >= _FIRST_ERROR
    return not came.get("choices") and (refused or not came or came.get("error") is not None)


def _holds_more(row: Row) -> bool:
    """Whether a row holds something that is not the service's own, such as a score."""
    return any(value is not None and name.split(".")[0] not in _OWN for name, value in row.items())


def _object(value: Any) -> Mapping[str, Any]:  # noqa: ANN401  (whatever a file holds)
    """An object; an empty one where there is none."""
    return value if isinstance(value, dict) else {}
