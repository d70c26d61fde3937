"""A client that answers from a function: for tests, and for trying a run without a server."""

import asyncio
from collections.abc import Callable

from crowdselect.ask.calls import Reply, Request


class ScriptedClient:
    """Answers with what a function returns; what it raises is raised.

    Args:
        answer: From a request to a reply, or to the text of one. A `CallError` that it raises is treated as
            a server's error.
        latency: Seconds that every answer takes.

    Attributes:
        asked: Every request, in the order in which they came.
        peak: The most that were asked at once.
    """

    def __init__(self, answer: Callable[[Request], Reply | str], *, latency: float = 0.0) -> None:
        self._answer = answer
        self._latency = latency
        self.asked: list[Request] = []
        self.open = 0
        self.peak = 0

    async def ask(self, request: Request) -> Reply:
        """Give the scripted answer."""
        self.asked.append(request)
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await asyncio.sleep(self._latency)
            found = self._answer(request)
        finally:
            self.open -= 1
        return found if isinstance(found, Reply) else Reply(found, "stop")

    async def close(self) -> None:
        """Nothing to let go of."""
