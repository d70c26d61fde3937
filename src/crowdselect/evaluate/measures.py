"""Every kind of result that `evaluate` writes and `evaluate compare` lays side by side."""

from collections.abc import Mapping
from dataclasses import dataclass

from crowdselect.evaluate.protocols import PROTOCOLS


@dataclass(frozen=True, slots=True)
class Measure:
    """One kind of result."""

    title: str
    """For people."""
    scale: float = 1.0
    """By which the cells' means are multiplied to give the score."""
    unit: str = ""
    """Of the score."""
    of: str = "questions"
    """What is scored one by one, resampled and paired."""


LOSS = Measure("Loss", unit="nats per answer token; lower is better", of="instructions")
PREFERS = Measure("Preferences", scale=100.0, unit="% of instructions", of="instructions")
HARNESS = Measure("lm-evaluation-harness", unit="first metric of each task", of="documents")

MEASURES: Mapping[str, Measure] = {
    **{
        key: Measure(protocol.title, 100.0 if protocol.pairwise else 1.0, protocol.unit)
        for key, protocol in PROTOCOLS.items()
    },
    "loss": LOSS,
    "prefers": PREFERS,
    "harness": HARNESS,
}
"""Name, as in a result's manifest → measure."""
