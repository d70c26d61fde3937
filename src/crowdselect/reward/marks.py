"""Marks of instruction and answer from a chat model, by the judge scorer of `crowdselect reward`."""

from collections.abc import Sequence
from contextlib import ExitStack

from crowdselect.ask.ledger import Ledger
from crowdselect.pool.prompts import Chat
from crowdselect.progress import Progress
from crowdselect.reward.judge import JudgeOptions, JudgeScorer
from crowdselect.reward.judging import Judging
from crowdselect.reward.protocol import Item
from crowdselect.reward.specs import Spec
from crowdselect.selection.reading import Answered

_PER_MARK = 2.0  # the judge scorer says 0 to 10, AlpaGasus 0 to 5


class JudgeMarker:
    """Asks a judge for marks from 0 to 5; what was answered once is never asked again.

    The judge scorer's whole numbers from 0 to 10, halved: steps of a half, as in AlpaGasus.

    Args:
        judging: Which judge, and how.

    Raises:
        OptionError: There is no such judge, or a cap on money cannot be kept.
    """

    def __init__(self, judging: Judging) -> None:
        self._judging = judging
        self._ledger: Ledger | None = None
        path, name = judging.place
        options = JudgeOptions(logprobs=False, max_cost=judging.max_cost, max_requests=judging.max_requests)
        self._scorer = JudgeScorer(
            Spec(f"judge:{judging.spec}", "judge", path, None, name),
            options,
            ledger=self._opened,
            retry_failed=judging.retry_failed,
            client=judging.client,
        )

    def __call__(self, rows: Sequence[Answered], progress: Progress) -> list[float | None]:
        """Ask for the mark of every row.

        Args:
            rows: Instructions with answers.
            progress: Told how many are done.

        Returns:
            The mark of each, from 0 to 5; None where the judge gave none that can be read.

        Raises:
            OptionError: Not all could be asked; what was answered is kept.
            CallError: The judge cannot be asked.
        """
        items = [Item(_chat(row)) for row in rows]
        self._judging.announce(
            self._scorer.endpoint, [request for item in items for request in self._scorer.requests(item)]
        )
        marks: list[float | None] = [None] * len(items)
        done = 0
        with ExitStack() as stack:
            self._ledger = stack.enter_context(self._judging.opened(self._scorer.endpoint))
            for found in self._scorer.score(items):
                for place, outcome in found:
                    marks[place] = None if outcome.score is None else outcome.score / _PER_MARK
                done += len(found)
                progress(done, len(items))
        if done < len(items):
            raise self._judging.unfinished(self._scorer.endpoint, self._scorer.spent or "stopped")
        return marks

    def _opened(self) -> Ledger:
        if self._ledger is None:
            raise RuntimeError("the ledger is open while rows are marked only")
        return self._ledger


def _chat(row: Answered) -> Chat:
    return [*row.prompt, {"role": "assistant", "content": row.answer}]
