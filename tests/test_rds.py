"""Rows nearest to examples: against a round robin written out, in any order of rows, in any files, and on bad input."""

import json
import re
import shutil
import sys
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.compare.robustness import robustness
from crowdselect.engine.here import run_here
from crowdselect.errors import InputError, LayoutError, OptionError, RewardError
from crowdselect.methods import method_named
from crowdselect.numeric.turns import exact_cosines, in_turn, nearest_first
from crowdselect.seeding import seeded_hash
from crowdselect.selection.examples import read_examples
from crowdselect.selection.plan import plan
from crowdselect.simulate.pool import simulate
from engines import ran

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ANSWERED = [
    {"id": "poem", "instruction": "Pens and a quill", "response": "A verse about quills"},
    {"id": "sums", "instruction": "Buzz of a jigsaw", "response": "Two jigsaws"},
    {"id": "cats", "instruction": "Cats on an attic mat", "response": "A cat that naps"},
]


def counts(texts):
    return np.array([[text.count(letter) for letter in LETTERS] for text in texts], dtype=np.float32)


class Letters:
    """Stands in for a model: counts letters, and notes what it read."""

    embedded: ClassVar[list[str]] = []

    def __init__(self, name, **options):
        pass

    def encode(self, texts, **options):
        self.embedded.extend(texts)
        return counts(texts)


@pytest.fixture
def letters(monkeypatch, tmp_path):
    """Two models that count letters: a sentence-transformers model, and one with hidden states."""
    library = SimpleNamespace(SentenceTransformer=Letters, __version__="6.0.0")
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    monkeypatch.setattr("crowdselect.embed.hidden.load", lambda name, **_: Letters(name).encode)
    monkeypatch.setattr("crowdselect.embed.hidden.where_it_runs", lambda: "cpu")
    monkeypatch.setattr("crowdselect.embed.models._transformers", lambda: "5.0.0")
    monkeypatch.setattr("crowdselect.embed.models.check_optional", lambda *_, **__: None)
    monkeypatch.setattr(Letters, "embedded", [])
    monkeypatch.setenv("CROWDSELECT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return str(tmp_path / "model")


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def dev(tmp_path):
    return lines(tmp_path / "dev.jsonl", ANSWERED)


@pytest.fixture
def pool_file(tmp_path):
    return simulate(tmp_path / "pool.parquet", instructions=120, duplicates=0.2, answer_chars=80).path


def unit(vectors):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def turns(cosines, keys, count):
    """The round robin, one row at a time: (row, example)."""
    left, taken = set(range(len(cosines))), []
    while len(taken) < count:
        example = len(taken) % cosines.shape[1]
        row = max(left, key=lambda row: (cosines[row, example], -int(keys[row])))
        left.remove(row)
        taken.append((row, example))
    return taken


def expected(pool, examples, *, budget, whole=False, seed=0):
    """What the method has to choose of a pool without duplicates: (id, name of the example)."""
    with open_pool(pool) as opened:
        ids, texts = list(opened.ids), list(opened.instructions())
        table = select(opened, Options(budget=1, clusters=0, seed=seed), method=method_named("random")).table
        models = table["model"].to_pylist()
        kept = [row for row in range(len(ids)) if models[row] is not None and texts[row] not in texts[:row]]
        if whole:
            answers = opened.responses([(ids[row], models[row]) for row in kept])
            texts = {row: f"{texts[row]}\n\n{answer}" for row, answer in zip(kept, answers, strict=True)}
    wanted = [
        f"{one['instruction']}\n\n{one['response']}" if whole else one["instruction"] for one in examples
    ]
    content = [f"{one['instruction']}\n\n{one['response']}" for one in examples]
    order = np.argsort(seeded_hash(content, seed=seed, salt="example"))
    rows = unit(counts([texts[row] for row in kept]).astype(float))
    cosines = rows @ unit(counts([wanted[place] for place in order]).astype(float)).T
    keys = seeded_hash([ids[row] for row in kept], seed=seed, salt="tie")
    cosines = np.round(cosines, 5)  # far from ties but for equal rows
    found = turns(cosines, keys, budget)
    return [(ids[kept[row]], examples[order[example]]["id"]) for row, example in found]


# ── numbers ──────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 6), st.integers(1, 40))
def test_cosines_are_those_of_numpy_and_the_same_in_any_block(seed, n, others, d):
    rng = np.random.default_rng(seed)
    vectors, more = (unit(rng.normal(size=(k, d))).astype(np.float32) for k in (n, others))
    vectors[0] = 0
    found = exact_cosines(vectors, more)
    np.testing.assert_allclose(found, vectors.astype(float) @ more.astype(float).T, atol=3e-6 * d**0.5)
    order = rng.permutation(n)
    np.testing.assert_array_equal(found[order], exact_cosines(vectors[order], more))
    rows = [exact_cosines(vectors[[row]], more[::-1])[0, ::-1] for row in range(n)]
    np.testing.assert_array_equal(found, rows)
    assert not found[0].any()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 30), st.integers(0, 9))
def test_the_nearest_rows_are_those_of_a_sort(values, count, seed):
    cosines = np.array(values, dtype=np.float32) / 4
    keys = np.random.default_rng(seed).permutation(len(values)).astype(np.uint64)
    wanted = sorted(range(len(values)), key=lambda row: (-values[row], int(keys[row])))[:count]
    assert nearest_first(cosines, keys, count=count).tolist() == wanted


@given(st.integers(0, 2**32), st.integers(1, 25), st.integers(1, 7), st.integers(1, 25))
def test_examples_take_rows_in_turn(seed, n, examples, count):
    rng, count = np.random.default_rng(seed), min(count, n)
    cosines = rng.integers(0, 4, (n, examples)).astype(np.float32) / 4  # many ties
    keys = rng.permutation(n).astype(np.uint64)
    lists = [nearest_first(column, keys, count=count) for column in cosines.T]
    taken, by, places = in_turn(lists, rows=n, count=count)
    assert list(zip(taken.tolist(), by.tolist(), strict=True)) == turns(cosines, keys, count)
    assert [lists[e][p] for e, p in zip(by, places, strict=True)] == taken.tolist()


# ── the choice ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("hidden", [False, True], ids=["sentences", "hidden"])
def test_the_choice_is_a_round_robin_written_out(hidden, seed, letters, dev, tmp_path):
    path = simulate(tmp_path / "pool.parquet", instructions=90, duplicates=0.0, answer_chars=80).path
    embedder = f"hidden:{letters}" if hidden else letters
    options = Options(budget=20, clusters=0, embedder=embedder, seed=seed)
    with open_pool(path) as pool:
        selection = select(pool, options, method=method_named(f"rds:{dev}"))
    chosen = [(row["id"], row["example"]) for row in selection.rows()]
    assert chosen == expected(path, ANSWERED, budget=20, whole=hidden, seed=seed)
    read = "A verse about quills" in " ".join(Letters.embedded)
    assert read == hidden
    words = "instruction and answer are" if hidden else "the instruction is"
    assert f"rds: {words} compared with each of 3 examples" in selection.facts["notes"]
    assert "26 dimensions" in selection.facts["embedder"]


def test_every_row_names_its_example_and_how_near_it_is(letters, dev, pool_file, tmp_path):
    with open_pool(pool_file) as pool:
        selection = select(
            pool, Options(budget=9, clusters=0, embedder=letters), method=method_named(f"rds:{dev}")
        )
        texts = dict(zip(pool.ids, pool.instructions(), strict=True))
    for row in selection.table.to_pylist():
        if row["score"] is None:
            assert row["example"] is None
            continue
        pair = counts([texts[row["id"]], *(one["instruction"] for one in ANSWERED)]).astype(float)
        own, *others = unit(pair)
        near = {one["id"]: own @ other for one, other in zip(ANSWERED, others, strict=True)}
        assert row["similarity"] == pytest.approx(near[row["example"]], abs=1e-5)
        if row["rank"] is None and not row["reason"].startswith("duplicate_of"):
            assert near[row["example"]] == pytest.approx(max(near.values()), abs=1e-5)
    story = selection.explain(selection.chosen[3])["story"]
    first = selection.rows()[3]
    assert (
        f"it is the nearest row that was left to the example {first['example']}: similarity {first['similarity']:.3f}, 1 at most"
        in story
    )
    cut = next(row["id"] for row in selection.table.to_pylist() if row["reason"] == "below_cut")
    assert any(line.startswith("the nearest example is ") for line in selection.explain(cut)["story"])
    with open_pool(pool_file) as pool:
        export(selection, pool, tmp_path / "out")
    assert load_selection(tmp_path / "out").table.equals(selection.table)


@pytest.mark.parametrize("embedder", ["lsa", "hidden"])
@pytest.mark.parametrize(
    "options",
    [
        {"clusters": 0},
        {"clusters": 4, "quota": "topic=equal"},
        {"cluster_by": "topic", "near_duplicates": 0.998},
    ],
)
def test_the_choice_is_the_same_in_any_order_and_in_any_files(
    embedder, options, letters, pool_file, tmp_path
):
    options = Options(budget=20, embedder=embedder if embedder == "lsa" else f"hidden:{letters}", **options)
    dev, other = lines(tmp_path / "a.jsonl", ANSWERED), lines(tmp_path / "b.jsonl", ANSWERED[::-1])
    with open_pool(pool_file) as pool:
        first = select(pool, options, method=method_named(f"rds:{dev}"))
    table = pq.read_table(pool_file)
    rng = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    homes = {id_: rng.integers(3) for id_ in sorted(set(table["id"].to_pylist()))}
    home = np.array([homes[id_] for id_ in table["id"].to_pylist()])
    for number in range(3):
        rows = rng.permutation(np.flatnonzero(home == number))
        pq.write_table(table.take(rows), tmp_path / "in" / f"{number}.parquet")
    with open_pool(tmp_path / "in") as pool:
        whole = select(pool, options, method=method_named(f"rds:{other}"))
        by_file = select(pool, options, method=method_named(f"rds:{dev}"), run=run_here)
        uncached = select(
            pool,
            Options(**{**options.as_dict(), "cache": False}),
            method=method_named(f"rds:{dev}"),
            run=run_here,
        )
    assert whole.table.equals(first.table)
    assert by_file.table.equals(first.table)
    assert uncached.table.equals(first.table)
    assert by_file.facts["embedder"] == first.facts["embedder"]


def test_cosines_are_computed_a_few_examples_at_a_time(letters, dev, pool_file, monkeypatch):
    options, method = Options(budget=9, clusters=3, embedder=letters), method_named(f"rds:{dev}")
    with open_pool(pool_file) as pool:
        at_once = select(pool, options, method=method)
        monkeypatch.setattr("crowdselect.methods.rds._AT_ONCE", 1)
        assert select(pool, options, method=method).table.equals(at_once.table)
    assert len(set(Letters.embedded)) == len(Letters.embedded)


def test_in_clusters_examples_take_turns_in_each(letters, dev, pool_file):
    options = Options(budget=12, cluster_by="topic", embedder=letters)
    with open_pool(pool_file) as pool:
        rows = select(pool, options, method=method_named(f"rds:{dev}")).rows()
    for label in {row["cluster"] for row in rows}:
        own = [row["example"] for row in rows if row["cluster"] == label]
        assert len(set(own[:3])) == min(3, len(own))


def test_rows_that_share_text_with_an_example_are_barred(letters, pool_file, tmp_path):
    with open_pool(pool_file) as pool:
        ids, texts = list(pool.ids), list(pool.instructions())
    dev = lines(
        tmp_path / "dev.jsonl", [*ANSWERED[:2], {"id": "copy", "instruction": texts[0].upper() + "!"}]
    )
    for run in (None, run_here):
        with open_pool(pool_file) as pool:
            options = Options(budget=9, clusters=0, embedder=letters)
            selection = select(pool, options, method=method_named(f"rds:{dev}"), run=run)
        reasons = dict(zip(ids, selection.table["reason"].to_pylist(), strict=True))
        same = [id_ for id_, text in zip(ids, texts, strict=True) if text == texts[0]]
        assert {id_ for id_, reason in reasons.items() if reason == "contaminated:copy"} == set(same)
        assert selection.facts["benchmarks"][0]["contaminated"] == len(same)
        assert selection.facts["benchmarks"][0]["file"] == dev
        story = selection.explain(ids[0])["story"]
        assert story[-1] == "to be chosen: it stays out while copy is in the evaluation or an example"


def test_more_examples_than_rows_are_noted(letters, dev, pool_file):
    with open_pool(pool_file) as pool:
        selection = select(
            pool, Options(budget=2, clusters=0, embedder=letters), method=method_named(f"rds:{dev}")
        )
    assert (
        "rds: 1 of 3 examples take no row, as `budget` is 2; raise it, or give fewer examples"
        in selection.facts["notes"]
    )


def test_a_plan_counts_what_is_to_be_embedded(letters, dev, pool_file):
    for embedder, text in ((letters, "vectors by"), (f"hidden:{letters}", "vectors by hidden:")):
        options, method = Options(budget=9, clusters=0, embedder=embedder), method_named(f"rds:{dev}")
        with open_pool(pool_file) as pool:
            (before,) = plan(pool, options, method=method)
            select(pool, options, method=method)
            (after,) = plan(pool, options, method=method)
        assert before.what.startswith(text)
        assert before.known < before.rows
        assert after.known == after.rows == before.rows


def test_the_command_knows_its_examples_and_never_writes_over_them(run, dev, pool_file, tmp_path):
    out = tmp_path / "out"
    asked = ("select", pool_file, "--method", f"rds:{dev}", "--budget", 5, "-o")
    made = run(*asked, out)
    assert (made.code, made.err.count("each of 3 examples")) == (0, 1)
    assert "up to date" in run(*asked, out).out
    assert "`examples` | `dev.jsonl`" in (out / "README.md").read_text()
    chosen = load_selection(out).rows()[0]
    head, first = [line.split() for line in made.out.split("\n") if re.match(r" +(rank|1) ", line)]
    assert "similarity" in head
    assert "score" not in head  # it would be the turn, which the rank says
    assert f"{chosen['similarity']:.4g}" in first
    told = run("why", out, chosen["id"]).out
    assert "it is the nearest row that was left to the example " in told
    run(*asked, dev).refuses("is, or contains, the input")
    lines(tmp_path / "dev.jsonl", ANSWERED[:2])
    run(*asked, out).refuses("`examples` had other content when it was made")


# ── examples ─────────────────────────────────────────────────────────────────────────────────────────

USER, ANSWER = {"role": "user", "content": "Say hi"}, {"role": "assistant", "content": "Hi!"}
NO = {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ANSWER]},
        {"conversations": [{"from": "human", "value": "Say hi"}, {"from": "gpt", "value": "Hi!"}]},
        {"prompt": [USER], "completion": [ANSWER]},
        {"prompt": "Say hi", "completion": "Hi!"},
        {"id": "x", "conversations": [{"from": "human", "value": "Say hi"}, {"from": "gpt", "value": "Hi!"}]},
        {"instruction": "Say hi", "input": "", "output": "Hi!"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [NO]},
        {"prompt": [USER], "chosen": ANSWER, "rejected": NO},
        {"prompt": "Say hi", "chosen": "Hi!", "rejected": "No."},
        {"chosen": [USER, ANSWER], "rejected": [USER, NO]},
        {"messages": [USER, ANSWER], "rejected_response": "No."},
        {"question": "Say hi", "answer": "Hi!"},
        {"id": "x", "instruction": "Say hi", "model": "m", "response": "Hi!", "reward": 1.0},
    ],
)
def test_training_files_and_pools_are_examples(row, tmp_path):
    for rows in ([row], [row, row]):
        (example,) = read_examples(lines(tmp_path / "dev.jsonl", rows)).examples
        assert (example.text, example.answer) == ("Say hi", "Hi!")
        assert example.name == row.get("id", "Say hi")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dev.txt", "Say hi\n\nSay hi\n"),
        ("dev.csv", "id,instruction\nx,Say hi\n"),
        ("dev.jsonl", '{"prompt": "Say hi"}\n'),
        ("dev.jsonl", json.dumps({"prompt": [USER], "data_source": "x"}) + "\n"),
        ("dev.jsonl", json.dumps({"messages": [USER]}) + "\n"),
        ("dev.jsonl", '{"question_id": 1, "turns": ["Say hi"]}\n'),
    ],
)
def test_instructions_alone_are_examples(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    (example,) = read_examples(str(tmp_path / name)).examples
    assert (example.text, example.answer) == ("Say hi", None)


def test_a_pool_gives_its_best_answers_and_a_selection_its_training_file(letters, pool_file, tmp_path):
    rows = [
        {"id": "x", "instruction": "Say hi", "model": m, "response": f"by {m}", "reward": r}
        for m, r in (("a", 1.0), ("b", 3.0), ("c", 3.0))
    ]
    (example,) = read_examples(lines(tmp_path / "pool.jsonl", rows)).examples
    assert example.answer == "by b"
    for row in rows:
        del row["reward"]
    with pytest.raises(RewardError):
        read_examples(lines(tmp_path / "none.jsonl", rows))
    with open_pool(pool_file) as pool:
        chosen = select(pool, Options(budget=3, clusters=0), method=method_named("random"))
        export(chosen, pool, tmp_path / "chosen")
        texts = dict(zip(pool.ids, pool.instructions(), strict=True))
    found = read_examples(str(tmp_path / "chosen")).examples
    assert {one.name: one.text for one in found} == {id_: texts[id_] for id_ in chosen.chosen}
    assert all(one.answer for one in found)


def image(id_):
    parts = [{"type": "image_url", "image_url": {"url": "x.png"}}]
    return {"id": id_, "messages": [{"role": "user", "content": parts}, ANSWER]}


def test_examples_without_text_do_not_count(letters, pool_file, tmp_path):
    text = {"id": "t", "messages": [USER, ANSWER]}
    dev = lines(tmp_path / "dev.jsonl", [image("i"), text])
    with open_pool(pool_file) as pool:
        selection = select(
            pool, Options(budget=3, clusters=0, embedder=letters), method=method_named(f"rds:{dev}")
        )
    note = f"{dev}: 1 of 2 examples hold no text, or something other than text, and do not count"
    assert note in selection.warnings
    assert {row["example"] for row in selection.rows()} == {"t"}
    with pytest.raises(InputError, match="none of its 2 rows holds text, so there is no example"):
        read_examples(lines(tmp_path / "images.jsonl", [image("i"), image("j")]))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dev.jsonl", "", "dev.jsonl: "),
        ("dev.txt", "\n \n", "holds no example; wanted a column instruction"),
        ("dev.jsonl", '{"instruction": ""}\n', "holds no example"),
        ("dev.jsonl", '{"a": 1}\n', "no example in the columns a; wanted a column instruction"),
        ("dev.jsonl", "{broken\n", "dev.jsonl"),
    ],
)
def test_files_without_examples_are_one_line(name, text, message, pool_file, tmp_path):
    (tmp_path / name).write_text(text)
    with open_pool(pool_file) as pool, pytest.raises((InputError, LayoutError), match=message):
        select(pool, Options(budget=3, clusters=0), method=method_named(f"rds:{tmp_path / name}"))


def test_a_missing_file_and_vectors_that_are_given_are_one_line(dev, pool_file, tmp_path):
    with open_pool(pool_file) as pool:
        with pytest.raises(InputError, match=r"none\.jsonl"):
            select(pool, Options(budget=3, clusters=0), method=method_named(f"rds:{tmp_path / 'none.jsonl'}"))
        vectors = tmp_path / "v.npz"
        np.savez(vectors, ids=list(pool.ids), vectors=np.ones((len(pool.ids), 2), np.float32))
        with pytest.raises(OptionError, match="vectors of the pool's rows alone, and none of examples"):
            select(
                pool,
                Options(budget=3, clusters=0, embedder=f"file:{vectors}"),
                method=method_named(f"rds:{dev}"),
            )


def test_some_answers_are_refused_where_they_would_count(letters, pool_file, tmp_path):
    dev = lines(tmp_path / "dev.jsonl", [ANSWERED[0], {**ANSWERED[1], "response": None}])
    with open_pool(pool_file) as pool:
        select(pool, Options(budget=3, clusters=0, embedder=letters), method=method_named(f"rds:{dev}"))
        options = Options(budget=3, clusters=0, embedder=f"hidden:{letters}")
        with pytest.raises(InputError, match="1 of 2 examples have an answer"):
            select(pool, options, method=method_named(f"rds:{dev}"))


def test_answers_that_are_taken_later_cannot_be_compared(letters, dev, pool_file, monkeypatch):
    monkeypatch.setattr("crowdselect.selection.fitting.check_optional", lambda *_, **__: None)
    options = {"budget": 3, "clusters": 0, "answer": f"fits:{letters}"}
    with (
        open_pool(pool_file) as pool,
        pytest.raises(OptionError, match=r"hidden:.*reads it with `method=rds`"),
    ):
        select(pool, Options(**options, embedder=f"hidden:{letters}"), method=method_named(f"rds:{dev}"))


def test_a_pool_without_texts_has_nothing_to_compare(dev, pool_file, tmp_path):
    table = pq.read_table(pool_file)
    pq.write_table(table.drop_columns(["instruction", "response"]), tmp_path / "bare.parquet")
    with (
        open_pool(tmp_path / "bare.parquet") as pool,
        pytest.raises(InputError, match="nothing to compare with"),
    ):
        select(pool, Options(budget=3, clusters=0), method=method_named(f"rds:{dev}"))


def test_robustness_does_not_try_it(dev, pool_file):
    with open_pool(pool_file) as pool, pytest.raises(OptionError, match="`method=rds` reads texts"):
        robustness(pool, Options(budget=3, clusters=0), method=method_named(f"rds:{dev}"))


# ── hidden states ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("model", ["no-such-folder/of/ours", "file.txt"])
def test_a_model_that_is_none_is_one_line(model, pool_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("")
    with open_pool(pool_file) as pool, pytest.raises(OptionError, match=f"`embedder='hidden:{model}'` is"):
        select(pool, Options(budget=3, clusters=2, embedder=f"hidden:{model}"))


@pytest.mark.extra
def test_hidden_states_are_a_mean_that_weighs_later_tokens_more(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from crowdselect.embed import hidden
    from tiny_models import build_model

    folder = str(build_model(tmp_path / "model", context=32))
    encode = hidden.load(folder)
    texts = ["Explain why the sky is blue. " * 20, "Write a short poem.", "Cats", ""]
    found = encode(texts)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for text, vector in zip(texts, found, strict=True):
        ids = tokenizer(text)["input_ids"][:32]
        if not ids:
            assert not vector.any()
            continue
        with torch.no_grad():
            states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0].numpy()
        weights = np.arange(1, len(ids) + 1)
        np.testing.assert_allclose(vector, weights @ states / weights.sum(), atol=1e-5)


@pytest.mark.extra
def test_a_folder_that_cannot_be_loaded_is_one_line(dev, pool_file, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    options = Options(budget=3, clusters=0, embedder=f"hidden:{tmp_path / 'broken'}")
    with (
        open_pool(pool_file) as pool,
        pytest.raises(OptionError, match="cannot be loaded as a causal language model"),
    ):
        select(pool, options, method=method_named(f"rds:{dev}"))


@pytest.mark.extra
def test_hidden_states_choose_on_ray_what_they_choose_here(tmp_path, monkeypatch):
    for name in ("ray", "torch", "transformers"):
        pytest.importorskip(name)
    from tiny_models import build_model

    monkeypatch.chdir(tmp_path)
    build_model(tmp_path / "model")
    simulate("pool", instructions=40, shards=2, answer_chars=80)
    lines(tmp_path / "dev.jsonl", ANSWERED)
    asked = ("select", "pool", "--method", "rds:dev.jsonl", "--embedder", "hidden:model", "--budget", 6, "-o")
    ran(*asked, "here")
    ran(*asked, "there", "--engine", "ray", "--workers", 1)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    ran(*asked, "anew", "--engine", "ray", "--workers", 1)
    here, there, anew = (
        pq.read_table(tmp_path / name / "selection.parquet") for name in ("here", "there", "anew")
    )
    assert there.equals(here)
    for column in ("id", "rank", "example", "reason"):
        assert pa.chunked_array(anew[column].chunks).equals(here[column])


@pytest.mark.extra
def test_lsa_chooses_on_ray_what_it_chooses_here(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    simulate("pool", instructions=60, shards=2, answer_chars=80)
    lines(tmp_path / "dev.jsonl", ANSWERED)
    asked = ("select", "pool", "--method", "rds:dev.jsonl", "--budget", 6, "-o")
    ran(*asked, "here")
    ran(*asked, "there", "--engine", "ray", "--workers", 1)
    here, there = (pq.read_table(tmp_path / name / "selection.parquet") for name in ("here", "there"))
    assert there.equals(here)
