"""`verify:NAME#COLUMN`: answers checked against the pool's right answers; 1, 0, or the reason why there is neither."""

import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from crowdselect.errors import InputError, near_miss
from crowdselect.pool.prompts import chat_text
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored
from crowdselect.reward.specs import Spec
from crowdselect.verify.processes import SECONDS, Checkers
from crowdselect.verify.verifiers import RULES, VERIFIERS, Task, Verdict, is_doubtful

_PACKAGES = {"math_verify": ("math-verify", "latex2sympy2_extended", "sympy")}
"""Optional package of a verifier → the distributions whose versions decide its verdicts."""


class VerifyScorer(BaseScorer):
    """Checks answers in processes of their own, each within a time limit.

    Args:
        spec: The scorer as the user named it.
        extract: Where the final answer is; None = the usual places.
        processes: The most processes; None = one per processor.

    Raises:
        OptionError: `extract` is no regular expression.
        MissingExtraError: The verifier needs a package that is not installed.
    """

    def __init__(self, spec: Spec, extract: str | None = None, *, processes: int | None = None) -> None:
        self._name = spec.target
        self._checkers = Checkers(spec.target, extract, processes=processes)
        self._refusals: dict[tuple[str | None, str], str | None] = {}
        self._doubts: dict[tuple[str | None, str], bool] = {}
        packages = _PACKAGES.get(VERIFIERS[spec.target].needs or "", ())
        settings = {
            "kind": "verify",
            "verifier": spec.target,
            "column": spec.part,
            "extract": extract,
            "seconds": SECONDS,
            "rules": RULES,
            **{name: version(name) for name in packages},
        }
        super().__init__(spec.text, settings)

    def identity(self, item: Item) -> str:
        """Return answer and reference, and the question where it counts; see `Scorer.identity`."""
        verifier = VERIFIERS[self._name]
        if verifier.doubts is not None:
            key = _task(self._name, item)[1:]
            if key not in self._doubts:
                self._doubts[key] = is_doubtful(verifier, *key)
        return checked_text(self._name, item)

    def refusals(self, items: Sequence[Item]) -> Sequence[str | None]:
        """Say which references cannot be checked; each is looked at once."""
        keys = [_task(self._name, item)[1:] for item in items]
        new = list(dict.fromkeys(key for key in keys if key not in self._refusals))
        for at, verdict in self._checkers.verdicts([Task(None, *key) for key in new]):
            self._refusals[new[at]] = verdict.reason
        return [self._refusals[key] for key in keys]

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Check answers, a batch after the other; see `Scorer.score`."""
        for at, verdict in self._checkers.verdicts([_task(self._name, item) for item in items]):
            yield [(at, _outcome(verdict))]

    def close(self) -> None:
        """End the processes; a note says of how many references answers are compared otherwise than one may think."""
        self._checkers.close()
        count = sum(self._doubts.values())
        if count:
            self.notes = [f"{count:,} of {len(self._doubts):,} references {VERIFIERS[self._name].doubt}"]


def checked_text(name: str, item: Item) -> str:
    """Return all that a verifier's verdict depends on: answer and reference, and the question where it counts."""
    return json.dumps(_task(name, item), ensure_ascii=False)


def check_column(name: str, columns: Sequence[str], *, path: str) -> None:
    """Refuse a column of right answers that is not there.

    Raises:
        InputError: There is no such column.
    """
    if name not in columns:
        raise InputError(
            f"{path}: no column {name!r} of right answers; found {', '.join(columns)}{near_miss(name, columns)}"
        )


def _task(name: str, item: Item) -> Task:
    question = chat_text(item.messages[:-1]) if VERIFIERS[name].reads_question else None
    return Task(item.messages[-1]["content"], item.reference, question or "")


def _outcome(verdict: Verdict) -> Outcome:
    return Outcome(score=verdict.score, reason=verdict.reason, passing=verdict.passing)
