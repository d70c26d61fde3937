"""k-means, groups by column and the nearest chosen row."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from crowdselect.errors import InputError, OptionError, ShapeError
from crowdselect.numeric import clusters as cluster
from crowdselect.numeric.clusters import group_labels, kmeans, near
from crowdselect.seeding import seeded_hash


def keys_of(count, *, seed=0):
    return seeded_hash([f"id{row:06d}" for row in range(count)], seed=seed, salt="sample")


def blobs(rows, *, topics, dimensions=16, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(topics, dimensions)) * 10
    topic = rng.integers(topics, size=rows)
    return (centres[topic] + rng.normal(size=(rows, dimensions))).astype(np.float32), topic


def inertia(vectors, labels):
    parts = (vectors[labels == label].astype(np.float64) for label in np.unique(labels))
    return sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)


def test_finds_well_separated_blobs():
    vectors, topic = blobs(2_000, topics=8)
    labels = kmeans(vectors, k=8, keys=keys_of(2_000))
    assert labels.dtype == np.int32
    assert adjusted_rand_score(topic, labels) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_is_as_tight_as_scikit_learn_with_twenty_starts(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(800, 8)).astype(np.float32)
    labels = kmeans(vectors, k=12, keys=keys_of(800), seed=seed)
    with threadpool_limits(limits=1):  # many threads on so few rows only wait for each other
        theirs = KMeans(n_clusters=12, n_init=20, random_state=seed).fit(vectors).labels_
    assert inertia(vectors, labels) <= 1.01 * inertia(vectors, theirs)


def test_a_sample_is_fitted_and_all_rows_are_assigned(monkeypatch):
    monkeypatch.setattr(cluster, "_SAMPLE", 500)
    vectors, topic = blobs(9_000, topics=5)
    labels = kmeans(vectors, k=5, keys=keys_of(9_000))
    assert labels.shape == (9_000,)
    assert adjusted_rand_score(topic, labels) == 1.0


def test_the_sample_is_of_the_smallest_keys(monkeypatch):
    monkeypatch.setattr(cluster, "_SAMPLE", 200)
    vectors, _ = blobs(400, topics=2)
    vectors[200:] = np.random.default_rng(5).normal(size=(200, 16)).astype(np.float32) * 1e3
    changed = vectors.copy()
    changed[300:] *= 2.0  # outside the sample: the centres, and so all other labels, stay
    keys = np.arange(400, dtype=np.uint64)
    assert np.array_equal(kmeans(vectors, k=2, keys=keys)[:300], kmeans(changed, k=2, keys=keys)[:300])


def test_row_order_of_the_input_changes_nothing_once_ids_are_sorted():
    vectors, _ = blobs(1_500, topics=9)
    ids = np.array([f"id{row * 7919 % 1500:05d}" for row in range(1_500)])
    shuffled = np.random.default_rng(1).permutation(1_500)

    def run(ids, vectors):
        order = np.argsort(ids)
        keys = seeded_hash(ids[order].tolist(), seed=3, salt="sample")
        return dict(
            zip(ids[order].tolist(), kmeans(vectors[order], k=9, keys=keys, seed=3).tolist(), strict=True)
        )

    assert run(ids, vectors) == run(ids[shuffled], vectors[shuffled])


@pytest.mark.parametrize("k", [3, 40])
def test_same_labels_whatever_the_number_of_threads(k):
    vectors = np.random.default_rng(2).normal(size=(5_000, 64)).astype(np.float32)
    runs = []
    for threads in (1, 2, 4):
        with threadpool_limits(limits=threads):
            runs.append(kmeans(vectors, k=k, keys=keys_of(5_000), seed=1))
    assert all(np.array_equal(runs[0], labels) for labels in runs[1:])


def test_labels_are_numbered_by_smallest_row():
    vectors, _ = blobs(300, topics=6)
    labels = kmeans(vectors, k=6, keys=keys_of(300))
    _, first = np.unique(labels, return_index=True)
    assert first.tolist() == sorted(first.tolist())
    assert labels[0] == 0


@given(
    vectors=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 4)),
        elements=st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, -3e38]),
    ),
    k=st.integers(1, 12),
    seed=st.integers(-(2**70), 2**70),
)
@settings(max_examples=60, deadline=None)
def test_any_small_input_gives_dense_labels_and_equal_rows_share_one(vectors, k, seed):
    k = min(k, len(vectors))
    labels = kmeans(vectors, k=k, keys=keys_of(len(vectors)), seed=seed)
    assert sorted(set(labels.tolist())) == list(range(labels.max() + 1))
    assert labels.max() < k
    rows = [row.tobytes() for row in vectors + np.float32(0)]
    assert len(set(zip(rows, labels.tolist(), strict=True))) == len(set(rows))


@pytest.mark.parametrize(("different", "k"), [(1, 5), (3, 3), (3, 10)])
def test_fewer_different_rows_than_clusters_gives_fewer_clusters_without_a_warning(different, k):
    vectors = np.eye(4, dtype=np.float32)[np.arange(50) % different]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = kmeans(vectors, k=k, keys=keys_of(50))
    assert labels.tolist() == (np.arange(50) % different).tolist()


def test_as_many_clusters_as_rows():
    vectors = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    assert kmeans(vectors, k=20, keys=keys_of(20)).tolist() == list(range(20))


def test_one_cluster_and_one_row():
    assert kmeans(np.ones((3, 2), dtype=np.float32), k=1, keys=keys_of(3)).tolist() == [0, 0, 0]
    assert kmeans(np.zeros((1, 2), dtype=np.float32), k=1, keys=keys_of(1)).tolist() == [0]


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1.0, 1e20, 1e36])
def test_scale_changes_nothing(scale):
    vectors, topic = blobs(200, topics=4)
    labels = kmeans((vectors * np.float64(scale)).astype(np.float32), k=4, keys=keys_of(200))
    assert adjusted_rand_score(topic, labels) == 1.0


@pytest.mark.parametrize("k", [0, -1, 6])
def test_an_impossible_number_of_clusters_names_both_numbers(k):
    with pytest.raises(OptionError, match=rf"{k} clusters of 5 instructions; wanted 1 to 5"):
        kmeans(np.ones((5, 2), dtype=np.float32), k=k, keys=keys_of(5))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_names_its_row(bad):
    vectors = np.ones((5, 2), dtype=np.float32)
    vectors[3, 1] = bad
    with pytest.raises(InputError, match="row 3 holds NaN or infinity"):
        kmeans(vectors, k=2, keys=keys_of(5))


def test_shapes_that_do_not_fit_are_said():
    with pytest.raises(ShapeError, match=r"not \(5,\)"):
        kmeans(np.ones(5, dtype=np.float32), k=1, keys=keys_of(5))
    with pytest.raises(ShapeError, match=r"not \(5, 0\)"):
        kmeans(np.ones((5, 0), dtype=np.float32), k=1, keys=keys_of(5))
    with pytest.raises(ShapeError, match=r"\(5,\), one per row of vectors, not \(4,\)"):
        kmeans(np.ones((5, 2), dtype=np.float32), k=1, keys=keys_of(4))


def test_groups_of_a_column_are_in_code_point_order_and_missing_is_one_of_them():
    labels, names = group_labels(np.array(["é", "b", None, "B", "b"], dtype=object))
    assert labels.tolist() == [2, 1, 3, 0, 1]
    assert labels.dtype == np.int32
    assert names == ["B", "b", "é", "(missing)"]


def test_a_value_called_missing_is_not_missing():
    labels, names = group_labels(["(missing)", None])
    assert labels.tolist() == [0, 1]
    assert names == ["(missing)", "(missing)"]


@pytest.mark.parametrize(("values", "names"), [([], []), ([None, None], ["(missing)"]), (["a"], ["a"])])
def test_groups_of_edge_columns(values, names):
    labels, found = group_labels(values)
    assert found == names
    assert labels.tolist() == [0] * len(values)


def test_near_finds_the_highest_cosine_whatever_the_lengths():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 7)).astype(np.float32) * rng.uniform(0.1, 10, size=(50, 1)).astype(
        np.float32
    )
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    chosen = [4, 9, 30, 41]
    row, cosine = near(vectors, candidate=17, chosen=chosen)
    expected = unit[chosen] @ unit[17]
    assert row == chosen[int(expected.argmax())]
    assert cosine == pytest.approx(expected.max(), abs=1e-12)


def test_near_a_zero_row_an_equal_row_and_nothing():
    vectors = np.array([[0, 0], [1, 1], [1, 1], [1, 1]], dtype=np.float32)
    assert near(vectors, candidate=0, chosen=[1]) == (1, 0.0)
    assert near(vectors, candidate=1, chosen=[0, 3, 2]) == (3, pytest.approx(1.0, abs=1e-15))
    assert near(vectors, candidate=1, chosen=[]) == (-1, -1.0)
