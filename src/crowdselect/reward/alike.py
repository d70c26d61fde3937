"""Looks at a scorer's first scores: when they are all the same, they say nothing."""

from dataclasses import dataclass, field

from crowdselect.errors import CrowdselectError
from crowdselect.reward.protocol import Item, Outcome

STOPPED_AT = dict.fromkeys(("hf", "http"), 20)
"""After so many different answers with one score the run stops, by kind of scorer."""
WARNED_AT = {"judge": 50}
"""After so many the user is warned."""


@dataclass(slots=True)
class Alike:
    """Looks whether the first scores of different answers are all the same: then they say nothing.

    Attributes:
        name: The column, for messages.
        most: How many answers are looked at; 0 = none.
        stops: Whether the run ends; else the user is warned.
    """

    name: str
    most: int
    stops: bool
    _texts: set[str] = field(default_factory=set)
    _score: float | None = None

    @classmethod
    def of(cls, name: str, kind: str, *, keep_going: bool) -> "Alike":
        """Return what is looked at for one kind of scorer; `keep_going` turns a stop into nothing."""
        stops = kind in STOPPED_AT
        most = STOPPED_AT.get(kind, WARNED_AT.get(kind, 0))
        return cls(name, 0 if stops and keep_going else most, stops)

    def add(self, item: Item, outcome: Outcome) -> None:
        """Look at one more score.

        Raises:
            CrowdselectError: It is the last of so many that are all the same.
        """
        if not self.most or outcome.score is None:
            return
        if self._score is None:
            self._score = outcome.score
        if outcome.score != self._score:
            self.most = 0
            return
        self._texts.add(item.messages[-1]["content"])
        if len(self._texts) >= self.most:
            self._tell()

    def _tell(self) -> None:
        from crowdselect.terminal import warn

        most, self.most = self.most, 0
        line = f"{self.name}: the first {most} different answers all have the score {self._score:g}, which tells nothing"
        if not self.stops:
            warn(f"{line} about them; look at the prompt and at the judge's replies")
            return
        raise CrowdselectError(
            f"{line} about them: the model may have no trained head, or the server an activation that makes all scores one; "
            "`keep_going=True` scores on"
        )
