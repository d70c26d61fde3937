"""Simulated instructions and answers as text: frames filled with a topic's words, thousands at once.

pyarrow's arrays are typed `Any` here: pyarrow ships no types.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from string import Formatter
from typing import Any

import numpy as np

from crowdselect.simulate import words
from crowdselect.simulate.draws import Block, Plan
from crowdselect.simulate.words import PARAGRAPHS
from crowdselect.types import IntArray


@dataclass(frozen=True, slots=True)
class _Frames:
    """Sentence frames, cut at their slots, so that thousands are filled in at once."""

    gaps: list[Any]  # S + 1 pyarrow arrays of F strings: the text before, between and after the slots
    order: IntArray  # (F, S): which slot stands at each place

    @classmethod
    def of(cls, frames: Sequence[str], slots: str) -> "_Frames":
        import pyarrow as pa

        cut = [[*Formatter().parse(frame + "{end}")] for frame in frames]
        gaps = [pa.array([pieces[gap][0] for pieces in cut], pa.string()) for gap in range(len(slots) + 1)]
        order = [[slots.index(piece[1] or "") for piece in pieces[:-1]] for pieces in cut]
        return cls(gaps, np.array(order))

    def fill(self, vocabulary: Any, frame: IntArray, slots: IntArray) -> Any:  # noqa: ANN401  (pyarrow has no types)
        """Shape (n,) strings from the frames' numbers (n,) and the vocabulary's numbers (n, S)."""
        import pyarrow.compute as pc

        placed = np.take_along_axis(slots, self.order[frame], axis=1)
        pieces = [self.gaps[0].take(frame)]
        for place, gap in enumerate(self.gaps[1:]):
            pieces += [vocabulary.take(placed[:, place]), gap.take(frame)]
        return pc.binary_join_element_wise(*pieces, "")


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[Any, dict[str, int]]:
    """All words that fill slots, in one pyarrow array, and where each kind begins in it."""
    import pyarrow as pa

    kinds: dict[str, Sequence[str]] = {
        "thing": [thing for things, _ in words.VOCABULARIES.values() for thing in things],
        "place": [place for _, places in words.VOCABULARIES.values() for place in places],
        "reader": words.READERS,
        "demand": words.DEMANDS,
        "number": [str(number) for number in range(40, 405, 5)],
    }
    starts: dict[str, int] = {}
    joined: list[str] = []
    for kind, found in kinds.items():
        starts[kind] = len(joined)
        joined += found
    return pa.array(joined, pa.string()), starts


def instructions_text(block: Block) -> Any:  # noqa: ANN401  (a pyarrow array)
    """The block's instructions, n strings of two or three sentences each."""
    import pyarrow as pa
    import pyarrow.compute as pc

    vocabulary, at = _vocabulary()
    slots, topic, copy = block.latent["slots"], block.latent["topic"], block.latent["copy"]
    things, places = (len(found) for found in next(iter(words.VOCABULARIES.values())))
    first = slots[:, 1] % things
    second = (first + 1 + slots[:, 2] % (things - 1)) % things
    place = at["place"] + topic * places + slots[:, 3] % places
    subject = np.column_stack(
        (at["thing"] + topic * things + first, at["thing"] + topic * things + second, place)
    )
    task = np.where(
        block.latent["ill_posed"],
        len(words.TASKS) + slots[:, 0] % len(words.ILL_POSED_TASKS),
        slots[:, 0] % len(words.TASKS),
    )
    manner = np.column_stack(
        [
            at[kind] + slots[:, column] % size
            for kind, column, size in (
                ("reader", 5, len(words.READERS)),
                ("number", 6, len(vocabulary) - at["number"]),
                ("demand", 7, len(words.DEMANDS)),
            )
        ]
    )
    tasks = _Frames.of((*words.TASKS, *words.ILL_POSED_TASKS), "abc").fill(vocabulary, task, subject)
    manners = _Frames.of(words.MANNERS, "dne").fill(vocabulary, slots[:, 4] % len(words.MANNERS), manner)
    before = pa.array(["", "", "", "", "Please help me. "]).take(copy)
    between = pa.array([" ", " ", "  ", " ", " "]).take(copy)
    after = pa.array(["", "", "", " Thank you.", ""]).take(copy)
    return pc.binary_join_element_wise(before, tasks, between, manners, after, "")


@lru_cache(maxsize=2)
def _paragraphs(characters: int) -> Any:  # noqa: ANN401  (a pyarrow array)
    """`PARAGRAPHS` paragraphs per topic, topics one after the other, of about so many characters."""
    import pyarrow as pa

    made = []
    for number, (things, places) in enumerate(words.VOCABULARIES.values()):
        chance = np.random.default_rng(number)  # the same paragraphs for every seed
        for _ in range(PARAGRAPHS):
            sentences: list[str] = []
            while sum(map(len, sentences)) + 40 < characters:
                a, b = chance.choice(len(things), 2, replace=False)
                frame = words.ANSWER_SENTENCES[chance.integers(len(words.ANSWER_SENTENCES))]
                sentences.append(
                    frame.format(a=things[a], b=things[b], c=places[chance.integers(len(places))])
                )
            made.append(" ".join(sentences))
    return pa.array(made, pa.string())


def answers_text(plan: Plan, block: Block, model: int, sample: int) -> Any:  # noqa: ANN401  (a pyarrow array)
    """One model's answers to the block, "" where it gave an empty one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if block.paragraphs is None:
        return pa.nulls(len(block.rewards), pa.string())
    vocabulary, at = _vocabulary()
    topic = block.latent["topic"]
    things = len(next(iter(words.VOCABULARIES.values()))[0])
    subject = vocabulary.take(at["thing"] + topic * things + block.latent["slots"][:, 1] % things)
    head = f"[simulated answer of {plan.crowd.names[model]}] About "
    count = block.paragraphs.shape[-1]
    rest = max(0, plan.answer_chars - len(head) - 20)
    bank = _paragraphs(rest // count)
    chosen = np.maximum(block.paragraphs[:, model, sample], 0) + PARAGRAPHS * topic[:, None]
    body = [bank.take(chosen[:, place]) for place in range(count)]
    text = pc.binary_join_element_wise(pc.binary_join_element_wise(head, subject, ":", ""), *body, " ")
    return pc.if_else(pa.array(block.paragraphs[:, model, sample, 0] < 0), "", text)
