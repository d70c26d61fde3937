"""Wait, in the event loop, until an answer is on disk."""

import asyncio
from collections import deque
from contextlib import suppress

from crowdselect.ask.ledger import Ledger
from crowdselect.errors import LedgerError


class Kept:
    """Knows who waits for which answer, and lets them go on commit by commit. Belongs to one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._is_listening = False

    async def wait(self, number: int) -> None:
        """Wait until an answer is on disk.

        Args:
            number: From `Ledger.put`; no smaller than in the calls before.

        Raises:
            LedgerError: It could not be written.
        """
        kept = self._loop.create_future()
        self._waiting.append((number, kept))
        self._listen()
        await kept

    def _listen(self) -> None:
        if self._waiting and not self._is_listening:
            self._is_listening = True
            self._ledger.tell(self._committed)
        self._look()  # also what was committed before the ledger knew that somebody waits

    def _committed(self) -> None:
        """Called from the thread that writes."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._again)

    def _again(self) -> None:
        self._is_listening = False
        self._look()
        self._listen()

    def _look(self) -> None:
        try:
            while self._waiting and self._ledger.is_kept(self._waiting[0][0]):
                _end(self._waiting.popleft()[1])
        except LedgerError as error:
            while self._waiting:
                _end(self._waiting.popleft()[1], error)


def _end(kept: "asyncio.Future[None]", error: LedgerError | None = None) -> None:
    if kept.done():  # who waited was cancelled
        return
    if error is None:
        kept.set_result(None)
    else:
        kept.set_exception(error)
