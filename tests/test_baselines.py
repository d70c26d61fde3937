"""The methods to compare with: each against a plain computation of its own, and all of them as `select` does it."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import manifest, train
from crowdselect import Options, open_pool, select
from crowdselect.errors import InputError, OptionError
from crowdselect.methods import METHODS
from crowdselect.methods.column import by_column
from crowdselect.methods.deita import deita
from crowdselect.methods.facility_location import facility_location, gains, near_graph, recall
from crowdselect.methods.ifd import by_ifd
from crowdselect.methods.length import by_length
from crowdselect.methods.random_choice import random_choice
from crowdselect.methods.reward import by_reward
from crowdselect.methods.tags import by_tags, read_tags, rounds
from crowdselect.seeding import seeded_hash

PLAIN = ("random", "length", "reward")  # need nothing but a pool


def _rows(n: int = 40, *, models: int = 4, seed: int = 0) -> list[dict]:
    """A pool in the long layout with columns that baselines read."""
    rng = np.random.default_rng(seed)
    words = [f"w{i}" for i in range(60)]
    rows = []
    for i in range(n):
        own = {
            "id": f"i{i:03d}",
            "instruction": " ".join(rng.choice(words, rng.integers(2, 12))) + f" number {i}",
            "tags": list(rng.choice(["maths", "code", "prose", "facts", "Maths "], rng.integers(0, 4))),
            "complexity": float(rng.integers(1, 6)),
            "vector": rng.normal(size=4).tolist(),
        }
        rows += [
            {**own, "model": f"qwen2.5-{m + 1}b", "response": "a" * int(rng.integers(1, 30)), "score": float(rng.integers(0, 5))}
            for m in range(models)
        ]  # fmt: skip
    return rows


def _pool(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.fixture
def pool(tmp_path):
    with open_pool(_pool(tmp_path / "pool.parquet", _rows()), layout="long") as opened:
        yield opened


def _options(**more) -> Options:
    return Options(**{"budget": 10, "clusters": 0, "reward": "score", **more})


def _by_id(selection) -> dict[str, dict]:
    return {row["id"]: row for row in selection.table.to_pylist()}


def test_help_lists_every_method_and_every_setting(run):
    text = " ".join(run("select", "--help").out.partition("Methods:")[2].split())
    for name, entry in METHODS.items():
        assert f"{entry.form(name)} {entry.help}" in text
    out = run("select", "--help").out
    for name, entry in METHODS.items():
        for setting in entry.settings:
            assert re.search(
                rf"--{setting.name.replace('_', '-')} {re.escape(setting.form)} +[^:]*\b{name}\b[^:]*: ", out
            )


@pytest.mark.parametrize(
    ("former", "now"),
    [
        (("random", "p", "--seeds", 3, "-o", "r"), "select --method random p --seeds 3 -o r"),
        (("reward", "--direction=down", "p"), "select --method reward:down p"),
        (("ifd", "p", "--model", "a/b", "--device", "cpu"), "select --method ifd:a/b p --device cpu"),
        (("deita", "p", "--quality", "q", "--complexity", "c"), "select --method deita:c,q p"),
        (("direct-score", "p", "--column", "it's"), """select --method 'column:it'"'"'s' p"""),
        (("tags", "p"), "select --method tags:COLUMN p"),
        ((), "select --method NAME POOL"),
        (("--help",), "select --method NAME POOL"),
    ],
)
def test_a_former_baseline_says_what_to_type(run, former, now):
    run("baseline", *former).refuses("`crowdselect baseline` is now `crowdselect select`; type:  ", now)


@pytest.mark.parametrize(
    "method",
    [random_choice(), by_length(), by_reward(), by_tags(column="tags")],
    ids=lambda m: m.settings["method"],
)
def test_a_baseline_has_the_columns_answers_and_facts_of_a_selection(pool, method):
    ours = select(pool, _options())
    other = select(pool, _options(), method=method)
    assert other.table.schema == ours.table.schema
    assert len(other.chosen) == 10
    for name in ("difficulty", "separability", "stability", "n_rewards"):
        assert other.table[name].equals(ours.table[name])
    shared = [i for i, row in _by_id(other).items() if row["model"] is not None]
    assert all(_by_id(ours)[i]["model"] == _by_id(other)[i]["model"] for i in shared)
    assert other.options["method"] == method.settings["method"]
    assert set(other.options["weights"].values()) == {0.0}
    assert "weight" not in " ".join(other.explain(other.chosen[0])["story"])
    assert json.loads(json.dumps({"options": dict(other.options), "facts": dict(other.facts)}))


def test_undefined_stability_bars_no_row_of_a_baseline(tmp_path):
    rows = [{**row, "model": f"solo-{row['model'][-2]}"} for row in _rows(12, models=2)]
    with open_pool(_pool(tmp_path / "p.parquet", rows), layout="long") as pool:
        with pytest.raises(OptionError, match="no model family of two known sizes"):
            select(pool, _options(budget=12))
        found = select(pool, _options(budget=12), method=random_choice())
    assert found.table["stability"].null_count == 12
    assert found.counts() == {"selected": 12}


@pytest.mark.parametrize("drop", ["score", "models"])
def test_a_pool_without_a_crowd_can_still_be_chosen_from(tmp_path, drop):
    rows = _rows(12, models=1 if drop == "models" else 3)
    if drop == "score":
        rows = [{k: v for k, v in row.items() if k not in {"score", "complexity"}} for row in rows]
    with open_pool(_pool(tmp_path / "p.parquet", rows), layout="long") as pool:
        found = select(pool, Options(budget=3, clusters=0, answer="random"), method=by_length(of="answer"))
        assert len(found.chosen) == 3
        assert found.table["difficulty"].null_count == 12
        assert found.facts["reward"] == ("score" if drop == "models" else None)
        assert any("the metrics are empty" in warning for warning in found.warnings)


def test_random_is_the_hash_of_the_id_and_nothing_else(pool, tmp_path):
    found = select(pool, _options(), method=random_choice())
    draws = seeded_hash(pool.ids, seed=0, salt="random")
    assert found.chosen == [str(pool.ids[i]) for i in np.argsort(draws)[::-1][:10]]
    score = found.table["score"].to_numpy()
    assert ((score >= 0) & (score < 1)).all()
    rows = _rows()
    np.random.default_rng(3).shuffle(rows)
    with open_pool(_pool(tmp_path / "turned.parquet", rows), layout="long") as turned:
        assert select(turned, _options(), method=random_choice()).chosen == found.chosen
    other = select(pool, _options(seed=1), method=random_choice())
    assert other.chosen != found.chosen


def test_random_with_clusters_takes_as_many_from_each(pool):
    found = select(pool, _options(clusters=3, embedder="column:vector"), method=random_choice())
    assert sorted(found.facts["quotas"].values()) == [3, 3, 4]


def test_seeds_make_a_folder_each(run, sim, tmp_path):
    out = tmp_path / "random"
    ran = run("select", sim, "--method", "random", "--budget", 10, "--seeds", 3, "-o", out)
    assert ran.code == 0, ran.err
    assert sorted(p.name for p in out.iterdir()) == ["seed-0", "seed-1", "seed-2"]
    chosen = [[row["id"] for row in train(out / f"seed-{seed}")] for seed in range(3)]
    assert len({tuple(ids) for ids in chosen}) == 3
    assert [manifest(out / f"seed-{seed}")["options"]["seed"] for seed in range(3)] == [0, 1, 2]
    alone = run("select", sim, "--method", "random", "--budget", 10, "--seed", 2, "-o", tmp_path / "alone")
    assert alone.code == 0, alone.err
    assert [row["id"] for row in train(tmp_path / "alone")] == chosen[2]
    run("select", sim, "--method", "random", "--budget", 10, "--seeds", 0, "-o", out).refuses(
        "--seeds is 0; wanted at least 1"
    )
    run("select", sim, "--method", "random", "--budget", 10, "--seeds", 2, "--json", "-o", out).refuses(
        "leave out --json"
    )


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("of", ["instruction", "answer"])
def test_length_takes_the_longest_or_the_shortest(pool, of, direction):
    found = select(pool, _options(answer="random"), method=by_length(of=of, direction=direction))
    rows = _by_id(found)
    texts = dict(zip(pool.ids, pool.instructions(), strict=True))
    if of == "answer":
        texts = {i: pool.responses([(i, row["model"])])[0] for i, row in rows.items()}
    sign = 1 if direction == "up" else -1
    assert all(row["score"] == sign * len(texts[i]) for i, row in rows.items())
    lengths = sorted((sign * len(text) for text in texts.values()), reverse=True)
    assert [sign * len(texts[i]) for i in found.chosen] == lengths[:10]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_reward_takes_the_best_answers_whatever_is_trained_on(pool, direction):
    found = select(pool, _options(answer="random"), method=by_reward(direction=direction))
    best = dict(zip(pool.ids, np.nanmax(pool.scores("score"), axis=1), strict=True))
    sign = 1 if direction == "up" else -1
    assert all(row["score"] == sign * best[i] for i, row in _by_id(found).items())
    assert (
        sorted((best[i] for i in found.chosen), reverse=direction == "up")
        == sorted(best.values(), reverse=direction == "up")[:10]
    )


def _instag(tags: dict[str, frozenset[str]], keys: dict[str, int], budget: int) -> list[str]:
    """Algorithm 1 of the InsTag paper, as it stands there."""
    line = sorted((i for i in tags if tags[i]), key=lambda i: (-len(tags[i]), keys[i]))
    chosen: list[str] = []
    while len(chosen) < budget:
        covered: set[str] = set()
        for i in list(line):
            if len(covered | tags[i]) > len(covered):
                chosen.append(i)
                line.remove(i)
                covered |= tags[i]
            if len(chosen) == budget:
                break
    return chosen


@pytest.mark.parametrize("budget", [1, 7, 25])
def test_tags_are_walked_as_in_the_paper(pool, budget):
    found = select(pool, _options(budget=budget), method=by_tags(column="tags"))
    tags = {i: read_tags(value, where="") for i, value in zip(pool.ids, pool.column("tags"), strict=True)}
    keys = dict(zip(pool.ids, seeded_hash(pool.ids, seed=0, salt="tie").tolist(), strict=True))
    assert set(found.chosen) == set(_instag(tags, keys, budget))
    for i, row in _by_id(found).items():
        assert (row["reason"] == "no_score:no tags") == (not tags[i])
        assert (row["score"] is None) == (not tags[i])
    first = _by_id(found)[found.chosen[0]]
    assert first["score"] == max(map(len, tags.values()))


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (None, set()),
        ("", set()),
        ("a, B ,a", {"a", "b"}),
        ('["x", "X ", "y"]', {"x", "y"}),
        ('[{"tag": "logic", "explanation": "e"}]', {"logic"}),
    ],
)
def test_tags_are_read_from_lists_objects_and_commas(value, tags):
    assert read_tags(value, where="row") == tags


@pytest.mark.parametrize("value", ["[1]", "[oops", '[{"name": "x"}]'])
def test_what_is_no_list_of_tags_is_refused(value):
    with pytest.raises(InputError, match=r"pool.csv: tags of id 'x' is .*wanted a list"):
        read_tags(value, where="pool.csv: tags of id 'x'")


@given(st.lists(st.frozensets(st.sampled_from("abcdef"), min_size=1), max_size=12), st.integers(1, 12))
def test_rounds_each_add_a_tag(tags, depth):
    found = rounds(tags, depth=depth)
    for now in range(int(found.max(initial=0))):
        own = [tags[place] for place in np.flatnonzero(found == now)]
        assert all(own[i] - frozenset().union(*own[:i]) for i in range(len(own)))


def test_direct_score_is_of_the_answer_or_of_the_row(pool):
    marks = select(pool, _options(), method=by_column(column="score"))
    rows, scores = _by_id(marks), pool.scores("score")
    place = {name: j for j, name in enumerate(pool.models)}
    assert all(
        rows[str(i)]["score"] == scores[n, place[rows[str(i)]["model"]]] for n, i in enumerate(pool.ids)
    )
    with pytest.raises(InputError, match="no column 'nothing'"):
        select(pool, _options(), method=by_column(column="nothing"))
    with pytest.raises(InputError, match=r"instruction of id 'i000' is .*; wanted a finite number"):
        select(pool, _options(), method=by_column(column="instruction"))


def _deita(
    score: np.ndarray, keys: np.ndarray, vectors: np.ndarray, *, budget: int, cosine: float
) -> list[int]:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    kept: list[int] = []
    for row in np.lexsort((keys, -score)):
        if len(kept) < budget and all(unit[row] @ unit[other] <= cosine for other in kept):
            kept.append(int(row))
    return kept


@pytest.mark.parametrize("cosine", [0.6, 0.9])
def test_deita_keeps_what_is_unlike_the_kept(pool, cosine):
    # `complexity` is a number per row that stands on each of its answers too, so it is a reward column.
    found = select(
        pool,
        _options(budget=6, embedder="column:vector", near_duplicates=cosine),
        method=deita(complexity="complexity", quality="score"),
    )
    rows = _by_id(found)
    score = np.array([rows[i]["score"] for i in pool.ids])
    best, complexity = np.nanmax(pool.scores("score"), axis=1), np.nanmax(pool.scores("complexity"), axis=1)
    assert np.allclose(score, best * complexity)
    keys = seeded_hash(pool.ids, seed=0, salt="tie")
    wanted = _deita(score, keys, pool.vector_column("vector"), budget=6, cosine=cosine)
    assert found.chosen == [str(pool.ids[row]) for row in wanted]


def test_the_command_of_deita_sets_its_own_threshold(run, tmp_path):
    path = _pool(tmp_path / "pool.parquet", _rows())
    common = ["--method", "deita:complexity,score", "--reward", "score", "--budget", 4]
    vectors = ["--embedder", "column:vector"]
    assert run("select", path, *common, *vectors, "-o", tmp_path / "a").code == 0
    assert run("select", path, *common, *vectors, "--near-duplicates", 0.5, "-o", tmp_path / "b").code == 0
    assert [manifest(tmp_path / name)["options"]["near_duplicates"] for name in "ab"] == [0.9, 0.5]
    assert manifest(tmp_path / "a")["options"]["complexity"] == "complexity"


def _unit(n: int, d: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _dense(graph, n: int) -> np.ndarray:
    matrix = np.zeros((n, n))
    for row in range(n):
        near, likeness = graph.of(row)
        matrix[row, near] = likeness
    return matrix


def _naive(
    matrix: np.ndarray, weights: np.ndarray, keys: np.ndarray, count: int
) -> tuple[list[int], list[float]]:
    cover, chosen, added = np.zeros(len(matrix)), [], []
    for _ in range(count):
        gain = np.array([(weights * np.maximum(line - cover, 0)).sum() for line in matrix])
        gain[chosen] = -1
        best = int(np.lexsort((keys, -gain))[0])
        chosen.append(best)
        added.append(gain[best])
        cover = np.maximum(cover, matrix[best])
    return chosen, added


@settings(max_examples=30)
@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 5), st.booleans())
def test_facility_location_is_the_plain_greedy(n, neighbours, seed, copies):
    vectors = _unit(n, 3, seed)
    if copies:
        vectors[n // 2 :] = vectors[: n - n // 2]  # equal gains: the key decides
    rng = np.random.default_rng(seed)
    keys = rng.permutation(n).astype(np.uint64)
    weights = np.round(rng.random(n) * 64) / 64
    labels = np.zeros(n, dtype=np.int64)
    graph = near_graph(vectors, labels=labels, neighbours=neighbours)
    matrix = _dense(graph, n)
    assert (matrix == matrix.T).all()
    count = min(n, 6)
    out = gains(
        graph, weights=weights, candidates=np.ones(n, bool), labels=labels, keys=keys, depths={0: count}
    )
    wanted, added = _naive(matrix, weights, keys, count)
    assert np.lexsort((keys, -out))[:count].tolist() == wanted
    assert out[wanted].tolist() == added


def test_a_graph_of_one_part_has_every_near_row():
    vectors = _unit(150, 8, 1)
    graph = near_graph(vectors, labels=np.zeros(150), neighbours=5)
    keys = np.arange(150, dtype=np.uint64)
    assert recall(graph, vectors, keys=keys, neighbours=5) == 1.0
    cut = near_graph(vectors, labels=np.arange(150) % 3, neighbours=5)
    assert recall(cut, vectors, keys=keys, neighbours=5) < 0.8
    cosines = vectors @ vectors.T
    for row in range(150):
        near, likeness = graph.of(row)
        others = [int(j) for j in np.argsort(-cosines[row]) if j != row][:5]
        assert {j for j in others if cosines[row, j] > 0} <= set(near.tolist())
        assert np.allclose(likeness, cosines[row, near], atol=1e-5)


@pytest.mark.extra
@pytest.mark.skipif(importlib.util.find_spec("apricot") is None, reason="apricot-select is not installed")
@pytest.mark.filterwarnings("ignore")
def test_facility_location_agrees_with_apricot():
    import apricot

    vectors = _unit(200, 12, 4)
    labels = np.zeros(200, dtype=np.int64)
    graph = near_graph(vectors, labels=labels, neighbours=20)
    keys = np.arange(200, dtype=np.uint64)
    out = gains(
        graph, weights=np.ones(200), candidates=np.ones(200, bool), labels=labels, keys=keys, depths={0: 25}
    )
    theirs = apricot.FacilityLocationSelection(25, metric="precomputed", optimizer="naive").fit(
        _dense(graph, 200)
    )
    assert np.lexsort((keys, -out))[:25].tolist() == theirs.ranking.tolist()
    assert np.allclose(out[theirs.ranking], theirs.gains)


def test_facility_location_in_a_pool(pool):
    found = select(
        pool, _options(embedder="column:vector", budget=8), method=facility_location(neighbours=10)
    )
    assert len(found.chosen) == 8
    scores = [row["score"] for row in found.rows()]
    assert scores == sorted(scores, reverse=True)
    assert any(
        note.startswith("facility location: 100.0% of a sample's true 10 nearest")
        for note in found.facts["notes"]
    )
    spread = select(
        pool,
        _options(embedder="column:vector", budget=8, clusters=4),
        method=facility_location(neighbours=10, weight_by="reward"),
    )
    assert sorted(spread.facts["quotas"].values()) == [2, 2, 2, 2]
    weighted = select(
        pool, _options(embedder="column:vector"), method=facility_location(weight_by="crowdselect")
    )
    assert len(weighted.chosen) == 10
    with pytest.raises(OptionError, match="`neighbours` is 0; wanted at least 1"):
        facility_location(neighbours=0)


def test_duplicates_are_chosen_once_by_methods_that_arrange(tmp_path):
    rows = _rows(12)
    for row in rows:
        if row["id"] in {"i003", "i007"}:
            row.update(instruction="the same text", vector=[1.0, 2.0, 3.0, 4.0], tags=["only"])
    with open_pool(_pool(tmp_path / "p.parquet", rows), layout="long") as pool:
        for method in (by_tags(column="tags"), facility_location(neighbours=3)):
            eligible = select(pool, _options(budget=1, embedder="column:vector"), method=method).table[
                "score"
            ]
            budget = len(eligible) - eligible.null_count - 1
            found = select(pool, _options(budget=budget, embedder="column:vector"), method=method)
            reasons = {row["reason"] for row in found.table.to_pylist()}
            assert len({"duplicate_of:i003", "duplicate_of:i007"} & reasons) == 1


@pytest.mark.parametrize("name", PLAIN)
def test_plain_baselines_run_from_the_command(run, sim, tmp_path, name):
    ran = run(
        "select",
        sim,
        "--method",
        name,
        "--budget",
        9,
        "--clusters",
        3,
        "--answer",
        "top5-random",
        "-o",
        tmp_path / "out",
    )
    assert ran.code == 0, ran.err
    assert f"score     {name}" in ran.out
    assert len(train(tmp_path / "out")) == 9
    assert "3 by k-means, 3 chosen from each" in ran.out
    as_json = json.loads(run("select", sim, "--method", name, "--budget", 9, "--json", "--dry-run").out)
    assert as_json["options"]["method"] == name


@pytest.mark.parametrize(
    ("method", "more", "said"),
    [
        (
            "length",
            ("--direction", "left", "--dry-run"),
            "--direction left is unknown; choose one of: up, down",
        ),
        (
            "length:model",
            ("--dry-run",),
            "--method length:model is unknown; choose one of: length, length:instruction",
        ),
        ("length", ("--device", "cpu", "--dry-run"), "--device is not a setting of the method length"),
        ("reward", ("--budget", 0, "--dry-run"), "--budget is 0; wanted at least 1"),
        ("reward", (), "say where to write with -o DIR"),
        ("reward", ("--weights", "difficulty=1"), "--weights count with --method crowd"),
        (
            "reward",
            ("--seeds", 2, "-o", "d"),
            "--seeds needs a method that draws at random; --method reward does not",
        ),
        ("tags", ("--dry-run",), "--method tags needs COLUMN"),
        ("tags:nothing", ("--dry-run",), "no column 'nothing'"),
    ],
)
def test_bad_options_are_one_line(run, sim, method, more, said):
    budget = [] if "--budget" in more else ["--budget", 3]
    run("select", sim, "--method", method, *budget, *more).refuses(said)


def test_what_a_method_brings_gives_way_to_what_is_said(run, sim, tmp_path):
    (tmp_path / "c.toml").write_text('method = "random"\nclusters = 2\n')
    for more, clusters in (((), 2), (("--clusters", 3), 3), (("--method", "reward"), 2)):
        ran = run("select", sim, "--budget", 6, "--config", tmp_path / "c.toml", *more, "--json", "--dry-run")
        assert json.loads(ran.out)["options"]["clusters"] == clusters, ran.err
    ran = run("select", sim, "--budget", 6, "--method", "random", "--json", "--dry-run")
    assert json.loads(ran.out)["options"]["clusters"] == 0


@pytest.mark.extra
def test_length_in_tokens_of_a_tokenizer(pool, tmp_path):
    pytest.importorskip("transformers")
    from tiny_models import build_tokenizer

    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tok")
    found = select(pool, _options(), method=by_length(unit=str(tmp_path / "tok")))
    texts = dict(zip(pool.ids, pool.instructions(), strict=True))
    for i, row in _by_id(found).items():
        assert row["score"] == len(tokenizer(texts[i], add_special_tokens=False)["input_ids"])
    with pytest.raises(InputError, match="no tokenizer"):
        select(pool, _options(), method=by_length(unit=str(tmp_path / "pool.parquet")))


@pytest.mark.extra
def test_ifd_is_the_ratio_of_two_losses_whatever_the_batches(pool, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tiny_models import build_model

    folder = str(build_model(tmp_path / "model"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def loss(context: list[int], answer: list[int]) -> float:
        with torch.inference_mode():
            logits = network(input_ids=torch.tensor([context + answer])).logits[0]
        begin = max(len(context), 1)
        told = torch.log_softmax(logits[begin - 1 : -1].double(), dim=-1)
        return -float(told[torch.arange(len(told)), torch.tensor((context + answer)[begin:])].mean())

    small = select(pool, _options(budget=1, cache=False), method=by_ifd(model=folder, batch_tokens=64))
    large = select(pool, _options(budget=1), method=by_ifd(model=folder))
    texts = dict(zip(pool.ids, pool.instructions(), strict=True))
    kept = 0
    for i, row in _by_id(large).items():
        model = row["model"] or pool.models[int(np.nanargmax(pool.scores("score")[list(pool.ids).index(i)]))]
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": texts[i]}], tokenize=False, add_generation_prompt=True
        )
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        answer = tokenizer(pool.responses([(i, model)])[0], add_special_tokens=False)["input_ids"]
        if row["score"] is None:
            assert row["reason"] in {"no_score:its loss ratio is 1 or above", "no_score:no loss ratio"}
            if len(answer) < 2:
                assert row["reason"] == "no_score:no loss ratio"
            continue
        kept += 1
        # Without a token for the beginning, the answer's first token counts for neither.
        given, alone = loss(prompt + answer[:1], answer[1:]), loss(answer[:1], answer[1:])
        assert row["score"] == pytest.approx(given / alone, rel=1e-4)
        assert row["score"] < 1
        assert _by_id(small)[i]["score"] == pytest.approx(row["score"], rel=1e-4)
    assert kept
    with pytest.raises(InputError, match="cannot be loaded as a causal language model"):
        select(pool, _options(), method=by_ifd(model=str(tmp_path / "tok-not-there")))


def test_the_only_answer_needs_no_reward_to_be_chosen(run, tmp_path):
    lines = ["instruction,model,response", *(f"q{i},only,a{i}" for i in range(9))]
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    for method in ("random", "length:answer"):
        given = (
            "select",
            tmp_path / "pool.csv",
            "--budget",
            5,
            "--method",
            method,
            "-o",
            tmp_path / method[:3],
        )
        assert run(*given).code == 0
        assert len(train(tmp_path / method[:3])) == 5
    run("select", tmp_path / "pool.csv", "--budget", 5, "--method", "randm", "--dry-run").refuses(
        "--method randm is unknown"
    )
