"""Reasons and duplicates."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdselect.numeric.duplicates import duplicate_groups, normalised
from crowdselect.selection.eligible import ELIGIBLE, REASONS, eligibility


def test_the_first_reason_of_the_mapping_bars_a_row():
    barred = {
        "excluded": np.array([True, False, True, False]),
        "no_answer": np.array([True, True, False, False]),
        "below_floor": np.array([True, True, True, False]),
    }
    assert eligibility(4, barred).tolist() == ["excluded", "no_answer", "excluded", ELIGIBLE]
    turned = dict(reversed(barred.items()))
    assert eligibility(4, turned).tolist() == ["below_floor"] * 3 + [ELIGIBLE]


def test_without_bars_every_row_is_eligible_and_without_rows_there_is_none():
    assert eligibility(2, {}).tolist() == [ELIGIBLE, ELIGIBLE]
    assert eligibility(0, {"excluded": np.zeros(0, dtype=bool)}).tolist() == []


def test_the_list_of_reasons_is_closed_and_no_reason_holds_a_colon():
    assert list(REASONS) == [
        "selected",
        "below_cut",
        "excluded",
        "not_included",
        "malformed",
        "not_text",
        "bad_turns",
        "no_tools",
        "no_instruction",
        "too_few_rewards",
        "no_stability",
        "no_samples",
        "no_number",
        "unfinished",
        "no_answer",
        "no_pair",
        "no_reference",
        "outside",
        "no_quota",
        "below_floor",
        "contaminated",
        "no_score",
        "duplicate_of",
        "near_duplicate_of",
    ]
    assert not any(":" in reason for reason in REASONS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 2+2?", "  what is\t2+2?\n"),
        ("\uff37hat", "what"),  # full width
        ("Straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("a\u00a0b\u2003c", "a b\r\n\r\nc"),
        ("\u0390", "\u03b9\u0308\u0301"),
        ("ﬁne", "FINE"),
        ("ガ", "ｶﾞ"),
    ],
)
def test_what_does_not_change_an_instruction_is_folded_away(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"), [("2+2", "22"), ("a b", "ab"), ("café", "cafe"), ("x²?", "x?"), ("", "-")]
)
def test_what_changes_an_instruction_stays(one, other):
    assert normalised(one) != normalised(other)


@given(st.text(max_size=30))
@settings(max_examples=150, deadline=None)
def test_a_normal_form_is_one(text):
    once = normalised(text)
    assert normalised(once) == once
    assert once == " ".join(once.split())
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert normalised(unicodedata.normalize(form, text)) == once


def test_groups_of_many_texts_are_those_of_their_normal_forms():
    rng = np.random.default_rng(0)
    words = ["Sum", "sum ", "mus", "S\u00fcm", "SU\u0308M", "\uff33um", "su m", "\x1csum", None, "", "\u2003"]
    texts = np.array([words[at] for at in rng.integers(len(words), size=5000)] + [""], dtype=object)[:-1]
    first: dict[str, int] = {}
    assert duplicate_groups(texts).tolist() == [
        row if text is None else first.setdefault(normalised(text), row) for row, text in enumerate(texts)
    ]


@given(st.lists(st.text("aA b\u00e9E\u0301\u0130iI\u0307", max_size=5), max_size=12))
@settings(max_examples=150, deadline=None)
def test_rows_with_one_normal_form_are_always_found(texts):
    groups = duplicate_groups(np.array([*texts, None], dtype=object)[:-1])
    first: dict[str, int] = {}
    assert groups.tolist() == [first.setdefault(normalised(text), row) for row, text in enumerate(texts)]


@given(
    st.lists(st.sampled_from(["Hi", "hi ", " HI", "h i", None, "\uff48\uff49", "é", "e\u0301"]), max_size=12)
)
@settings(max_examples=80, deadline=None)
def test_groups_are_those_of_equal_normal_forms_and_rows_without_text_are_alone(texts):
    groups = duplicate_groups(np.array([*texts, ""], dtype=object)[:-1])
    assert groups.dtype == np.int64
    for row, text in enumerate(texts):
        alike = [
            other
            for other, there in enumerate(texts)
            if other == row
            or (text is not None and there is not None and normalised(text) == normalised(there))
        ]
        assert groups[row] == min(alike)
