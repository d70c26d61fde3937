"""A selection tells its own story, whatever the ids look like; and how it differs from chance."""

import dataclasses
import json
import math
import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdselect.errors import InputError
from crowdselect.pool.pool import open_pool
from crowdselect.seeding import seeded_hash
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.folder import export, load_selection
from crowdselect.selection.options import Options
from crowdselect.selection.run import select
from crowdselect.selection.selection import Selection, random_control

ID = "a: b:c"
LINE = "line\nbreak: 1"
ROW = {
    "id": "x",
    "selected": False,
    "rank": None,
    "reason": "below_cut",
    "model": "m",
    "reward": 1.0,
    "cluster": 0,
    "score": 0.5,
    "difficulty": -1.0,
    "separability": 0.0,
    "stability": None,
    "difficulty_rank": 0.5,
    "separability_rank": 0.25,
    "stability_rank": None,
    "n_rewards": 2,
}
TYPES = pa.schema(
    {
        name: pa.string()
        if isinstance(value, str)
        else pa.bool_()
        if isinstance(value, bool)
        else pa.int64()
        if name in {"rank", "cluster", "n_rewards"}
        else pa.float64()
        for name, value in ROW.items()
    }
)
BARRED = dict.fromkeys(
    ("model", "reward", "cluster", "score", "difficulty_rank", "separability_rank", "stability_rank")
)


def selection_of(rows: list[dict], **options) -> Selection:
    """A selection made of rows, each like `ROW` but for what it names."""
    rows = sorted(({**ROW, **row} for row in rows), key=lambda row: row["id"])
    chosen = max(1, sum(row["selected"] for row in rows))
    asked = Options(**{"budget": chosen, "weights": {"difficulty": 1.0, "separability": -0.5}, **options})
    return Selection(table=pa.Table.from_pylist(rows, schema=TYPES), options=asked.as_dict())


def taken(id_: str, rank: int, score: float, **more) -> dict:
    return {"id": id_, "selected": True, "rank": rank, "reason": "selected", "score": score, **more}


@pytest.fixture
def small() -> Selection:
    """Three clusters: one gave two rows, one gave one, one gave none; duplicates passed over in between."""
    return selection_of(
        [
            taken(ID, 1, 0.9),
            {"id": "copy", "reason": f"duplicate_of:{ID}", "score": 0.9},
            {"id": "near:1", "reason": f"near_duplicate_of:{ID}", "score": 0.85},
            taken(LINE, 3, 0.7),
            {"id": "next", "score": 0.6},
            {"id": "last", "score": 0.1},
            taken("alone", 2, 0.8, cluster=1),
            {"id": "elsewhere", "score": 0.2, "cluster": 2},
            {"id": "copy elsewhere", "reason": f"duplicate_of:{LINE}", "score": 0.7, "cluster": 3},
            {"id": "out", "reason": "excluded", **BARRED},
        ],
        near_duplicates=0.9,
    )


def story(selection: Selection, id_: str) -> str:
    return "\n".join(selection.explain(id_)["story"])


def test_chosen_rows_come_first_choice_first(small):
    assert small.chosen == [ID, "alone", LINE]
    assert [row["rank"] for row in small.rows()] == [1, 2, 3]
    assert set(small.rows()[0]) == set(ROW)


def test_reasons_are_counted_without_their_ids(small):
    assert list(small.counts().items()) == [
        ("selected", 3),
        ("below_cut", 3),
        ("excluded", 1),
        ("duplicate_of", 2),
        ("near_duplicate_of", 1),
    ]
    assert sum(small.counts().values()) == len(small.table)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([reason for reason in REASONS if reason != "selected"]),
            st.text(st.characters(codec="utf-8"), max_size=8),
        ),
        max_size=20,
    )
)
@settings(max_examples=60)
def test_any_id_may_stand_after_the_colon(found):
    named = {"contaminated", "duplicate_of", "near_duplicate_of"}
    rows = [
        {"id": f"{at}", "reason": f"{reason}:{other}" if reason in named else reason}
        for at, (reason, other) in enumerate(found)
    ]
    selection = selection_of(rows) if rows else selection_of([ROW])
    counts = selection.counts()
    assert counts == {r: n for r in REASONS if (n := sum(reason == r for reason, _ in found))} or not rows
    for at, (reason, other) in enumerate(found):
        told = selection.explain(f"{at}")["story"]
        assert REASONS[reason] in told[0]
        assert reason not in named or other in told[0]


def test_places_count_the_rows_that_can_be_chosen(small):
    found = {id_: small.explain(id_) for id_ in small.table["id"].to_pylist()}
    assert {id_: (row["place"], row["cluster_size"], row["quota"]) for id_, row in found.items()} == {
        ID: (1, 4, 2),
        LINE: (2, 4, 2),
        "next": (3, 4, 2),
        "last": (4, 4, 2),
        "copy": (found["copy"]["place"], 4, 2),  # as good as the first: a hash says which is before
        "near:1": (2, 4, 2),
        "alone": (1, 1, 1),
        "elsewhere": (1, 1, 0),
        "copy elsewhere": (1, 0, 0),
        "out": (None, None, None),
    }
    assert found["copy"]["place"] in {1, 2}
    assert found["next"]["last"] == {"id": LINE, "rank": 3, "score": 0.7}
    assert found["elsewhere"]["last"] is found["out"]["last"] is None


def test_the_story_of_a_chosen_row(small):
    lines = small.explain(LINE)["story"]
    assert lines[0].startswith("chosen, rank 3")
    assert (
        "difficulty -1: rank 0.500 of the eligible rows, 0 lowest to 1 highest, weight 1 adds +0.5" in lines
    )
    assert (
        "separability 0: rank 0.250 of the eligible rows, 0 lowest to 1 highest, weight -0.5 adds -0.125"
        in lines
    )
    assert "stability undefined" in lines
    assert "answer to train on: m (reward 1; 2 rewards in all)" in lines
    assert "score 0.7: place 2 of 4 in cluster 0, which gave 2" in lines
    assert f"the last place there went to {LINE} (rank 3, score 0.7)" in lines
    assert lines[-1].endswith("or the cluster's quota fell below 2")


def test_the_story_of_a_row_below_the_cut(small):
    told = story(small, "next")
    assert told.startswith("not chosen: below_cut (eligible, but others score higher)")
    assert "score 0.6: place 3 of 4 in cluster 0, which gave 2" in told
    assert "to be chosen it needs 0.1 more score, or a quota of up to 3 in its cluster" in told
    assert "no row of its cluster was taken: it needs a larger `budget` or fewer `clusters`" in story(
        small, "elsewhere"
    )


def test_the_stories_of_duplicates_name_the_other_row_with_all_its_colons(small):
    told = story(small, "copy")
    assert told.startswith(f"not chosen: duplicate_of:{ID} (the same text as a better-scoring instruction")
    assert (
        f"to be chosen: only instead of {ID}: exclude that one (`exclude`); this row's own score must also reach the cut"
        in told
    )
    assert (
        f"to be chosen: only instead of {LINE}: exclude that one (`exclude`); this row's own score must also reach the cut"
        in story(small, "copy elsewhere")
    )
    near = story(small, "near:1")
    assert f"to be chosen: only if {ID} were left out, or with a higher `near_duplicates` (0.9)" in near
    assert "score 0.85: 1 of 4 rows that can be chosen are before it in cluster 0, which gave 2" in near
    assert " place " not in near.replace("the last place", "")


def test_a_tie_at_the_cut_is_said_to_be_one():
    told = story(selection_of([taken("a", 1, 0.5), {"id": "b"}]), "b")
    assert "it needs a slightly higher score (a seeded hash broke the tie)" in told


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("excluded", "take its id out of `exclude`"),
        ("not_included", "add its id to `include`"),
        ("no_instruction", "add its text to the pool"),
        ("outside:difficulty", "its difficulty is -1; make its band of `keep` wider"),
        ("outside:length", "its length lies outside; make its band of `keep` wider"),
        ("no_number:length", "give it that number"),
        ("no_number", "give it that number"),
        ("no_stability", "or set the weight of stability to 0"),
        ("no_answer", "an answer with text that `answer=random` can take"),
        ("no_pair", "two answers to one prompt with different rewards"),
        ("below_floor", "lower the floor"),
        ("contaminated:mt_bench:81", "it stays out while mt_bench:81 is in the evaluation"),
    ],
)
def test_the_story_of_a_row_that_is_not_eligible_says_what_would_help(reason, advice):
    selection = selection_of([taken("a", 1, 0.5), {"id": "b", "reason": reason, **BARRED}], answer="random")
    lines = selection.explain("b")["story"]
    assert lines[0] == f"not chosen: {reason} ({REASONS[reason.partition(':')[0]]})"
    assert "difficulty -1" in lines
    assert lines[-1].startswith("to be chosen: ")
    assert advice in lines[-1]
    assert not any(line.startswith(("score", "answer", "the last")) for line in lines)


@pytest.mark.parametrize(
    ("options", "n", "advice"),
    [
        ({"method": "random", "weights": {"difficulty": 0.0}}, 1, ", or write `keep='rewards=1..'`"),
        ({"weights": {"difficulty": 1.0}}, 1, ", or write `keep='rewards=1..'`"),
        (
            {"weights": {"difficulty": 2.0, "separability": 1.0, "stability": 1.0}},
            1,
            ", or write `weights={'difficulty': 2}` and `keep='rewards=1..'`: it has too few for separability and stability",
        ),
        (
            {"weights": {"difficulty": 1.0, "separability": 1.0}, "keep": ["rewards=1.."]},
            1,
            ", or write `weights={'difficulty': 1}`: it has too few for separability",
        ),
        ({"weights": {"separability": 1.0}}, 1, ""),
        ({"weights": {"difficulty": 1.0}, "pairs": "best-worst"}, 1, ""),
        ({"method": "random", "weights": {"difficulty": 0.0}}, 0, ""),
    ],
)
def test_a_row_with_too_few_rewards_is_told_what_can_help(options, n, advice):
    row = {"id": "b", "reason": "too_few_rewards", **BARRED, "separability": None, "n_rewards": n}
    found = selection_of([taken("a", 1, 0.5), row])
    last = dataclasses.replace(found, options={**found.options, **options}).explain("b")["story"][-1]
    assert last == f"to be chosen: score more answers (it has {n}){advice}"


@pytest.mark.parametrize("more", [[], ["--weights", "difficulty=1,separability=1"]])
def test_what_a_row_with_too_few_rewards_is_told_makes_it_eligible(run, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    rows = [
        f"q{i},What is {i} of {i}?,oak-{size}b,A{i},{i + size}"
        for i in range(9)
        for size in (1, 7)
        if i + size > 1
    ]
    Path("pool.csv").write_text("\n".join(["id,instruction,model,response,score", *rows]))
    asked = ["select", "pool.csv", "--budget", 3, "--clusters", 0]
    run(*asked, *more, "-o", "chosen")
    last = next(line for line in run("why", "chosen", "q0").out.splitlines() if "to be chosen:" in line)
    advice = shlex.split(re.search(r"or write (--\S+ \S+ and --\S+ [^\s:]+)", last)[1].replace(" and ", " "))
    run(*asked, *advice, "-o", "again")
    assert load_selection("again").explain("q0")["score"] is not None


def test_without_clusters_the_place_is_that_in_the_pool():
    rows = [taken("a", 1, 0.9, cluster=None), {"id": "b", "cluster": None}]
    found = selection_of(rows)
    assert "score 0.5: place 2 of 2 in the pool, which gave 1" in story(found, "b")
    assert "or a `budget` of up to 2" in story(found, "b")
    assert "or `budget` fell below 1" in story(found, "a")
    assert "cluster" not in story(found, "a") + story(found, "b")


def test_an_answer_without_a_reward_is_said_to_have_none():
    told = story(selection_of([taken("a", 1, 0.9, reward=None)]), "a")
    assert "answer to train on: m (no reward; 2 rewards in all)" in told


def test_an_unknown_id_is_named_with_the_size_of_the_pool(small):
    with pytest.raises(InputError, match="id 'nobody' is not in this selection's pool of 10 instructions"):
        small.explain("nobody")


def test_a_selection_is_frozen_and_travels(small):
    with pytest.raises(dataclasses.FrozenInstanceError):
        small.table = None
    assert pickle.loads(pickle.dumps(small)).table.equals(small.table)


# --- of a whole run ------------------------------------------------------------------------------------


@pytest.fixture(
    scope="module", params=[{"clusters": 5, "near_duplicates": 0.7}, {"clusters": 0, "answer": "random"}]
)
def chosen(request, sim) -> Selection:
    with open_pool(sim) as pool:
        return select(pool, Options(budget=31, cache=False, seed=2, **request.param))


def test_every_row_has_a_story_and_its_place_agrees_with_the_choice(chosen):
    places: dict[tuple, list[int]] = {}
    for row in chosen.table.to_pylist():
        told = chosen.explain(row["id"])
        reason = row["reason"].partition(":")[0]
        assert reason in REASONS
        assert all(line and "\n" not in line for line in told["story"])
        json.dumps(told)
        if row["score"] is None:
            assert told["place"] is told["quota"] is told["last"] is told["cluster_size"] is None
        elif reason in {"selected", "below_cut"}:
            places.setdefault((row["cluster"], told["cluster_size"]), []).append(told["place"])
            assert (told["place"] <= told["quota"]) == row["selected"]
            assert told["last"] is None or told["last"]["score"] >= row["score"] or row["selected"]
    for (_, size), found in places.items():
        assert sorted(found) == list(range(1, size + 1))
    quotas = {row["cluster"]: chosen.explain(row["id"])["quota"] for row in chosen.rows()}
    assert sum(quotas.values()) == 31
    if chosen.facts["quotas"]:
        assert {str(cluster): quota for cluster, quota in quotas.items()} == chosen.facts["quotas"]


def test_a_selection_read_back_tells_the_same(chosen, sim, tmp_path):
    with open_pool(sim) as pool:
        folder = export(chosen, pool, tmp_path / "out")
    again = load_selection(folder)
    assert again.table.equals(chosen.table)
    assert again.chosen == chosen.chosen
    assert again.counts() == chosen.counts() == json.loads((folder / "manifest.json").read_text())["counts"]
    for id_ in [*chosen.chosen[:3], *chosen.table["id"].to_pylist()[:20]]:
        assert again.explain(id_) == chosen.explain(id_)


def test_reading_from_a_folder_that_is_no_selection_says_so(tmp_path):
    with pytest.raises(
        InputError, match=r"nothing here: not a crowdselect output folder \(no manifest.json\)"
    ):
        load_selection(tmp_path / "nothing here")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "selection.parquet")
    with pytest.raises(
        InputError,
        match=r"not a crowdselect output folder \(no manifest.json\); pass a folder created by `crowdselect select`",
    ):
        load_selection(tmp_path)


# --- the control ---------------------------------------------------------------------------------------


def by_quota(rows: list[dict], name: str) -> float:
    """What a random choice with the same quotas has on average: each cluster's mean, as often as it gave."""
    total, count = 0.0, 0
    for cluster in {row["cluster"] for row in rows}:
        members = [row for row in rows if row["cluster"] == cluster]
        quota = sum(row["selected"] for row in members)
        total += quota * sum(row[name] for row in members) / len(members)
        count += quota
    return total / count


def test_the_control_is_each_clusters_mean_as_often_as_its_quota(chosen):
    rows = [row for row in chosen.table.to_pylist() if row["score"] is not None]
    found = random_control(chosen, draws=400, seed=1)
    assert set(found) == {"reward", "difficulty", "separability", "stability"}
    for name, control in found.items():
        picked = [row[name] for row in chosen.rows()]
        assert control.chosen == pytest.approx(np.mean(picked))
        if any(row[name] is None for row in rows):  # a random answer may have no reward
            continue
        assert control.random == pytest.approx(by_quota(rows, name), abs=5 * control.spread / math.sqrt(400))
        assert control.spread > 0


def test_the_control_of_a_choice_of_all_is_the_choice():
    rows = [
        taken(f"{at}", at + 1, 1.0 - at, cluster=at % 3, reward=float(at), stability=0.5) for at in range(7)
    ]
    found = random_control(
        selection_of([*rows, {"id": "x", "reason": "excluded", **BARRED, "stability": 9.0}])
    )
    assert found["reward"].chosen == found["reward"].random == 3.0
    assert found["reward"].spread == 0.0
    assert found["stability"].random == 0.5


def test_the_spread_is_that_of_a_draw_without_replacement():
    rows = [{"id": f"{at:02d}", "reward": float(at), "cluster": None} for at in range(20)]
    rows[3] |= taken("03", 1, 0.9)
    rows[5] |= taken("05", 2, 0.8)
    rows = [row | {"cluster": None} for row in rows]
    found = random_control(selection_of(rows), draws=4000)["reward"]
    expected = math.sqrt(np.var(np.arange(20.0)) / 2 * (20 - 2) / (20 - 1))
    assert found.chosen == 4.0
    assert found.random == pytest.approx(9.5, abs=0.3)
    assert found.spread == pytest.approx(expected, rel=0.1)


def test_columns_that_chosen_rows_lack_are_left_out_and_gaps_elsewhere_passed_over():
    rows = [
        taken("a", 1, 0.9, stability=1.0),
        taken("b", 2, 0.8, stability=None),
        {"id": "c", "reward": None},
        {"id": "d", "reward": 5.0},
    ]
    found = random_control(selection_of(rows), draws=50)
    assert set(found) == {"reward", "difficulty", "separability"}
    assert 1.0 <= found["reward"].random <= 3.0


def test_the_spread_of_giant_numbers_is_infinite_without_a_warning():
    rows = [taken("a", 1, 0.9, separability=1e300), {"id": "b", "separability": 1.0}]
    found = random_control(selection_of(rows))["separability"]
    assert (found.chosen, found.spread) == (1e300, math.inf)
    assert found.random == pytest.approx(5e299, rel=0.3)


def test_a_cluster_per_row_takes_no_longer_for_those_that_gave_none():
    rows = [{"id": f"{at:05d}", "cluster": at} for at in range(20_000)]
    rows[7] |= taken("00007", 1, 0.9, cluster=7, reward=3.0)
    assert random_control(selection_of(rows))["reward"].random == 3.0


def test_the_control_is_seeded(chosen):
    assert random_control(chosen, draws=20) == random_control(chosen, draws=20, seed=0)
    assert random_control(chosen, draws=20) != random_control(chosen, draws=20, seed=1)


def test_equal_scores_take_their_place_by_the_hash_of_the_run():
    ids = [f"row {at}" for at in range(12)]
    keys = seeded_hash(ids, seed=9, salt="tie")
    order = [ids[at] for at in np.argsort(keys)]
    rows = [taken(id_, at + 1, 0.5) if at < 4 else {"id": id_} for at, id_ in enumerate(order)]
    selection = selection_of(rows, seed=9)
    assert [selection.explain(id_)["place"] for id_ in order] == list(range(1, 13))
