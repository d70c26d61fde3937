"""Seeded hashes: each number depends on its own id, seed and salt, and on nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from crowdselect import seeding
from crowdselect.seeding import content_hash, mixed_hash, reseeded, seeded_hash

IDS = st.lists(st.text(max_size=20), max_size=12)
AWKWARD = [
    "",
    "\0",
    "\0\0",
    "a",
    "a\0",
    "a" * 7,
    "a" * 8,
    "a" * 9,
    "a" * 16,
    "é",
    "e\u0301",
    "日本",
    "\ud800",
    "\n",
]


def ones(numbers) -> np.ndarray:
    return np.unpackbits(np.asarray(numbers, dtype=np.uint64).view(np.uint8).reshape(-1, 8), axis=1).sum(
        axis=1
    )


@given(IDS, st.integers(-(2**70), 2**70), st.text(max_size=5))
@settings(max_examples=80, deadline=None)
def test_each_number_is_its_own_ids_alone(ids, seed, salt):
    together = seeded_hash(ids, seed=seed, salt=salt)
    assert together.dtype == np.uint64
    assert together.shape == (len(ids),)
    alone = [int(seeded_hash([one], seed=seed, salt=salt)[0]) for one in ids]
    assert together.tolist() == alone
    assert seeded_hash(np.array([*ids, ""], dtype=object)[:-1], seed=seed, salt=salt).tolist() == alone


@given(IDS, st.integers(-(2**70), 2**70))
@settings(max_examples=40, deadline=None)
def test_hashing_once_and_seeding_later_is_the_same(ids, seed):
    hashes = content_hash(ids)
    assert np.array_equal(reseeded(hashes, seed=seed, salt="tie"), seeded_hash(ids, seed=seed, salt="tie"))
    assert len(set(hashes.tolist())) == len(set(ids))


def test_blocks_of_ids_leave_no_seam(monkeypatch):
    ids = [f"{row}" * (row % 5) for row in range(50)]
    expected = seeded_hash(ids, seed=1)
    for block in (1, 3, 49, 50, 51):
        monkeypatch.setattr(seeding, "_BLOCK", block)
        assert np.array_equal(seeded_hash(ids, seed=1), expected)


def test_awkward_ids_are_all_different():
    assert len(set(seeded_hash(AWKWARD, seed=0).tolist())) == len(AWKWARD)
    many = [f"row {row}" for row in range(50_000)]
    assert len(set(seeded_hash(many, seed=0).tolist())) == len(many)


def test_seeds_and_salts_give_unrelated_numbers():
    ids = [f"id-{row}" for row in range(2_000)]
    uses = [(0, ""), (1, ""), (-1, ""), (2**64, ""), (2**64 - 1, ""), (0, "tie"), (0, "sample"), (1, "tie")]
    numbers = [seeded_hash(ids, seed=seed, salt=salt) for seed, salt in uses]
    for i, a in enumerate(numbers):
        for b in numbers[:i]:
            assert not (a == b).any()
            assert abs(np.corrcoef(a.astype(float), b.astype(float))[0, 1]) < 0.1
            assert abs(ones(a ^ b).mean() - 32) < 0.5


@pytest.mark.parametrize("shift", [0, 13, 56])
def test_numbers_are_uniform(shift):
    # Ids as pools have them: alike but for a few digits.
    numbers = seeded_hash([f"sim-{row:09d}" for row in range(25_600)], seed=0)
    counts = np.bincount((numbers >> np.uint64(shift)).astype(np.uint8), minlength=256)
    assert chisquare(counts).pvalue > 1e-4


def test_one_bit_of_an_id_turns_half_of_the_number():
    ids = [f"question {row} of many" for row in range(500)]
    flipped = [one[:10] + chr(ord(one[10]) ^ 1) + one[11:] for one in ids]
    turned = ones(seeded_hash(ids, seed=3) ^ seeded_hash(flipped, seed=3))
    assert abs(turned.mean() - 32) < 1
    assert turned.min() > 10


def test_the_numbers_stay_what_they_are():
    # A change here changes every tie and draw of users' selections: a heading of its own in the change log.
    assert seeded_hash(["", "a", "日本語の質問"], seed=0, salt="tie").tolist() == [
        7165062894366537873,
        14032595046285352605,
        11610990419546066160,
    ]


def test_a_pairs_number_is_its_own():
    rows, columns = seeded_hash(list("abc"), seed=0), seeded_hash(list("abc"), seed=0)
    table = mixed_hash(rows, columns)
    assert table.shape == (3, 3)
    assert len(set(table.ravel().tolist())) == 9  # row and column do not trade places
    assert np.array_equal(mixed_hash(rows[1:], columns[[2, 0]]), table[1:, [2, 0]])
    assert mixed_hash(rows[:0], columns).shape == (0, 3)


def test_each_column_is_the_lowest_of_its_row_equally_often():
    rows = seeded_hash([f"{row}" for row in range(20_000)], seed=5)
    lowest = mixed_hash(rows, seeded_hash([f"model {j}" for j in range(7)], seed=5)).argmin(axis=1)
    assert chisquare(np.bincount(lowest, minlength=7)).pvalue > 1e-4
