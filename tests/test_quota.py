"""Quotas by a column: strata chosen together are strata chosen alone, whatever the method, files and order of rows."""

import json
import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.compare.robustness import robustness
from crowdselect.compare.selections import compare
from crowdselect.engine.here import run_here
from crowdselect.errors import BudgetError, InputError, OptionError
from crowdselect.methods import method_named
from crowdselect.selection.quota import read_quota
from crowdselect.selection.selection import random_control

MODELS = ("qwen2-1b", "qwen2-7b", "gemma-2-2b", "gemma-2-9b")
SOURCES = ("web", "web", "web", "forum", "forum", "exam", None, "tiny")
N = 64
NASTY = ("a:0.5", "x,y", "k=v", "rest", "<b>&", "(missing)", "\u00e9\U0001f600", "\x1b[31m")


def rows_of(sources=SOURCES, *, n=N, seed=0, **more):
    """Instructions with a source each, in turn; `tiny` has a single one. Rewards are no function of it."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        source = sources[i % len(sources)]
        if source == "tiny" and i >= len(sources):
            source = "web"
        known = {
            "id": f"i{i:03}",
            "instruction": f"Say {rng.integers(10**9)} " + "word " * int(rng.integers(1, 9)),
            "source": source,
            "tags": ", ".join(f"t{tag}" for tag in rng.integers(0, 12, 3)),
            "mark": float(np.round(rng.normal(), 1)),
            "vector": np.round(rng.normal(size=3), 3).tolist(),
        } | {name: value(i) for name, value in more.items()}
        rows += [
            {**known, "model": model, "response": f"answer {i}", "score": float(np.round(rng.normal(), 1))}
            for model in MODELS
        ]
    return rows


def written(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def pool(tmp_path):
    with open_pool(written(tmp_path / "pool.parquet", rows_of())) as opened:
        yield opened


def options(**more):
    usual = {
        "budget": 20,
        "quota": "source=equal",
        "clusters": 0,
        "embedder": "column:vector",
        "cache": False,
    }
    return Options(**usual | more)


def strata(selection):
    return {
        one["name"]: (one["eligible"], one["asked"], one["got"]) for one in selection.facts["quota"]["strata"]
    }


def chosen_by(selection):
    found = {}
    for row in selection.rows():
        found.setdefault(row["stratum"], set()).add(row["id"])
    return found


def of_source(pool, source):
    return [i for i, value in zip(pool.ids, pool.column("source"), strict=True) if value == source]


def test_equal_shares_are_filled_up_and_who_falls_short_is_named(pool):
    found = select(pool, options(budget=41))
    # 8 of each are 40 places; exam and the missing have 8 rows, tiny 1: what is left goes to the others.
    assert strata(found) == {
        "exam": (8, 9, 8),
        "forum": (16, 8, 12),
        "tiny": (1, 8, 1),
        "web": (31, 8, 12),
        "(missing)": (8, 8, 8),
    }
    assert [note for note in found.facts["notes"] if "quota" in note] == [
        "`quota`: too few rows of source tiny 1 of 8, exam 8 of 9; 8 places went to the others"
    ]
    assert sum(map(len, chosen_by(found).values())) == len(found.chosen) == 41


def test_proportional_shares_are_the_mix_of_what_can_be_chosen(pool):
    found = select(pool, options(quota="source=proportional", keep="best_reward=40%.."))
    counts = {name: sum(1 for _ in of) for name, of in _eligible(found).items()}
    for name, (eligible, asked, got) in strata(found).items():
        assert eligible == counts[name]
        assert asked == got
        assert abs(Fraction(20 * eligible, sum(counts.values())) - got) < 1
    assert not found.facts["notes"]


def _eligible(found):
    out = {}
    for row in found.table.filter(pa.array(found.eligible)).to_pylist():
        out.setdefault(row["stratum"], []).append(row["id"])
    return out


def test_named_shares_and_the_rest(pool):
    found = select(pool, options(quota="source=web:0.5, forum:0.3,rest:0.2"))
    assert strata(found) == {"forum": (16, 6, 6), "web": (31, 10, 10), "rest": (17, 4, 4)}
    # In whatever order they are named, and without what has no part in it.
    again = select(pool, options(quota="source=rest:1/5,forum:3/10,web:1/2"))
    assert again.table.equals(found.table)


def test_values_without_a_share_get_no_place(pool):
    found = select(pool, options(budget=15, quota="source=forum:0.5,(missing):0.5"))
    assert strata(found) == {"forum": (16, 8, 8), "(missing)": (8, 7, 7)}
    assert found.counts()["no_quota"] == N - 24
    barred = found.explain(of_source(pool, "web")[0])
    assert barred["story"][-1] == "to be chosen: give its value a share in `quota`, or `rest` one"
    with pytest.raises(BudgetError, match=r"24 instructions are eligible; not eligible: 40 no_quota"):
        select(pool, options(budget=25, quota="source=forum:0.5,(missing):0.5"))
    full = select(pool, options(budget=24, quota="source=forum:0.1,(missing):0.9"))
    assert strata(full) == {"forum": (16, 2, 16), "(missing)": (8, 22, 8)}


def test_a_value_without_eligible_rows_falls_short_of_all(pool, tmp_path):
    (tmp_path / "out.txt").write_text("\n".join(of_source(pool, "exam")))
    found = select(pool, options(quota="source=exam:0.5,rest:0.5", exclude=str(tmp_path / "out.txt")))
    assert strata(found) == {"exam": (0, 10, 0), "rest": (56, 10, 20)}


def test_fewer_places_than_values(pool):
    found = select(pool, options(budget=2))
    assert {name: got for name, (_, _, got) in strata(found).items() if got} == {"exam": 1, "forum": 1}
    assert "3 of the 5 values of source get no row: `budget` is too small for them" in found.warnings


METHODS = [
    ("random", {}),
    ("length", {}),
    ("reward:down", {}),
    ("column:mark", {}),
    ("tags:tags", {}),
    ("deita:mark,score", {"near_duplicates": 0.9}),
    ("facility-location", {}),
    ("easy", {}),
]


@pytest.mark.parametrize("quota", ["source=equal", "source=proportional", "source=web:0.1,exam:0.4,rest:0.5"])
@pytest.mark.parametrize(("method", "more"), METHODS)
def test_strata_chosen_together_are_strata_chosen_alone(method, more, quota, pool, tmp_path):
    found = select(pool, options(quota=quota, **more), method=method_named(method))
    assert len(found.chosen) == 20
    together = chosen_by(found)
    for name, (_, _, got) in strata(found).items():
        if got:
            ids = [row["id"] for row in found.table.to_pylist() if row["stratum"] == name]
            (tmp_path / "in.txt").write_text("\n".join(ids))
            alone = options(budget=got, quota=None, include=str(tmp_path / "in.txt"), **more)
            assert set(select(pool, alone, method=method_named(method)).chosen) == together[name]


@pytest.mark.parametrize(
    ("clusters", "by"), [(4, {}), (0, {"cluster_by": "kind"}), (0, {"cluster_by": "mark:3"})]
)
def test_clusters_share_out_the_places_of_each_stratum(clusters, by, tmp_path):
    rows = rows_of(kind=lambda i: f"k{i % 3}")
    numbers = written(
        tmp_path / "numbers.parquet", [{"id": row["id"], "mark": row["mark"]} for row in rows[:: len(MODELS)]]
    )
    rows = [{name: value for name, value in row.items() if name != "mark"} for row in rows]
    with open_pool(written(tmp_path / "clustered.parquet", rows)) as pool:
        found = select(pool, options(clusters=clusters, metrics=str(numbers), **by))
    table = found.table.filter(pa.array(found.eligible)).to_pylist()
    for name, (_, _, got) in strata(found).items():
        cells = {}
        for row in table:
            if row["stratum"] == name:
                cells.setdefault(row["cluster"], []).append(row)
        taken = {cell: sum(row["selected"] for row in members) for cell, members in cells.items()}
        assert sum(taken.values()) == got
        for cell, members in cells.items():
            assert taken[cell] >= max(taken.values()) - 1 or taken[cell] == len(members)
            worst = min((row["score"] for row in members if row["selected"]), default=math.inf)
            assert all(row["score"] <= worst for row in members if not row["selected"])
    per_cluster = {str(row["cluster"]): 0 for row in table}
    for row in found.rows():
        per_cluster[str(row["cluster"])] += 1
    assert found.facts["quotas"] == per_cluster


def test_a_quota_instead_of_clusters_by_the_same_column(tmp_path):
    rows = rows_of(("a", "b", "c", "d"))
    with open_pool(written(tmp_path / "even.parquet", rows)) as pool:
        by_quota = select(pool, options(quota="source=equal"))
        by_cluster = select(pool, options(quota=None, cluster_by="source"))
        both = select(pool, options(quota="source=equal", cluster_by="source"))
    assert by_quota.chosen == by_cluster.chosen == both.chosen


def test_duplicates_in_several_strata_count_where_the_best_of_them_is(tmp_path):
    rows = rows_of(("a", "b"), n=12)
    for row in rows:
        number = int(row["id"][1:])
        row["instruction"] = f"Say {number - number % 2}"  # every text twice, once in each
        row["mark"] = float(number if number < 8 else -number)
    with open_pool(written(tmp_path / "twice.parquet", rows)) as pool:
        found = select(pool, options(budget=6), method=method_named("column:mark"))
        assert strata(found) == {"a": (2, 3, 2), "b": (4, 3, 4)}
        with pytest.raises(BudgetError, match="6 is the most"):
            select(pool, options(budget=7))
    assert found.counts()["duplicate_of"] == 6


def test_near_duplicates_are_no_room(tmp_path):
    rows = rows_of(("a", "b"), n=12, vector=lambda i: [1.0, 0.0] if i % 2 else [1.0, float(i)])
    with open_pool(written(tmp_path / "near.parquet", rows)) as pool:
        found = select(pool, options(budget=4, near_duplicates=0.99))
    assert [got for _, _, got in strata(found).values()] == [3, 1]
    assert "`quota`: too few rows of source b 1 of 2; 1 place went to the others" in found.facts["notes"]
    assert found.counts()["near_duplicate_of"] >= 1


@pytest.mark.parametrize("method", ["crowd", "random", "tags:tags", "column:mark", "easy"])
@pytest.mark.parametrize(
    "more", [{}, {"clusters": 3, "near_duplicates": 0.8}, {"quota": "source=web:0.25,rest:0.75"}]
)
def test_files_and_the_order_of_rows_change_nothing(method, more, pool, tmp_path):
    whole = select(pool, options(**more), method=method_named(method))
    table, rng = pq.read_table(tmp_path / "pool.parquet"), np.random.default_rng(1)
    mixed = table.take(rng.permutation(len(table)))
    with open_pool(written(tmp_path / "mixed.parquet", mixed.to_pylist())) as other:
        assert select(other, options(**more), method=method_named(method)).table.equals(whole.table)
    folder = tmp_path / "cut"
    folder.mkdir()
    part = np.array([int(i[1:]) * 7 % 5 for i in mixed["id"].to_pylist()])
    for number in range(5):
        pq.write_table(mixed.filter(pa.array(part == number)), folder / f"{number}.parquet")
    with open_pool(folder) as other:
        there = select(other, options(**more), method=method_named(method), run=run_here)
    assert there.table.equals(whole.table)
    assert there.facts["quota"] == whole.facts["quota"]
    assert there.warnings == whole.warnings


def test_a_budget_of_all_takes_all(pool):
    for quota in ("source=equal", "source=proportional", "source=exam:0.01,rest:0.99"):
        assert sorted(select(pool, options(budget=N, quota=quota)).chosen) == pool.ids.tolist()


@pytest.mark.parametrize("nasty", NASTY)
def test_odd_values_can_be_named_and_are_shown(nasty, tmp_path):
    rows = rows_of((nasty, "plain"))
    with open_pool(written(tmp_path / "odd.parquet", rows)) as pool:
        equal = select(pool, options(budget=9))
        assert strata(equal) == {"plain": (32, 5, 5), nasty: (32, 4, 4)} or strata(equal) == {
            nasty: (32, 5, 5),
            "plain": (32, 4, 4),
        }
        named = select(pool, options(budget=10, quota=f"source={nasty}:0.8,plain:0.2"))
        assert strata(named)[nasty] == (32, 8, 8)
        folder = export(named, pool, tmp_path / "out")
    assert load_selection(folder).table.equals(named.table)
    card = (folder / "README.md").read_text()
    assert "## Rows by `source`" in card
    assert "\x1b" not in card
    row = named.rows()[0]
    assert any(
        f"source {row['stratum']}" in line for line in load_selection(folder).explain(row["id"])["story"]
    )


def test_rest_is_all_that_has_no_share_and_the_value_rest_is_of_it(tmp_path):
    with open_pool(written(tmp_path / "rest.parquet", rows_of(("rest", "a", "b", None)))) as pool:
        found = select(pool, options(quota="source=a:0.4,rest:0.6"))
    assert strata(found) == {"a": (16, 8, 8), "rest": (48, 12, 12)}


@pytest.mark.parametrize(
    ("quota", "message"),
    [
        ("source", "is of another form; wanted COLUMN=equal, COLUMN=proportional or shares"),
        ("=equal", "is of another form"),
        ("source=", "is of another form"),
        ("source=eqaul", "is of another form"),
        ("source=a:x", "is of another form"),
        ("source=a:0.5,b", "is of another form"),
        ("source=:1", "is of another form"),
        ("source=a:-0.5,b:1.5", r"add up to 1\.5; wanted 1$"),
        ("source=a:1e9999999", "is of another form"),
        ("source=a:nan", "is of another form"),
        ("source=a:1/0", "is of another form"),
        ("source=a:0,b:1", "the share of 'a' is 0"),
        ("source=a:0.5,a:0.5", "names 'a' twice"),
        ("source=a:0.5,b:0.3", r"add up to 0\.8; wanted 1, as with rest:0\.2"),
        ("source=a:0.5,rest:0.3", r"add up to 0\.8; wanted 1$"),
        ("source=a:0.5,b:0.6", r"add up to 1\.1; wanted 1$"),
    ],
)
def test_a_rule_that_is_none_is_refused(quota, message):
    with pytest.raises(OptionError, match=message):
        Options(budget=5, quota=quota)


def test_a_column_or_a_value_that_is_not_there_is_refused(pool):
    with pytest.raises(OptionError, match="no row has the source 'wbe'; did you mean 'web'"):
        select(pool, options(quota="source=wbe:0.5,rest:0.5"))
    with pytest.raises(OptionError, match="no row has the source 'zzzz'; there are: "):
        select(pool, options(quota="source=zzzz:0.5,rest:0.5"))
    with pytest.raises(InputError, match="no column 'sauce'"):
        select(pool, options(quota="sauce=equal"))
    with pytest.raises(OptionError, match="score holds rewards"):
        select(pool, options(quota="score=equal"))
    with pytest.raises(InputError, match="differs within id"):
        select(pool, options(quota="model=equal"))


def test_shares_are_exact():
    assert read_quota("s=a:0.1,b:0.2,c:0.7").shares == {
        "a": Fraction(1, 10),
        "b": Fraction(1, 5),
        "c": Fraction(7, 10),
    }
    assert read_quota("s=a:1/3,b:1/3,c:1/3").shares["a"] == Fraction(1, 3)
    assert read_quota(None) is None


def test_why_names_the_quota(pool):
    found = select(pool, options(clusters=3))
    row = next(
        row for row in found.table.to_pylist() if row["reason"] == "below_cut" and row["stratum"] == "web"
    )
    told = found.explain(row["id"])
    assert (
        "the quota of source web is 4 of the 20 rows; it got 5, of 31 that could be chosen" in told["story"]
    )
    members = [
        other
        for other in found.table.to_pylist()
        if other["stratum"] == "web" and other["cluster"] == row["cluster"]
    ]
    assert told["cluster_size"] == len(members)
    assert told["quota"] == sum(other["selected"] for other in members)
    assert f"in cluster {row['cluster']} of source web, which gave {told['quota']}" in " ".join(told["story"])


def by_source(rows, rewards):
    """Rewards that hang on the source alone."""
    return [{**row, "score": rewards[row["source"]]} for row in rows]


def test_random_controls_draw_by_the_same_quota(tmp_path):
    rows = by_source(rows_of(("web", "forum", "exam")), {"web": 1.0, "forum": 2.0, "exam": 5.0})
    quota = "source=web:0.2,forum:0.2,exam:0.6"
    with open_pool(written(tmp_path / "by-source.parquet", rows)) as pool:
        found = select(pool, options(quota=quota, keep="rewards=1.."), method=method_named("random"))
        control = random_control(found)["reward"]
        assert (control.chosen, control.spread) == (pytest.approx(3.6), 0.0)
        assert control.random == pytest.approx(3.6)
        export(found, pool, tmp_path / "a")
        export(
            select(pool, options(seed=1, quota=quota), method=method_named("reward")), pool, tmp_path / "b"
        )
        free = compare([str(tmp_path / "a"), str(tmp_path / "b")], cache=False)
    assert free.random.endswith("with its answers and its quota")
    assert free.random_mixes["source"] == {"exam": 0.6, "forum": 0.2, "web": 0.2}
    assert all(side.quota == quota for side in free.sides)
    sizes = {"web": (4, 22), "forum": (4, 21), "exam": (12, 21)}
    assert free.expected[0, 1] == pytest.approx(sum(got * got / all_ for got, all_ in sizes.values()))


def test_robustness_is_by_the_same_quota(pool, tmp_path):
    wanted = options(quota="source=web:0.1,exam:0.4,rest:0.5", clusters=3, weights={"difficulty": 1.0})
    found = robustness(pool, wanted, bootstraps=0, seeds=1, clusters=(0,))
    whole = select(pool, wanted)
    assert list(found.chosen) == sorted(whole.chosen)
    assert found.chance == pytest.approx(
        sum(got / 20 * got / eligible for eligible, _, got in strata(whole).values())
    )
    for variant in found.variants:
        if variant.axis == "model":
            rows = [row for row in rows_of() if row["model"] != variant.name]
            with open_pool(written(tmp_path / "less.parquet", rows)) as less:
                other = select(less, wanted)
            assert variant.kept == len(set(other.chosen) & set(whole.chosen)) / 20
    kept = {variant.name: variant.kept for variant in found.variants if variant.axis in {"clusters", "seed"}}
    for name, more in (("none", {"clusters": 0}), ("1", {"seed": 1})):
        other = select(
            pool, options(quota=wanted.quota, weights={"difficulty": 1.0}, **{"clusters": 3, **more})
        )
        assert kept[name] == len(set(other.chosen) & set(whole.chosen)) / 20


def test_a_method_that_reads_clusters_is_tried_with_the_clusters_of_the_variant(pool):
    wanted, method = options(clusters=4), method_named("tags:tags")
    found = robustness(pool, wanted, method=method, bootstraps=0, seeds=0, clusters=(0, 2))
    kept = {variant.name: variant.kept for variant in found.variants if variant.axis == "clusters"}
    whole = set(select(pool, wanted, method=method).chosen)
    for name, k in (("none", 0), ("2", 2)):
        assert kept[name] == len(whole & set(select(pool, options(clusters=k), method=method).chosen)) / 20


def test_compare_shows_the_mix_of_the_column(tmp_path):
    rows = rows_of(kind=lambda i: f"k{i % 3}")
    with open_pool(written(tmp_path / "kinds.parquet", rows)) as pool:
        for seed in (0, 1):
            found = select(
                pool,
                options(quota="kind=k0:0.2,k1:0.2,k2:0.6", seed=seed),
                method=method_named("column:mark"),
            )
            export(found, pool, tmp_path / f"{seed}")
        mixes = compare([str(tmp_path / "0"), str(tmp_path / "1")], cache=False).random_mixes
    assert mixes["kind"] == {"k2": 0.6, "k0": 0.2, "k1": 0.2}


def test_bins_of_a_number_are_made_anew_from_every_crowd(pool, tmp_path):
    wanted = options(quota=None, cluster_by="difficulty:4", weights={"separability": 1.0})
    found = robustness(pool, wanted, bootstraps=0, seeds=0, clusters=())
    whole, tried = set(select(pool, wanted).chosen), 0
    for variant in found.variants:
        if variant.axis == "model":
            rows = [row for row in rows_of() if row["model"] != variant.name]
            with open_pool(written(tmp_path / "less.parquet", rows)) as less:
                assert variant.kept == len(whole & set(select(less, wanted).chosen)) / 20
            tried += 1
    assert tried == len(MODELS)


def test_the_command_line(run, pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = ("select", "pool.parquet", "--budget", 20, "--clusters", 0, "--weights", "difficulty=1")
    quota = ("--quota", "source=web:0.5,forum:0.3,rest:0.2")
    ran = run(*asked, *quota, "-o", "out")
    assert ran.code == 0
    assert "Rows by source" in ran.out
    assert f"{' '.join(quota)} --budget 20 --method random -o out-random" in ran.out
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["options"]["quota"] == quota[1]
    assert {one["name"]: one["got"] for one in manifest["facts"]["quota"]["strata"]} == {
        "forum": 6,
        "web": 10,
        "rest": 4,
    }
    assert "the quota of source web is 10 of the 20 rows" in run("why", "out", manifest_first(tmp_path)).out
    assert "up to date" in run(*asked, *quota, "-o", "out").out
    run(*asked, "--quota", "source=equal", "-o", "out").refuses(
        "--quota was source=web:0.5,forum:0.3,rest:0.2"
    )


def manifest_first(folder):
    table = pq.read_table(
        folder / "out/selection.parquet", filters=[("stratum", "=", "web"), ("selected", "=", True)]
    )
    return table["id"][0].as_py()


@pytest.mark.extra
def test_the_report_shows_every_quota(pool, tmp_path):
    for name in ("altair", "vl_convert", "budoux"):
        pytest.importorskip(name, exc_type=ImportError)
    from crowdselect.report.data import ReportData
    from crowdselect.report.report import write_report

    found = select(pool, options(budget=41, clusters=3))
    export(found, pool, tmp_path / "run")
    run_data = ReportData(load_selection(tmp_path / "run"), pool)
    write_report(run_data, tmp_path / "report.html", method="none")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The quota is <code>source=equal</code>" in page
    assert '<th scope="row">tiny</th><td class="n">1</td><td class="n">8</td><td class="n">1</td>' in page
    assert "of source web, which gave" in page
    for row, place in enumerate(run_data.standing.place.tolist()):
        if place:
            told = found.explain(run_data.ids[row])
            assert (place, int(run_data.standing.size[row])) == (told["place"], told["cluster_size"])
            assert int(run_data.standing.quota[row]) == told["quota"]
