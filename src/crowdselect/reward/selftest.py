"""Before a long run: does the scorer prefer two clearly good answers to two clearly bad ones?"""

from collections.abc import Callable, Sequence

from crowdselect.pool.prompts import user_turn
from crowdselect.reward.protocol import Item, Outcome

PAIRS = (
    (
        "What is the capital of France?",
        "The capital of France is Paris.",
        "bananas bananas I do not care, go away",
    ),
    (
        "Explain in two sentences why the sky looks blue.",
        "Sunlight holds all colours, and air scatters short blue waves far more than long red ones. So blue reaches us from everywhere.",
        "The sky is green because seven fish fish fish. No.",
    ),
)
"""A question, a clearly good answer and a clearly bad one, two times."""


def built_in_items() -> list[Item]:
    """Give the conversations to score: good and bad in turn."""
    return [
        Item([*user_turn(question), {"role": "assistant", "content": answer}])
        for question, *answers in PAIRS
        for answer in answers
    ]


def self_test(name: str, score: Callable[[Sequence[Item]], list[Outcome]]) -> list[str]:
    """Try a scorer on the built-in conversations.

    Args:
        name: The scorer's column, for messages.
        score: Gives one outcome per item.

    Returns:
        Warnings, one line each; none where both good answers get a higher score than the bad ones.

    Example:
        >>> from crowdselect.reward.protocol import outcome_of
        >>> self_test("length", lambda items: [outcome_of(len(i.messages[-1]["content"])) for i in items])[0][:40]
        'SELF-TEST: length prefers the bad answer'
    """
    outcomes = score(built_in_items())
    found = []
    for at, (question, *_) in enumerate(PAIRS):
        good, bad = outcomes[2 * at : 2 * at + 2]
        if good.score is None or bad.score is None:
            found.append(f"SELF-TEST: {name} gives no score to {question!r}: {good.reason or bad.reason}")
        elif good.score == bad.score:
            found.append(f"SELF-TEST: {name} gives {good.score:.4g} to both answers to {question!r}")
        elif good.score < bad.score:
            found.append(
                f"SELF-TEST: {name} prefers the bad answer to {question!r}: {bad.score:.4g}, to the good one {good.score:.4g}"
            )
    if found:
        found.append(
            "SELF-TEST: such scores choose the wrong answers. It may be: a wrong chat template, another output than the "
            "reward, a number that is lower for better answers, a model that was never trained to score answers or not for "
            "English, an activation that squeezes scores together, or a cut that is too short; `self_test=False` skips this"
        )
    return found
