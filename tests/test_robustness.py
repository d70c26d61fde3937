"""What stays of a selection: every variant against a run of `select` on a pool that is changed by hand."""

import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect import Options, open_pool, select
from crowdselect.compare.robustness import robustness, robustness_page
from crowdselect.compare.variants import AXES, PAPER_WEIGHTS, SIZE_AXES
from crowdselect.crowd import Crowd
from crowdselect.errors import InputError, OptionError
from crowdselect.seeding import content_hash, reseeded

SIZES = (1, 3, 7)
FAMILIES = ("qwen2", "gemma-2", "llama-3")
MODELS = [f"{family}-{size}b" for family in FAMILIES for size in SIZES]
BUDGET = 12


def _rows(n: int = 60, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        vector = rng.normal(size=3).tolist()
        rows += [
            {
                "id": f"i{i:02d}",
                "instruction": f"Do {i}",
                "model": model,
                "vector": vector,
                "kind": f"k{i % 4}",
            }
            | {"score": float(np.round(rng.normal(), 1)), "other": float(rng.integers(0, 4))}
            for model in MODELS
        ]
    return rows


def _open(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return open_pool(path, layout="long")


@pytest.fixture
def pool(tmp_path):
    with _open(tmp_path / "pool.parquet", _rows()) as opened:
        yield opened


def _options(**more) -> Options:
    return Options(
        **{
            "budget": BUDGET,
            "reward": "score",
            "clusters": 3,
            "embedder": "column:vector",
            "cache": False,
            **more,
        }
    )


def _share(chosen, other) -> float:
    return len(set(chosen) & set(other)) / len(chosen)


def _by(found, axis):
    return {variant.name: variant for variant in found.variants if variant.axis == axis}


def test_the_selection_itself_is_that_of_select(pool):
    for options in (
        _options(),
        _options(clusters=0),
        _options(cluster_by="kind"),
        _options(near_duplicates=0.8),
    ):
        found = robustness(pool, options, bootstraps=0, seeds=0, clusters=())
        assert sorted(select(pool, options).chosen) == list(found.chosen)
        assert found.eligible == 60
        assert found.chance == BUDGET / 60


@pytest.mark.parametrize("clusters", [0, 3])
def test_without_a_model_or_a_family_is_a_run_without_its_rows(pool, tmp_path, clusters):
    options = _options(clusters=clusters)
    found = robustness(pool, options, bootstraps=0, seeds=0, clusters=())
    assert sorted(_by(found, "model")) == sorted(MODELS)
    family_of = {m.name: m.family for m in _members(pool)}
    for axis, name, gone in [
        *(("model", model, {model}) for model in MODELS[:3]),
        *(
            ("family", family, {m for m in MODELS if family_of[m] == family})
            for family in set(family_of.values())
        ),
    ]:
        rows = [row for row in _rows() if row["model"] not in gone]
        with _open(tmp_path / "less.parquet", rows) as less:
            wanted = select(less, options).chosen
        variant = _by(found, axis)[name]
        assert variant.kept == _share(found.chosen, wanted)
        assert variant.jaccard == pytest.approx(
            len(set(found.chosen) & set(wanted)) / len(set(found.chosen) | set(wanted))
        )


def _members(pool):
    return Crowd.from_names(pool.models).members


def test_other_rewards_weights_clusters_and_seeds_are_runs_with_those_options(pool):
    options = _options()
    found = robustness(pool, options, bootstraps=0, seeds=2, clusters=(0, 3, 5))
    assert set(_by(found, "reward")) == {"other"}
    assert _by(found, "reward")["other"].kept == _share(
        found.chosen, select(pool, replace(options, reward="other")).chosen
    )
    assert len(_by(found, "weights")) == len(PAPER_WEIGHTS) - 1  # one of them is the selection's own
    for numbers in PAPER_WEIGHTS:
        name = ", ".join(f"{number:g}" for number in numbers)
        if name in _by(found, "weights"):
            weights = dict(zip(("difficulty", "separability", "stability"), numbers, strict=True))
            assert _by(found, "weights")[name].kept == _share(
                found.chosen, select(pool, replace(options, weights=weights)).chosen
            )
    assert set(_by(found, "clusters")) == {"none", "5"}
    for name, k in (("none", 0), ("5", 5)):
        assert _by(found, "clusters")[name].kept == _share(
            found.chosen, select(pool, replace(options, clusters=k)).chosen
        )
    for seed in (1, 2):
        assert _by(found, "seed")[str(seed)].kept == _share(
            found.chosen, select(pool, replace(options, seed=seed)).chosen
        )


def test_a_bootstrap_crowd_is_the_drawn_models_and_depends_on_the_seed_alone(pool):
    first = robustness(pool, _options(), bootstraps=8, seeds=0, clusters=())
    again = robustness(pool, _options(), bootstraps=8, seeds=0, clusters=())
    assert first == again
    kept = [variant.kept for variant in _by(first, "crowd").values()]
    assert len(kept) == 8
    assert len(set(kept)) > 1
    assert all(0 <= share <= 1 for share in kept)


def test_what_matters_nothing_keeps_everything(tmp_path):
    rows = [
        {**row, "score": float(int(row["id"][1:])), "other": 7 * float(int(row["id"][1:]))} for row in _rows()
    ]
    with _open(tmp_path / "flat.parquet", rows) as pool:
        found = robustness(
            pool, _options(weights={"difficulty": 1}, clusters=0), bootstraps=3, seeds=1, clusters=()
        )
    for axis in ("model", "crowd", "reward", "seed"):
        assert all(variant.kept == 1 and variant.jaccard == 1 for variant in _by(found, axis).values())


def test_what_cannot_be_made_says_why_and_is_counted(tmp_path):
    rows = [row for row in _rows() if row["model"].startswith("qwen2") or row["model"] == "gemma-2-1b"]
    with _open(tmp_path / "few.parquet", rows) as pool:
        found = robustness(pool, _options(answer="model:qwen2-7b"), bootstraps=0, seeds=0, clusters=(99,))
        variant = next(v for v in found.variants if v.axis == "family" and "wen" in v.name)
        assert (variant.kept, variant.jaccard) == (None, None)
        assert "no model family has two sizes" in variant.why
        assert "no model 'qwen2-7b' in the pool to teach" in _by(found, "model")["qwen2-7b"].why
        assert "99 clusters are more than the 60 eligible" in _by(found, "clusters")["99"].why
        told = {row["axis"]: row for row in found.summary()}
        assert told["model"]["failed"] == 1
        assert told["model"]["variants"] == 3
        assert "clusters" not in told
        page = robustness_page(found)
        assert "in the pool to teach" in page
        with pytest.raises(OptionError, match="stability has a weight"):
            robustness(pool, _options(), crowd=_unknown(pool), bootstraps=0, seeds=0)


def _unknown(pool):
    from crowdselect.crowd import Crowd, Member

    return Crowd(tuple(Member(name, None, None, "unknown") for name in pool.models))


def test_the_summary_puts_first_what_matters_most(pool):
    found = robustness(pool, _options(), bootstraps=4, seeds=2, clusters=(0,))
    rows = found.summary()
    assert [row["kept"] for row in rows] == sorted(row["kept"] for row in rows)
    assert {row["axis"] for row in rows} == set(AXES)
    for row in rows:
        own = [v.kept for v in found.variants if v.axis == row["axis"]]
        assert row["kept"] == pytest.approx(np.mean(own))
        assert row["lowest"] == min(own)
    assert json.loads(json.dumps(found.as_dict()))["summary"][0]["axis"] == rows[0]["axis"]
    with pytest.raises(OptionError, match="`bootstraps` is -1; wanted at least 0"):
        robustness(pool, _options(), bootstraps=-1)


def test_the_command(run, pool, tmp_path):
    common = ("robustness", pool.path, "--reward", "score", "--budget", BUDGET, "--clusters", 3)
    few = ("--embedder", "column:vector", "--bootstraps", 2, "--seeds", 1, "--try-clusters", "0,4")
    ran = run(*common, *few, "-o", tmp_path / "r.html")
    assert ran.code == 0, ran.err
    assert re.search(r"without one model +9 ", ran.out)
    assert "a random choice would keep 20.0% (60 eligible instructions)" in ran.out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "<script" not in page
    told = json.loads(run(*common, *few, "--json").out)
    assert {variant["axis"] for variant in told["variants"]} == set(AXES)
    assert run(*common, *few, "-o", tmp_path / "r.html").out.startswith("up to date: ")
    run(*common, *few, "--seed", 7, "-o", tmp_path / "r.html").refuses("--seed was 0", "--overwrite")
    run(*common, "--try-clusters", "a,b").refuses("--try-clusters a,b is not a list of whole numbers")
    run(*common, "-o", tmp_path / "r.txt").refuses("name a file that ends in .html")


def test_names_on_the_page_are_text(tmp_path):
    evil = "<script>alert(1)</script>-7b"
    rows = [{**row, "model": evil if row["model"] == "qwen2-7b" else row["model"]} for row in _rows(20)]
    with _open(tmp_path / "evil.parquet", rows) as pool:
        found = robustness(pool, _options(budget=4), bootstraps=0, seeds=0, clusters=())
    page = robustness_page(found)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;-7b" in page


@pytest.mark.parametrize("samples", [1, 2])
def test_a_smaller_crowd_is_a_run_on_its_answers_alone(tmp_path, samples):
    rows = [
        {**row, "sample": sample, "score": row["score"] + sample / 8}
        for row in _rows(40)
        for sample in range(samples)
    ]
    options = _options(clusters=0, weights={"difficulty": 1.0, "separability": 1.0, "stability": 0.0})
    options = replace(options, keep=("best_reward=20%..",))
    with _open(tmp_path / "pool.parquet", rows) as pool:
        found = robustness(pool, options, bootstraps=0, seeds=0, clusters=(), crowd_sizes=True)
        again = robustness(pool, options, bootstraps=0, seeds=0, clusters=(), crowd_sizes=True)
        models, hashes = pool.models, content_hash(pool.id_array)
        ids = [str(i) for i in pool.ids]
    assert found == again
    assert [row["models"] for row in found.sizes()] == list(range(2, 9))
    assert found.sizes() != robustness_sizes(tmp_path, rows, replace(options, seed=1))
    for size in (2, 6):
        keys = np.stack(
            [reseeded(hashes, seed=m, salt=f"cells {size} 0 3") for m in range(len(models))], axis=1
        )
        kept = {i: {models[m] for m in np.argsort(own)[:size]} for i, own in zip(ids, keys, strict=True)}
        assert len({frozenset(own) for own in kept.values()}) > 10
        few = [row for row in rows if row["model"] in kept[row["id"]]]
        with _open(tmp_path / "few.parquet", few) as less:
            wanted = select(less, options).chosen
        variant = _by(found, "of_cells")[f"{size} of 9, draw 3"]
        assert variant.kept == _share(found.chosen, wanted)
    row = found.sizes()[0]
    own = [v.kept for v in found.variants if v.axis == "of_models" and v.size == 2]
    assert row["models"] == 2
    assert row["of_models"] == {
        "kept": pytest.approx(np.mean(own)),
        "lowest": min(own),
        "highest": max(own),
        "failed": 0,
    }


def robustness_sizes(tmp_path, rows, options):
    """The sizes with other options."""
    with _open(tmp_path / "other.parquet", rows) as pool:
        return robustness(pool, options, bootstraps=0, seeds=0, clusters=(), crowd_sizes=True).sizes()


def test_sizes_of_a_crowd_by_the_command(run, pool, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    common = ("robustness", pool.path, "--reward", "score", "--budget", BUDGET, "--clusters", 0)
    few = ("--bootstraps", 0, "--seeds", 0, "--try-clusters", "", "--crowd-sizes")
    ran = run(*common, *few, "-o", tmp_path / "r.html")
    assert ran.code == 0, ran.err
    heads = ["models   the same for all rows   others for each row"]
    assert [line.strip() for line in ran.out.split("\n") if line.strip().startswith("models ")] == heads
    assert "(lowest to highest of the draws); all 9 models keep 100%" in " ".join(ran.out.split())
    said = ran.out.split("\n\nmake this choice:")[0].split("\n")
    assert max(len(line) for line in said if str(tmp_path) not in line) <= 80
    assert "--crowd-sizes" not in ran.out  # select, which is proposed next, does not have it
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 2
    assert "How large the crowd has to be" in page
    told = json.loads(run(*common, *few, "--json").out)
    assert [row["models"] for row in told["sizes"]] == list(range(2, 9))
    assert set(SIZE_AXES) <= {variant["axis"] for variant in told["variants"]}
    assert "How large" not in robustness_page(
        robustness(pool, _options(), bootstraps=0, seeds=0, clusters=())
    )


PRICES = {
    "qwen2-1b": (1, 4),
    "gemma-2-3b": (2, 1),
    "llama-3-7b": (1, 4),
    "gemma-2-1b": (0, 4),
    "qwen2-7b": (0, 9),
}


def _priced(folder, prices=PRICES):
    """A crowd file with prices of some models."""
    tables = [
        f"[[model]]\nname = '{model}'\n"
        + (
            f"price_in = {prices[model][0]}\nprice_out = {prices[model][1]}\n"
            if model in prices
            else "price_in = 0\n"
        )
        for model in MODELS
    ]
    (folder / "crowd.toml").write_text("\n".join(tables))
    return Crowd.from_file(folder / "crowd.toml")


def test_the_cheapest_models_are_runs_with_these_alone(tmp_path):
    rows = [row | {"cost": 0.25 if row["model"] != "qwen2-7b" else None} for row in _rows()]
    options, crowd = _options(clusters=0, weights={"difficulty": 1.0}), _priced(tmp_path)
    with _open(tmp_path / "costly.parquet", rows) as pool:
        found = robustness(pool, options, crowd=crowd, bootstraps=0, seeds=0, clusters=(), crowd_sizes=True)
    # By the price of answers, then of prompts, then by name; half a price is none.
    order = ["gemma-2-3b", "gemma-2-1b", "llama-3-7b", "qwen2-1b", "qwen2-7b"]
    assert [row["names"] for row in found.cheapest()] == [order[:size] for size in (2, 3, 4, 5)]
    assert [row["added"] for row in found.cheapest()] == [order[:2], *([name] for name in order[2:])]
    assert [row["cost"] for row in found.cheapest()] == [30.0, 45.0, 60.0, None]
    assert found.as_dict()["cheapest"] == found.cheapest()
    for row in found.cheapest():
        few = [one for one in rows if one["model"] in row["names"]]
        with _open(tmp_path / "few.parquet", few) as less:
            assert row["kept"] == _share(found.chosen, select(less, options, crowd=crowd).chosen)
    page = robustness_page(found)
    assert page.count("<circle") == 4
    assert "<title>gemma-2-3b, gemma-2-1b: " in page


def test_without_two_prices_there_is_no_order_by_price(pool, tmp_path):
    few = {"bootstraps": 0, "seeds": 0, "clusters": (), "crowd_sizes": True}
    for crowd in (None, _priced(tmp_path, {"qwen2-1b": (1, 1)})):
        found = robustness(pool, _options(), crowd=crowd, **few)
        assert found.cheapest() == []
        assert "cheapest" not in robustness_page(found)


def test_prices_of_the_defaults_local_models_and_aliases(tmp_path):
    (tmp_path / "crowd.toml").write_text(
        "[defaults]\nprice_out = 2\n[[model]]\nname = 'a-1b'\nprice_in = 1\naliases = ['a']\n"
        "[[model]]\nname = 'b-1b'\n[[model]]\nname = 'c-1b'\nlocal = 'folder'\nprice_out = 0"
    )
    crowd = Crowd.from_file(tmp_path / "crowd.toml").aligned(["a", "b-1b", "c-1b"])[0]
    assert [crowd.price(name) for name in crowd.names] == [(1.0, 2.0), None, (0.0, 0.0)]
    for wrong in ("'free'", "-1", "true", "nan", "inf"):
        (tmp_path / "crowd.toml").write_text(f"[[model]]\nname = 'a-1b'\nprice_in = {wrong}")
        with pytest.raises(InputError, match="model 'a-1b': price_in must be a number of at least 0"):
            Crowd.from_file(tmp_path / "crowd.toml")


def test_the_cheapest_models_by_the_command(run, pool, tmp_path):
    _priced(tmp_path)
    common = ("robustness", pool.path, "--reward", "score", "--budget", BUDGET, "--clusters", 0)
    few = (
        "--bootstraps",
        0,
        "--seeds",
        0,
        "--try-clusters",
        "",
        "--crowd-sizes",
        "--crowd",
        tmp_path / "crowd.toml",
    )
    ran = run(*common, *few, "--weights", "difficulty=1")
    assert ran.code == 0, ran.err
    assert "kept with the cheapest models, by the prices of the crowd file" in " ".join(ran.out.split())
    assert "gemma-2-3b, gemma-2-1b" in ran.out
