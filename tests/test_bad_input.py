"""What is wrong with a file is said in one line: which file, which place, what came, what was wanted."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect.errors import CrowdselectError, InputError, LayoutError, OptionError, RewardError
from crowdselect.pool.pool import open_pool

INF = float("inf")


def long(**columns: list) -> dict[str, list]:
    """Two instructions by two models, with what the test changes."""
    good = {
        "id": ["a", "a", "b", "b"],
        "instruction": ["A?", "A?", "B?", "B?"],
        "model": ["m", "n", "m", "n"],
        "response": ["1", "2", "3", "4"],
        "score": [1.0, 2.0, 3.0, 4.0],
    }
    return {name: column for name, column in (good | columns).items() if column is not None}


def write(path: Path, columns: dict[str, list]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
        return path
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if path.suffix == ".csv":
        lines = [
            list(columns),
            *(["" if value is None else str(value) for value in row.values()] for row in rows),
        ]
        path.write_text("".join(",".join(line) + "\n" for line in lines))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def use(path, *, reward=None, **options) -> None:
    """Open a pool and read all of it."""
    with open_pool(path, **options) as pool:
        pool.scores(reward)
        pool.instructions()
        pool.answered()


def fails(kind: type[CrowdselectError], path, *parts: object, reward=None, **options) -> None:
    with pytest.raises(kind) as caught:
        use(path, reward=reward, **options)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in message
    for part in parts:
        assert str(part) in message, message


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["none.parquet", "no/such/folder", "none-*.csv", "x" * 5000, "nul\0"])
def test_no_such_file(name, tmp_path):
    path = f"{tmp_path}/{name}"
    fails(InputError, path, path, "no such file or folder")


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv", "p.jsonl.gz"])
def test_empty_file(name, tmp_path):
    path = tmp_path / name
    path.touch()
    fails(InputError, path, path, "the file is empty (0 bytes)")


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_no_rows(name, tmp_path):
    types = {"id": pa.string(), "model": pa.string(), "instruction": pa.string(), "score": pa.float64()}
    path = tmp_path / name
    if name.endswith("csv"):
        path.write_text("id,model,instruction,score\n")
    else:
        pq.write_table(pa.schema(types).empty_table(), path)
    fails(InputError, path, path, "holds no rows")


@pytest.mark.parametrize("text", ["\n", " \n\n", "[]"])
def test_json_without_objects(text, tmp_path):
    path = tmp_path / "p.json"
    path.write_text(text)
    fails(InputError, path, path, "no JSON object")


def test_not_parquet(tmp_path):
    path = tmp_path / "p.parquet"
    path.write_text("id,model,score\n")
    fails(InputError, path, path, "not a Parquet file", "b'id,m'")


@pytest.mark.parametrize("keep", [4, 11, 100, -1, -4, -30])
def test_truncated_parquet(keep, tmp_path):
    path = write(tmp_path / "p.parquet", long())
    path.write_bytes(path.read_bytes()[:keep])
    fails(InputError, path, path, "truncated")


def test_parquet_with_a_broken_middle(tmp_path):
    path = write(tmp_path / "p.parquet", long())
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    fails(InputError, path, path)


def test_parquet_with_a_broken_footer(tmp_path):
    path = write(tmp_path / "p.parquet", long())
    data = bytearray(path.read_bytes())
    data[-200:-8] = b"\xff" * 192
    path.write_bytes(data)
    fails(InputError, path, path, "cannot be read")


def test_unknown_file_type(tmp_path):
    path = tmp_path / "p.docx"
    path.write_bytes(b"PK\3\4")
    fails(InputError, path, path, "unknown file type", ".parquet, .jsonl")


def test_folder_without_data(tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    fails(InputError, tmp_path, tmp_path, "holds no data")


def test_folder_of_mixed_types(tmp_path):
    write(tmp_path / "a.parquet", long())
    write(tmp_path / "b.csv", long())
    fails(InputError, tmp_path, tmp_path, "csv and parquet")


def test_folder_with_one_broken_file_names_it(tmp_path):
    write(tmp_path / "a.jsonl", long())
    bad = tmp_path / "b.jsonl"
    bad.write_text('{"id": "c"}\n{"id"\n')
    fails(
        InputError,
        tmp_path,
        f"{bad}: row 1: the model is missing",
        "2 of 6 rows are malformed",
        "`skip_invalid=True`",
    )


# ── JSON and CSV ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"id": "x", "model": ', "is not JSON"),
        (b'{"id": "x"} trailing', "is not JSON"),
        (b"{'id': 'x'}", "is not JSON"),
        (b'{"id": "\xff\xfe"}', "holds byte 0xff, which is not UTF-8"),
        (b"[1, 2]", "is a JSON list, not an object"),
        (b"7", "is a JSON int, not an object"),
    ],
)
def test_broken_json_line_is_named_by_its_number(line, said, packed, tmp_path):
    good = json.dumps({"id": "a", "model": "m", "instruction": "A?", "score": 1}).encode()
    data = b"\n".join([b"", *[good] * 2500, b"", line, good, b"{", b""])
    path = tmp_path / ("p.jsonl.gz" if packed else "p.jsonl")
    path.write_bytes(gzip.compress(data) if packed else data)
    fails(InputError, path, f"{path}: line 2503 {said}")


def test_broken_json_array(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('[{"id": "a"},\n {"id": }]')
    fails(InputError, path, path, "not JSON", "line 2 column 9")


def test_truncated_gzip(tmp_path):
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "a", "model": "m", "score": 1}\n' * 50_000)[:-300])
    fails(InputError, path, path)


def test_uneven_csv(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("id,model,score\na,m,1\nb,m\n")
    fails(InputError, path, f"{path}: row 2 has 2 fields; wanted 3")


def test_csv_column_without_a_name(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("id,,score\na,m,1\n")
    fails(InputError, path, path, "column 2 has no name")


@pytest.mark.parametrize("header", ["id,model,Score,score", "id,model,score,score"])
def test_columns_that_sql_cannot_tell_apart(header, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(f"{header}\na,m,1,2\n")
    fails(InputError, path, path, "differ at most in case", "'score'")


def test_parquet_columns_that_sql_cannot_tell_apart(tmp_path):
    path = write(tmp_path / "p.parquet", long() | {"SCORE": [1, 2, 3, 4]})
    fails(InputError, path, path, "'score' and 'SCORE' differ")


# ── layout and ids ─────────────────────────────────────────────────────────────────────────────────────


def test_unknown_columns(tmp_path):
    path = write(tmp_path / "p.csv", {"prompt": ["x"], "answer": ["y"]})
    fails(
        LayoutError,
        path,
        path,
        "closest is the layout long, which lacks the answers and the models that gave them",
        "found prompt, answer",
    )
    path = write(tmp_path / "q.csv", {"left": ["x"], "right": ["y"]})
    fails(
        LayoutError, path, path, "found left, right", "long", "zoo", "ultrafeedback", "distilabel", "matrix"
    )


def test_unknown_layout(tmp_path):
    fails(LayoutError, write(tmp_path / "p.csv", long()), "'wide'", "long, ultrafeedback", layout="wide")


@pytest.mark.parametrize("layout", ["zoo", "ultrafeedback", "distilabel", "matrix"])
def test_forced_layout_that_does_not_fit(layout, tmp_path):
    path = write(tmp_path / "p.csv", long())
    fails(LayoutError, path, f"not a {layout} pool", "id, instruction, model", layout=layout)


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv"])
@pytest.mark.parametrize("missing", [None, ""])
def test_missing_id(name, missing, tmp_path):
    path = write(tmp_path / name, long(id=["a", "a", missing, "b"]))
    fails(InputError, path, f"{path}: row 3: the id is missing")


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_missing_id_in_the_second_file(kind, tmp_path):
    write(tmp_path / f"1.{kind}", long())
    second = write(tmp_path / f"2.{kind}", long(id=["c", None, "d", "d"]))
    fails(InputError, tmp_path, f"{second}: row 2: the id is missing")


def test_missing_model(tmp_path):
    path = write(tmp_path / "p.jsonl", long(model=["m", "n", "m", None]))
    fails(InputError, path, f"{path}: row 4: the model is missing")


def test_neither_id_nor_text(tmp_path):
    path = write(tmp_path / "p.jsonl", long(id=None, instruction=["A?", "A?", None, "B?"]))
    fails(InputError, path, f"{path}: row 3: the id is missing", "text to make one from")


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv"])
def test_answers_without_a_number_are_samples(name, tmp_path):
    path = write(tmp_path / name, long(model=["m", "n", "n", "n"]))
    with open_pool(path) as pool:
        assert pool.sampled
        assert [note for note in pool.notes if "samples" in note] == [
            "2 answers share instruction and model (n) and have no sample number: they are samples, numbered by their content"
        ]


def test_duplicate_sample(tmp_path):
    path = write(tmp_path / "p.jsonl", long(model=["m", "n", "n", "n"], sample=[0, 1, 2, 2]))
    fails(InputError, path, "id 'b'", "model 'n'", "sample 2")


def test_duplicate_id_where_a_row_is_an_instruction(tmp_path):
    path = write(tmp_path / "p.csv", {"id": ["x", "y", "x"], "m": [1, 2, 3], "n": [1, 2, 3]})
    fails(InputError, path, f"{path}: row 3: duplicate id 'x'", "row 1")


def test_a_model_twice_in_a_list_has_samples(tmp_path):
    path = tmp_path / "p.jsonl"
    answer = {"model": "m", "response": "x", "score": 1}
    path.write_text(
        json.dumps({"id": "x", "instruction": "?", "completions": [answer, {**answer, "model": "n"}, answer]})
    )
    with open_pool(path) as pool:
        assert pool.models == ("m", "n")
        assert pool.sampled


def test_lists_of_different_length(tmp_path):
    path = tmp_path / "p.jsonl"
    lists = {"generations": ["x", "y"], "generation_models": ["m", "n"], "ratings": [1.0, 2.0]}
    rows = [{"instruction": "A?", **lists}, {"instruction": "B?", **lists, "ratings": [1.0]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fails(InputError, path, f"{path}: row 2: ratings has 1 values for 2 answers", "1 of 2 rows is malformed")


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv"])
def test_one_id_with_different_texts(name, tmp_path):
    path = write(tmp_path / name, long(instruction=["A?", "A?", "B?", "C?"]))
    fails(InputError, path, path, "instruction differs within id 'b'", "'B?'", "'C?'")


@pytest.mark.parametrize(
    "messages",
    ["hello", '{"role": "user"}', '[{"role": "user"}]', '[{"role": "tutor", "content": "7"}]', "7"],
)
def test_messages_that_are_none(messages, tmp_path):
    path = write(tmp_path / "p.jsonl", long(instruction=None, messages=[messages] * 4))
    fails(InputError, path, f"{path}: row 1: ", "message", "; wanted", "4 of 4 rows are malformed")


def test_column_of_a_pool(tmp_path):
    path = write(tmp_path / "p.csv", long(task=["x", "x", "y", "z"]))
    with open_pool(path) as pool:
        with pytest.raises(InputError, match=r"column 'task' differs within id 'b': 'y' and 'z'"):
            pool.column("task")
        with pytest.raises(InputError, match=r"no column 'tusk'; found id, instruction"):
            pool.column("tusk")


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([[1.0, 2.0], [1.0]], r"has 1 numbers at id 'b'; wanted 2"),
        ([[1.0, 2.0], None], r"has 0 numbers at id 'b'; wanted 2"),
        ([[1.0, 2.0], [1.0, None]], r"missing or infinite number at id 'b'"),
        ([[1.0, INF], [1.0, 2.0]], r"missing or infinite number at id 'a'"),
    ],
)
def test_vectors(vectors, said, tmp_path):
    path = write(
        tmp_path / "p.parquet",
        {"id": ["a", "b"], "m": [1, 2], "n": [2, 1], "vector": vectors, "task": ["x", "y"]},
    )
    with open_pool(path) as pool:
        with pytest.raises(InputError, match=said):
            pool.vector_column("vector")
        with pytest.raises(InputError, match=r"column 'm' holds no vectors"):
            pool.vector_column("m")
        with pytest.raises(InputError, match=r"column 'task' has 0 numbers at id 'a'; wanted a list of them"):
            pool.vector_column("task")


def test_unknown_pairs(tmp_path):
    with open_pool(write(tmp_path / "p.csv", long())) as pool:
        with pytest.raises(InputError, match=r"no id 'z' in the pool"):
            pool.responses([("a", "m"), ("z", "m")])
        with pytest.raises(InputError, match=r"no model 'z'; found m, n"):
            pool.responses([("a", "z")])


@pytest.mark.parametrize("limit", [0, -3])
def test_limit(limit, tmp_path):
    fails(OptionError, write(tmp_path / "p.csv", long()), f"`limit` is {limit}", limit=limit)


# ── rewards ────────────────────────────────────────────────────────────────────────────────────────────


def test_no_reward(tmp_path):
    path = write(tmp_path / "p.csv", long(score=None, latency=[1, 2, 3, 4]))
    fails(RewardError, path, path, "no reward", "id, instruction, model, response, latency")


def test_several_rewards(tmp_path):
    path = write(tmp_path / "p.csv", long(score=None, grade=[1, 2, 3, 4], judge=[1, 2, 3, 4]))
    fails(RewardError, path, path, "several reward columns: grade, judge")
    use(path, reward="judge")


@pytest.mark.parametrize("usual", ["rating", "reward", "correct"])
def test_a_reward_of_a_usual_name_comes_first(usual, tmp_path):
    path = write(tmp_path / "p.csv", long(score=None, judge=[1, 2, 3, 4], **{usual: [4, 3, 2, 1]}))
    with open_pool(path) as pool:
        assert pool.reward_name(None) == usual


def test_unknown_reward(tmp_path):
    path = write(tmp_path / "p.csv", long())
    fails(RewardError, path, path, "no reward column 'scare'; found score", reward="scare")


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv"])
@pytest.mark.parametrize("reward", [None, "score"])
def test_reward_that_is_text(name, reward, tmp_path):
    path = write(tmp_path / name, long(score=["1", "2", "good", "4"]))
    fails(RewardError, path, f"score is 'good' at id 'b' ({path}: row 3); wanted a number", reward=reward)


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv"])
def test_true_is_one(name, tmp_path):
    with open_pool(write(tmp_path / name, long(score=[True, False, True, True]))) as pool:
        assert pool.scores("score").tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv"])
def test_numbers_written_as_text_are_numbers_where_all_are(name, tmp_path):
    with open_pool(write(tmp_path / name, long(score=["1", "2", "3", "4"]))) as pool:
        assert pool.scores("score").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("marker", ["NA", "n/a", "None", "null", "nan"])
@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv"])
def test_what_stands_for_no_number_is_missing(name, marker, tmp_path):
    with open_pool(write(tmp_path / name, long(score=["1", marker, "3", "4"]))) as pool:
        assert np.isnan(pool.scores("score")).tolist() == [[False, True], [False, False]]
        assert "score: 1 values such as NA are missing" in pool.notes


def test_reward_that_is_text_for_one_model_of_a_zoo(tmp_path):
    path = tmp_path / "p.jsonl"
    row = {
        "id": "a",
        "instruction": "?",
        "m": {"content": "x", "score": 1},
        "n": {"content": "y", "score": "bad"},
    }
    path.write_text(json.dumps(row))
    fails(RewardError, path, "n: score is 'bad' at id 'a'")


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl", "p.csv"])
@pytest.mark.parametrize("value", [INF, -INF])
def test_infinite_reward(name, value, tmp_path):
    path = write(tmp_path / name, long(score=[1.0, 2.0, value, 4.0]))
    fails(InputError, path, f"{path}: score is {value} at id 'b', model 'm'")


def test_infinite_reward_of_a_matrix(tmp_path):
    path = write(tmp_path / "p.parquet", {"id": ["b", "a"], "m": [1.0, 2.0], "n": [3.0, -INF]})
    fails(InputError, path, f"{path}: score is -inf at id 'a', model 'n'")


def test_mean_over_samples_that_overflows(tmp_path):
    path = write(
        tmp_path / "p.parquet",
        long(model=["m", "n", "m", "m"], sample=[0, 0, 0, 1], score=[1, 2, -1.7e308, 1.7e308]),
    )
    fails(InputError, path, "the mean of score over samples is inf at id 'b', model 'm'")


def test_reward_missing_everywhere(tmp_path):
    path = write(tmp_path / "p.parquet", long(score=[float("nan")] * 4))
    fails(RewardError, path, "no reward: score is missing for every instruction and model")


def test_one_model(tmp_path):
    path = write(tmp_path / "p.csv", {"id": ["a", "b"], "model": ["m", "m"], "score": [1, 2]})
    fails(InputError, path, path, "a crowd needs at least two models", "only 'm'")


def test_rewards_file(tmp_path):
    pool = write(tmp_path / "p.csv", long())
    twice = write(tmp_path / "twice.csv", {"id": ["a", "a"], "model": ["m", "m"], "judge": [1, 2]})
    fails(InputError, pool, f"{twice}: duplicate answer: id 'a', model 'm'", rewards=twice, reward="judge")
    clash = write(tmp_path / "clash.csv", {"id": ["a"], "model": ["m"], "score": [1]})
    fails(RewardError, pool, f"{clash}: score is a reward of {pool} too; rename it", rewards=clash)
    layout = write(tmp_path / "layout.csv", {"id": ["a"], "judge": [1]})
    fails(LayoutError, pool, f"{layout}: not a rewards file; found the columns id, judge", rewards=layout)
    missing = write(tmp_path / "missing.csv", {"id": ["a", None], "model": ["m", "m"], "judge": [1, 2]})
    fails(InputError, pool, f"{missing}: row 2: the id is missing", rewards=missing, reward="judge")
    words = write(tmp_path / "words.csv", {"id": ["a", "a"], "model": ["m", "n"], "judge": ["1", "good"]})
    fails(RewardError, pool, f"{words}: judge is 'good' at {words}: row 2", rewards=words, reward="judge")
    far = write(tmp_path / "far.csv", {"id": ["a"], "model": ["m"], "judge": ["inf"]})
    fails(RewardError, pool, f"{far}: judge holds no number", rewards=far, reward="judge")
    gone = tmp_path / "gone.csv"
    fails(InputError, pool, f"{gone}: no such file", rewards=gone)
