"""The choice against a brute-force walk: one row per cluster and round, best rows first."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdselect.errors import BudgetError
from crowdselect.numeric.quotas import check_budget, choose, ranked, water_fill
from crowdselect.numeric.strata import Strata, allotted, cells, shared_out

NAN = float("nan")
# Unit vectors in the plane, a few of them close together and some equal.
PLANE = np.array(
    [[np.cos(angle), np.sin(angle)] for angle in (0, 0, 0.2, 0.4, 0.6, 1.5, 1.6, 3.0)], dtype=np.float32
)


@st.composite
def pools(draw, *, most=24):
    """Scores with ties and gaps, clusters, duplicates, vectors, all different keys."""
    n = draw(st.integers(1, most))
    scores = st.one_of(st.integers(0, 4).map(float), st.just(NAN))
    keys = draw(st.permutations(range(n)))
    return {
        "score": np.array(draw(st.lists(scores, min_size=n, max_size=n))),
        "labels": np.array(draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))),
        "groups": np.array(draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))),
        "vectors": PLANE[draw(st.lists(st.integers(0, len(PLANE) - 1), min_size=n, max_size=n))],
        "keys": np.array(keys, dtype=np.uint64),
    }


class Cluster:
    """Rows still to give, best first, and the rows given."""

    def __init__(self):
        self.rows, self.given, self.passed, self.pending = [], [], {}, {}

    def next_row(self, vectors, near):
        """The next row that is not too close to one given; those passed over on the way are pending."""
        while self.rows:
            row = self.rows[0]
            cosines = (
                [float(vectors[row] @ vectors[other]) for other in self.given] if near is not None else []
            )
            if not cosines or min(max(cosines), 1.0) <= near:
                return row
            self.pending[row] = self.given[cosines.index(max(cosines))]
            self.rows.pop(0)
        self.passed |= self.pending
        return None

    def give(self):
        self.passed |= self.pending
        self.pending = {}
        self.given.append(self.rows.pop(0))


def by_rounds(pool, budget, near=None, *, wanted_more=False):
    """Chosen rows best first, duplicates, near-duplicates and quotas; None where the rows run out.

    With `wanted_more` a further row was looked for after the last.
    """

    def place(row):
        return (-pool["score"][row], pool["keys"][row])

    line = sorted((row for row, score in enumerate(pool["score"]) if not np.isnan(score)), key=place)
    first, duplicates, clusters = {}, {}, {}
    for row in line:
        best = first.setdefault(pool["groups"][row], row)
        if best == row:
            clusters.setdefault(int(pool["labels"][row]), Cluster()).rows.append(row)
        else:
            duplicates[row] = best
    left = budget
    while left:
        following = {name: cluster.next_row(pool["vectors"], near) for name, cluster in clusters.items()}
        giving = [name for name, row in following.items() if row is not None]
        if not giving:
            return None
        for name in sorted(giving, key=lambda name: place(following[name]))[:left]:
            clusters[name].give()
        left -= min(left, len(giving))
    if wanted_more:
        assert all(cluster.next_row(pool["vectors"], near) is None for cluster in clusters.values())
    chosen = sorted((row for cluster in clusters.values() for row in cluster.given), key=place)
    passed = {row: kept for cluster in clusters.values() for row, kept in cluster.passed.items()}
    return chosen, duplicates, passed, {name: len(cluster.given) for name, cluster in clusters.items()}


def most_that_can_be_chosen(pool, near=None) -> int:
    budget = 0
    while by_rounds(pool, budget + 1, near) is not None:
        budget += 1
    return budget


def run(pool, budget, near=None):
    vectors = {} if near is None else {"vectors": pool["vectors"], "near_duplicates": near}
    arrays = {name: pool[name] for name in ("score", "labels", "keys", "groups")}
    return choose(**arrays, budget=budget, **vectors)


def as_rows(choice):
    """The same four as `by_rounds`."""
    count = int((choice.rank > 0).sum())
    chosen = [int(np.flatnonzero(choice.rank == place)[0]) for place in range(1, count + 1)]
    others = [
        {int(row): int(rows[row]) for row in np.flatnonzero(rows >= 0)}
        for rows in (choice.duplicate_of, choice.near_duplicate_of)
    ]
    return chosen, *others, choice.quotas


@given(pools(), st.data())
@settings(max_examples=200, deadline=None)
def test_the_choice_is_that_of_rounds(pool, data):
    most = most_that_can_be_chosen(pool)
    if most:
        budget = data.draw(st.integers(1, most))
        assert as_rows(run(pool, budget)) == by_rounds(pool, budget)


@given(pools(), st.sampled_from([0.0, 0.5, 0.9, 0.97, 0.999, 1.0]), st.data())
@settings(max_examples=250, deadline=None)
def test_the_choice_passing_over_near_duplicates_is_that_of_rounds(pool, near, data):
    most = most_that_can_be_chosen(pool, near)
    if most:
        budget = data.draw(st.integers(1, most))
        assert as_rows(run(pool, budget, near)) == by_rounds(pool, budget, near)


@given(pools(), st.sampled_from([None, 0.9]), st.data())
@settings(max_examples=100, deadline=None)
def test_exact_budget_equal_quotas_no_duplicates(pool, near, data):
    most = most_that_can_be_chosen(pool, near)
    if not most:
        return
    budget = data.draw(st.integers(1, most))
    choice = run(pool, budget, near)
    chosen = np.flatnonzero(choice.rank)
    assert sorted(choice.rank[chosen]) == list(range(1, budget + 1))
    assert not np.isnan(pool["score"][chosen]).any()
    assert len(set(pool["groups"][chosen])) == budget
    assert sum(choice.quotas.values()) == budget
    for name, quota in choice.quotas.items():
        assert quota == (pool["labels"][chosen] == name).sum()
        # A cluster gives two less than another only if it has no more to give.
        rest = (pool["labels"] == name) & ~np.isnan(pool["score"]) & (choice.rank == 0)
        rest &= (choice.duplicate_of < 0) & (choice.near_duplicate_of < 0)
        assert quota >= max(choice.quotas.values()) - 1 or not rest.any()
    best = np.argsort(choice.rank[chosen])
    assert (np.diff(pool["score"][chosen[best]]) <= 0).all()


@given(pools(), st.sampled_from([None, 0.9]), st.randoms(), st.data())
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_rows_changes_no_choice(pool, near, random, data):
    most = most_that_can_be_chosen(pool, near)
    if not most:
        return
    budget = data.draw(st.integers(1, most))
    order = np.array(random.sample(range(len(pool["score"])), len(pool["score"])))
    before, after = (
        run(pool, budget, near),
        run({name: rows[order] for name, rows in pool.items()}, budget, near),
    )
    assert after.rank.tolist() == before.rank[order].tolist()
    back = np.append(order, -1)  # -1 stays "none"
    for name in ("duplicate_of", "near_duplicate_of"):
        assert back[getattr(after, name)].tolist() == getattr(before, name)[order].tolist()
    assert after.quotas == before.quotas


@given(pools(), st.sampled_from([None, 0.9]), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_budget_above_what_can_be_chosen_says_how_many(pool, near, more):
    most = most_that_can_be_chosen(pool, near)
    with pytest.raises(BudgetError) as caught:
        run(pool, most + more, near)
    eligible = int((~np.isnan(pool["score"])).sum())
    distinct = len(set(pool["groups"][~np.isnan(pool["score"])]))
    if most + more <= distinct:
        expected = (
            f"`budget={most + more}` cannot be filled: only {most} rows are left without near-duplicates"
        )
    elif distinct < eligible:
        expected = (
            f"`budget={most + more}` is more than can be chosen: {eligible} instructions are eligible, "
            f"{eligible - distinct} of them duplicates of others; {distinct} is the most"
        )
    else:
        expected = f"`budget={most + more}` is more than can be chosen: {eligible} instructions are eligible"
    assert str(caught.value).startswith(expected)
    assert str(caught.value) == expected or "only" in expected


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_that_is_not_positive_is_refused(budget):
    one = {
        "labels": np.zeros(1, dtype=int),
        "keys": np.zeros(1, dtype=np.uint64),
        "groups": np.zeros(1, dtype=int),
    }
    with pytest.raises(BudgetError, match=f"`budget` is {budget}; wanted at least 1"):
        choose(np.ones(1), budget=budget, **one)


def test_a_huge_budget_is_refused_at_once():
    with pytest.raises(
        BudgetError, match=r"`budget=1000000000000` is more than .*: 3 instructions are eligible"
    ):
        check_budget(10**12, eligible=np.array([True, True, True, False]), groups=np.arange(4))
    with pytest.raises(BudgetError, match="0 instructions are eligible"):
        check_budget(1, eligible=np.zeros(4, dtype=bool), groups=np.arange(4))
    check_budget(3, eligible=np.array([True, True, True, False]), groups=np.arange(4))


def test_all_rows_tied_are_chosen_by_their_keys():
    keys = np.random.default_rng(0).permutation(50).astype(np.uint64)
    pool = {
        "score": np.full(50, 0.25),
        "labels": np.arange(50) % 5,
        "groups": np.arange(50),
        "keys": keys,
    }
    choice = run(pool, 13)
    assert sorted(choice.quotas.values()) == [2, 2, 3, 3, 3]
    chosen = np.flatnonzero(choice.rank)
    assert np.array_equal(np.argsort(choice.rank[chosen]), np.argsort(keys[chosen]))
    for label in range(5):
        own = keys[label::5]
        assert set(keys[chosen[chosen % 5 == label]]) == set(np.sort(own)[: choice.quotas[label]])


def test_equal_keys_fall_back_to_the_row():
    rows = np.array([2.0, NAN, 2.0, 3.0, 2.0])
    assert ranked(rows, np.zeros(5, dtype=np.uint64)).tolist() == [3, 0, 2, 4]


def test_one_cluster_per_row_takes_the_best_rows():
    score = np.random.default_rng(3).random(40)
    pool = {
        "score": score,
        "labels": np.arange(40)[::-1],
        "groups": np.arange(40),
        "keys": np.arange(40, dtype=np.uint64),
    }
    choice = run(pool, 7)
    assert np.flatnonzero(choice.rank).tolist() == sorted(np.argsort(-score)[:7].tolist())
    assert sum(choice.quotas.values()) == 7
    assert run(pool, 40).rank.all()  # the budget is all there is


def test_a_cluster_per_row_is_no_slower_for_being_many():
    n = 50_000
    pool = {
        "score": np.random.default_rng(0).random(n),
        "labels": np.arange(n),
        "groups": np.arange(n),
        "keys": np.arange(n, dtype=np.uint64),
    }
    choice = run(pool, n - 1)
    assert np.flatnonzero(choice.rank == 0).tolist() == [int(pool["score"].argmin())]


def test_labels_may_be_any_whole_numbers():
    pool = {
        "score": np.array([1.0, 2.0, 3.0, 4.0]),
        "labels": np.array([10**9, -5, 10**9, -5], dtype=np.int64),
        "groups": np.arange(4),
        "keys": np.zeros(4, dtype=np.uint64),
    }
    assert run(pool, 3).quotas == {-5: 2, 10**9: 1}


def test_a_duplicate_in_another_cluster_is_passed_over_too():
    pool = {
        "score": np.array([5.0, 4.0, 3.0]),
        "labels": np.array([0, 1, 1]),
        "groups": np.array([0, 0, 2]),
        "keys": np.zeros(3, dtype=np.uint64),
    }
    choice = run(pool, 2)
    assert choice.rank.tolist() == [1, 0, 2]
    assert choice.duplicate_of.tolist() == [-1, 0, -1]


def test_what_near_duplicates_leave_open_goes_to_the_other_clusters():
    # Cluster 0 holds three copies of one direction and nothing else: it can give one row.
    pool = {
        "score": np.array([9.0, 8.0, 7.0, 3.0, 2.0, 1.0]),
        "labels": np.array([0, 0, 0, 1, 1, 1]),
        "groups": np.arange(6),
        "vectors": PLANE[[0, 1, 2, 0, 5, 7]],
        "keys": np.zeros(6, dtype=np.uint64),
    }
    choice = run(pool, 4, near=0.9)
    assert choice.rank.tolist() == [1, 0, 0, 2, 3, 4]
    assert choice.near_duplicate_of.tolist() == [-1, 0, 0, -1, -1, -1]
    assert choice.quotas == {0: 1, 1: 3}
    with pytest.raises(BudgetError, match="`budget=5` cannot be filled: only 4 rows are left"):
        run(pool, 5, near=0.9)


def test_nothing_is_closer_than_a_cosine_of_one():
    vectors = np.random.default_rng(0).normal(size=(1, 256)).astype(np.float32)
    vectors = np.repeat(vectors / np.linalg.norm(vectors), 30, axis=0) * np.float32(1 + 1e-7)
    pool = {
        "score": np.arange(30.0),
        "labels": np.zeros(30, dtype=int),
        "groups": np.arange(30),
        "vectors": vectors,
        "keys": np.zeros(30, dtype=np.uint64),
    }
    assert run(pool, 30, near=1.0).rank.all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.data())
@settings(max_examples=100, deadline=None)
def test_the_water_level_is_the_highest_that_the_budget_reaches(capacities, data):
    budget = data.draw(st.integers(0, sum(capacities)))
    level, left = water_fill(capacities, budget)
    assert sum(min(capacity, level) for capacity in capacities) + left == budget
    still_open = sum(capacity > level for capacity in capacities)
    assert 0 <= left < max(still_open, 1)


# strata: the budget is shared out between them first


def by_one(places, weights, capacities):
    """Largest remainders in exact fractions; then every place left over, one after the other."""
    exact = [Fraction(places * weight, sum(weights)) for weight in weights]
    out = [int(share) for share in exact]
    for at in sorted(range(len(out)), key=lambda at: (out[at] - exact[at], at))[: places - sum(out)]:
        out[at] += 1
    out = [min(pair) for pair in zip(out, capacities, strict=True)]
    while sum(out) < places:
        open_ = [at for at in range(len(out)) if out[at] < capacities[at]]
        out[min(open_, key=lambda at: (Fraction(out[at], weights[at]), at))] += 1
    return out


SHARES = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12)), min_size=1, max_size=6)


@given(SHARES, st.data())
def test_places_are_shared_out_as_one_by_one(pairs, data):
    weights, capacities = zip(*pairs, strict=True)
    places = data.draw(st.integers(0, sum(capacities)))
    found = allotted(places, weights, capacities)
    assert found == by_one(places, weights, capacities)
    assert sum(found) == places
    asked = shared_out(places, weights)
    for share, weight in zip(asked, weights, strict=True):
        assert abs(Fraction(places * weight, sum(weights)) - share) < 1
    # Who can take what is asked gets it at least; who gets less can take no more.
    assert all(got >= min(ask, most) for got, ask, most in zip(found, asked, capacities, strict=True))
    # What was not taken may as well not be there: it does not matter when near-duplicates are found out.
    less = [data.draw(st.integers(got, most)) for got, most in zip(found, capacities, strict=True)]
    assert allotted(places, weights, less) == found


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.data())
def test_equal_shares_are_filled_to_one_level(capacities, data):
    places = data.draw(st.integers(0, sum(capacities)))
    found = allotted(places, [1] * len(capacities), capacities)
    level, left = water_fill(capacities, places)
    assert all(
        min(most, level) <= got <= min(most, level + 1) for got, most in zip(found, capacities, strict=True)
    )
    assert sum(got > level for got in found) == left


def test_shares_of_any_size_and_many_of_them():
    assert shared_out(3, [1] * 5) == [1, 1, 1, 0, 0]
    assert shared_out(0, [5, 1]) == [0, 0]
    assert shared_out(10**15 + 1, [1, 1]) == [5 * 10**14 + 1, 5 * 10**14]
    found = allotted(200_000, [1] * 1000, [10] * 500 + [10**6] * 500)
    assert found == [10] * 500 + [390] * 500


def in_strata(pool, budget, of, weights, near=None):
    """The choice stratum by stratum: each alone, by rounds, with its places; None where the rows run out."""
    best, alone = {}, pool["score"].copy()
    line = [row for row in range(len(alone)) if not np.isnan(alone[row])]
    for row in sorted(line, key=lambda row: (-pool["score"][row], pool["keys"][row])):
        if best.setdefault(pool["groups"][row], row) != row:
            alone[row] = NAN
    parts = [{**pool, "score": np.where(of == stratum, alone, NAN)} for stratum in range(3)]
    weights = weights or [int((~np.isnan(part["score"])).sum()) for part in parts]
    capacities = [most_that_can_be_chosen(part, near) for part in parts]
    if sum(capacities) < budget:
        return None
    places = by_one(budget, weights, capacities)
    found = []
    for stratum, part in enumerate(parts):
        # Without its own limit it would have had more: then all of its rows were looked at.
        without = [len(alone) + budget if at == stratum else most for at, most in enumerate(capacities)]
        short = weights[stratum] > 0 and by_one(budget, weights, without)[stratum] > capacities[stratum]
        found.append(by_rounds(part, places[stratum], near, wanted_more=short))
    chosen = sorted(
        (row for part in found for row in part[0]), key=lambda row: (-pool["score"][row], pool["keys"][row])
    )
    passed = {row: kept for part in found for row, kept in part[2].items()}
    return chosen, by_rounds(pool, 0)[1], passed, places


@given(
    pools(),
    st.sampled_from([None, 0.5, 0.97]),
    st.sampled_from([(1, 1, 1), (5, 3, 2), (1, 9, 1), None]),
    st.data(),
)
@settings(max_examples=400, deadline=None)
def test_the_choice_with_strata_is_that_of_each_alone(pool, near, weights, data):
    n = len(pool["score"])
    of = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    budget = data.draw(st.integers(1, n))
    strata = Strata(of, ("a", "b", "c"), weights)
    vectors = {} if near is None else {"vectors": pool["vectors"], "near_duplicates": near}
    arrays = {name: pool[name] for name in ("score", "keys", "groups")}
    wanted = in_strata(pool, budget, of, weights, near)

    def made():
        return choose(**arrays, labels=cells(pool["labels"], strata), budget=budget, strata=strata, **vectors)

    if wanted is None:
        with pytest.raises(BudgetError):
            made()
        return
    choice = made()
    chosen, duplicates, passed, _ = as_rows(choice)
    assert (chosen, duplicates, passed) == wanted[:3]
    assert strata.sizes(np.array(chosen)) == wanted[3]


def test_one_stratum_is_none():
    pool = {
        "score": np.array([3.0, 2.0, 1.0, 0.0]),
        "labels": np.array([0, 0, 1, 1]),
        "keys": np.arange(4, dtype=np.uint64),
        "groups": np.arange(4),
    }
    strata = Strata(np.zeros(4, np.int64), ("all",), (1,))
    for budget in (1, 2, 3, 4):
        assert as_rows(choose(**pool, budget=budget, strata=strata)) == as_rows(choose(**pool, budget=budget))
