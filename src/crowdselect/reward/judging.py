"""How a baseline asks a judge: which one, how far, where its answers are kept, and what is said before it is asked."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crowdselect.ask.ask import Opener, looked_into
from crowdselect.ask.calls import Request
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.limits import Limits
from crowdselect.ask.renamed import names_in, take_over
from crowdselect.errors import OptionError

_CHARACTERS = 4  # of a token, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """Which judge is asked, and how.

    Attributes:
        spec: `FILE#NAME`: a crowd file, and the name of one of its [[judge]] tables.
        ledger: Where the answers are kept; what stands there is not asked again.
        max_cost: Money, over all runs on the ledger; None = no cap.
        max_requests: Requests, likewise.
        retry_failed: Ask again what has failed before.
        tell: Given one line, with what is to be asked, before anything is; None = nobody.
        client: Makes the client; None = over HTTP or local, as the file says.

    Raises:
        OptionError: `spec` is not of that form.
    """

    spec: str
    ledger: Path
    max_cost: float | None = None
    max_requests: int | None = None
    retry_failed: bool = False
    tell: Callable[[str], None] | None = None
    client: Opener | None = None

    def __post_init__(self) -> None:
        if not all(self.place):
            raise OptionError(f"judge {self.spec!r} is not of the form FILE.toml#NAME")

    @property
    def place(self) -> tuple[str, str]:
        """The file, and the name of the judge."""
        path, _, name = self.spec.rpartition("#")
        return path, name

    @property
    def limits(self) -> Limits:
        """How far to go."""
        return Limits(max_cost=self.max_cost, max_requests=self.max_requests, retry_failed=self.retry_failed)

    @contextmanager
    def opened(self, endpoint: Endpoint) -> Iterator[Ledger]:
        """Open the ledger, in which the judge has its answers even if it had another name before."""
        with Ledger(self.ledger) as ledger:
            take_over(ledger, [endpoint], present=names_in(self.place[0]))  # `announce` has said so
            yield ledger

    def announce(self, endpoint: Endpoint, requests: Sequence[Request]) -> None:
        """Say how many requests are to come, and the most that they cost; nothing is sent, and no ledger is made.

        Args:
            endpoint: The judge.
            requests: All that there are; those in the ledger are not counted.
        """
        if self.tell is None:
            return
        with looked_into(self.ledger, [endpoint], present=names_in(self.place[0])) as (ledger, renamed):
            before = renamed.before(endpoint)
            waiting = {request.key(before): request for request in requests}
            different = len(waiting)
            if ledger is not None:
                for key in ledger.known(list(waiting), retry_failed=self.retry_failed):
                    del waiting[key]
        for line in renamed.notes.values():
            self.tell(line)
        tokens = sum(len(request.prompt) for request in waiting.values()) / _CHARACTERS
        most = endpoint.most_tokens
        money = endpoint.cost(tokens, None if most is None else most * len(waiting))
        price = "money unknown" if money is None else f"about {money:.4g} of money at most"
        told = f"{len(waiting)} of {different} requests are still to be asked"
        self.tell(f"{endpoint.name} at {endpoint.host}: {told}, {price}; answers are kept in {self.ledger}")

    def unfinished(self, endpoint: Endpoint, why: str) -> OptionError:
        """Make the error for a run that could not ask everything."""
        return OptionError(
            f"{endpoint.name}: not all could be asked: {why}; what was answered is kept in {self.ledger}, "
            "so the same command goes on from there"
        )
