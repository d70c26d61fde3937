"""Reading verdicts: the last line that has the asked form decides, after the reasoning; what is unclear is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect.reward.verdicts import LABELS, read_label, read_number

READ = [
    ("Score: 8", 8),
    ("Score\uff1a8", 8),
    ("Score = 8", 8),
    ("[[8]]", 8),
    ("8/10", 8),
    ("**8**", 8),
    ('{"score": 8}', 8),
    ("\\boxed{8}", 8),
    ("\\boxed{8/10}", 8),
    ("**Final Score** - 8/10", 8),
    ("Score: 8 out of 10.", 8),
    ("Score: **8**/10", 8),
    ("Score (0-10): 8", 8),
    ("Score: 8 (out of 10)", 8),
    ("Score: [8]", 8),
    ("Score:\n\n**8**", 8),
    ("### Score\n8", 8),
    ("Score: 8 - good", 8),
    ("Score: 8. It names 3 of 4.", 8),
    ("It names 3 of 4. Rating: [[8]]", 8),
    ('```json\n{"score": 8, "reason": "3 of 4"}\n```', 8),
    ('{"reason": "3 of 4", "score": "8"}', 8),
    ("Score: 2. No, that was wrong.\nScore: 8", 8),
    ("Score: 8\n\nReasons: 9 of 10 are right.", 8),
    ("Score: 8 and again Score: 8", 8),
    ("Rating scale: 1-10\nRating: 8", 8),
    ("<think>Score: 3?</think>\nScore: 8", 8),
    ("Hm, Score: 3.\n</think>\nScore: 8", 8),
    ("<think>a</think> Score: 3 <think>no</think> Score: 8", 8),
]
MISSING = [
    ("Score: 7-8", "a range or several numbers"),
    ("Score: 7 \u2013 8", "a range or several numbers"),
    ("Score: 7 to 8", "a range or several numbers"),
    ("Score: between 7 and 8", "a range or several numbers"),
    ("Score: 8 or 7", "a range or several numbers"),
    ("[[7-8]]", "a range or several numbers"),
    ("\\boxed{7 or 8}", "a range or several numbers"),
    ("Score: eight", "no number: 'Score: eight'"),
    ("[[eight]]", "no number"),
    ('{"score": "good"}', "no number"),
    ("Score: 3\nScore: none", "no number: 'Score: none'"),
    ("Score: 3, no, Score: 8", "the judge gives 2 verdicts: 3, 8"),
    ("[[3]] [[8]]", "the judge gives 2 verdicts: 3, 8"),
    ("Score: N, where N is a whole number from 0 to 10.", "a range or several numbers"),
    ("Scale: Score: 0 is worst, Score: 10 is best.\nMy score is 6.", "an echo of the scale"),
    ("Score: 10 is best", "an echo of the scale"),
    ("Score: 0 - nothing of use\nScore: 10 - perfect", "an echo of the scale"),
    ("Score: 80/100", "a number of another scale"),
    ("Score: 80%", "a number of another scale"),
    ("Score: 11", "outside 0 to 10"),
    ("Score: -1", "outside 0 to 10"),
    ("<think>Score: 8", "an unfinished <think>"),
    ("Score: 8 <think>or", "an unfinished <think>"),
    ("<think>8</think>", "the judge's reply is empty"),
    ("", "the judge's reply is empty"),
    ("It is a good answer.", "no score can be read in 'It is a good answer.'"),
    ("8 of the 10 points are right", "no score can be read"),
]


@pytest.mark.parametrize(("reply", "value"), READ)
def test_numbers_that_are_read(reply: str, value: float) -> None:
    found = read_number(reply, lowest=0, highest=10)
    assert (found.value, found.reason) == (value, None)
    assert found.place is not None
    assert float(reply[slice(*found.place)]) == value


@pytest.mark.parametrize(("reply", "reason"), MISSING)
def test_numbers_that_are_missing(reply: str, reason: str) -> None:
    found = read_number(reply, lowest=0, highest=10)
    assert (found.value, found.place) == (None, None)
    assert reason in str(found.reason)
    assert len(str(found.reason)) < 150


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        *((f"So: [[{label}]]", label) for label in LABELS),
        ("[[A>B]] at first.\nMy verdict: [[B>A]]", "B>A"),
        ("<think>At first [[B>A]] but</think> My final verdict is: [[A>B]]", "A>B"),
        ("[[B<A]], so [[A>B]]", "A>B"),
        ("[[A>B]] or [[B>A]]", None),
        ("[[A>B]]\n[[unclear]]", None),
        ("\n".join(f"[[{label}]]  as the prompt says" for label in LABELS), None),
        ("A>B", None),
    ],
)
def test_labels(reply: str, value: str | None) -> None:
    found = read_label(reply)
    assert found.value == value
    assert (found.reason is None) == (value is not None)


@given(st.text(alphabet=" \n\t[]{}()0123456789/-.:=*`\"'\\abcdeorstuxScoreRating<>think", max_size=200))
def test_whatever_a_judge_says_is_a_score_within_the_scale_or_a_reason(reply: str) -> None:
    found = read_number(reply, lowest=1, highest=10)
    assert (found.value is None) == (found.reason is not None)
    if found.value is not None:
        assert 1 <= found.value <= 10


def test_a_long_reply_is_read_in_little_time() -> None:
    for reply in (
        "[" * 200_000,
        "Score: " * 40_000,
        "8 " * 100_000,
        "\\boxed{" * 40_000,
        '"score" ' * 40_000,
    ):
        assert read_number(reply, lowest=0, highest=10).value is None
