"""The longest or shortest texts."""

from typing import Literal

from crowdselect.lengths import CHARACTERS, counter
from crowdselect.methods import Direction, check_known, sign
from crowdselect.progress import Progress
from crowdselect.selection.methods import Method, Scored, Seen

Of = Literal["instruction", "answer"]


def by_length(*, of: Of = "instruction", unit: str = CHARACTERS, direction: Direction = "up") -> Method:
    """Choose the longest (or shortest) instructions or answers to train on.

    The paper's baseline Length (appendix B.3); long answers alone are a strong baseline (Zhao et al. 2024, arXiv
    2402.04833). `score` is the length, negative with "down".

    Args:
        of: "instruction" or "answer": the one that `answer` takes.
        unit: "characters", or a tokenizer: a `tokenizer.json`, a folder with one, or a name on the Hub.
        direction: "up" takes the longest, "down" the shortest.

    Raises:
        OptionError: A value is unknown.
    """
    check_known("of", of, Of)
    factor = sign(direction)

    def score(seen: Seen, progress: Progress) -> Scored:
        return Scored(factor * seen.map(counter(unit), of=of, progress=progress))

    return Method(
        name="length",
        arguments={"of": of, "unit": unit, "direction": direction},
        score=score,
        needs=frozenset({of}),
    )
