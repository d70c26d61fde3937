"""How far a run goes, and how far it has come."""

from dataclasses import dataclass, field

from crowdselect.ask.calls import ANSWERED, Status


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a run goes.

    Attributes:
        max_cost: Money, over all runs on the ledger; None = no cap.
        max_requests: Requests sent, retries included, over all runs on the ledger; None = no cap.
        attempts: How often one request is sent before it is given up; refusals (429, 503) count a quarter.
        wait: Seconds before the first retry; later ones wait twice as long each time, up to 64 times.
        patience: Seconds that an endpoint may give no answer at all before the run goes on without it.
        grace: Seconds that answers in flight are waited for after Ctrl-C.
        retry_failed: Ask again what has failed before.
    """

    max_cost: float | None = None
    max_requests: int | None = None
    attempts: int = 5
    wait: float = 1.0
    patience: float = 600.0
    grace: float = 1.5
    retry_failed: bool = False


@dataclass(slots=True)
class Counts:
    """What a lane has done so far in this run."""

    known: int = 0
    """Found in the ledger."""
    ended: dict[Status, int] = field(default_factory=dict)
    sent: int = 0
    in_flight: int = 0
    tokens: int = 0
    """In the answers."""
    cost: float = 0.0
    cost_unknown: int = 0

    @property
    def done(self) -> int:
        """Requests that need no more asking."""
        return self.known + sum(self.ended.values())

    @property
    def failed(self) -> int:
        """Requests of this run that ended without an answer."""
        return sum(n for status, n in self.ended.items() if status not in ANSWERED)
