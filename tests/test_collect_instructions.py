"""Instructions from every file type and shape; ids, repetitions, other columns, and what is refused."""

import gzip
import json
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crowdselect.collect.instructions import open_instructions
from crowdselect.errors import InputError
from crowdselect.pool.howread import HowRead


def jsonl(folder, *rows, name="in.jsonl"):
    path = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def asked(path):
    with open_instructions(path) as found:
        return {prompt.id: (json.loads(prompt.prompt), prompt.then) for prompt in found.prompts()}


def user(text):
    return {"role": "user", "content": text}


def test_the_three_shapes(tmp_path):
    chat = [{"role": "system", "content": "S"}, user("A"), {"role": "assistant", "content": "B"}, user("C")]
    path = jsonl(
        tmp_path,
        {"id": "1", "instruction": "plain é"},
        {"id": "2", "messages": chat},
        {"id": "3", "turns": ["first", "second", "third"]},
        {"id": "4", "messages": chat[:1], "turns": ["one"], "instruction": "said beside"},
        {"id": "5", "instruction": "with nulls", "messages": None, "turns": []},
    )
    assert asked(path) == {
        "1": ([user("plain é")], ()),
        "2": (chat, ()),
        "3": ([user("first")], ("second", "third")),
        "4": ([chat[0], user("one")], ()),
        "5": ([user("with nulls")], ()),
    }
    with open_instructions(path) as found:
        assert (found.count, found.turns, found.has_instruction, found.has_messages) == (5, 7, True, True)


def test_every_file_type_asks_the_same(tmp_path):
    rows = [{"id": f"i{n}", "instruction": f'q{n}, "é"\n', "level": n} for n in range(5)]
    (tmp_path / "a.csv").write_text(
        "id,instruction,level\n"
        + "".join(
            f'{r["id"]},"{r["instruction"].replace(chr(34), chr(34) * 2)}",{r["level"]}\n' for r in rows
        ),
        encoding="utf-8",
    )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    paths = [
        jsonl(tmp_path, *rows),
        jsonl(tmp_path, *rows, name="b.jsonl.gz"),
        tmp_path / "a.csv",
        tmp_path / "a.parquet",
    ]
    found, prints = [], set()
    for path in paths:
        with open_instructions(path) as opened:
            prints.add(opened.fingerprint)
            found.append(list(opened.prompts()))
            (batch,) = opened.batches()
            assert batch.column("x0").to_pylist() == [0, 1, 2, 3, 4]
            assert pa.types.is_int64(batch.column("x0").type)
    assert all(prompts == found[0] for prompts in found)
    assert len(prints) == 1


def test_without_an_id_the_content_is_the_id_and_repetitions_are_left_out(tmp_path):
    path = jsonl(
        tmp_path,
        *({"instruction": text} for text in ["a", "b", "a", "c", "b"]),
        {"instruction": None},
        {"instruction": "  "},
    )
    with open_instructions(path) as found:
        ids = [prompt.id for prompt in found.prompts()]
        assert len(set(ids)) == len(ids) == found.count == 3
        assert found.without_text == 2
        assert any("2 rows repeat another" in note for note in found.notes)
        assert any("left out: 2 rows without text" in note for note in found.notes)
    again = jsonl(tmp_path, {"instruction": "c"}, {"instruction": "a"}, name="other.jsonl")
    assert set(asked(again)) < set(ids)


def test_other_columns_keep_their_types(tmp_path):
    row = {
        "id": "1",
        "instruction": "q",
        "topic": "t",
        "n": 2**40,
        "x": 0.5,
        "ok": True,
        "tags": ["a"],
        "deep": {"a": 1},
        "model": "m",
        "cost": 3,
    }
    with open_instructions(jsonl(tmp_path, row)) as found:
        assert found.carried == ("topic", "n", "x", "ok", "tags", "deep")
        (batch,) = found.batches()
        values = {name: batch.column(f"x{at}")[0].as_py() for at, name in enumerate(found.carried)}
        assert values == {"topic": "t", "n": 2**40, "x": 0.5, "ok": True, "tags": ["a"], "deep": {"a": 1.0}}
        assert any("model, cost" in note for note in found.notes)
    table = pa.table(
        {
            "id": ["1"],
            "instruction": ["q"],
            "day": [date(2020, 1, 1)],
            "v": pa.array([[1.5]], pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    with open_instructions(tmp_path / "p.parquet") as found:
        (batch,) = found.batches()
        assert (batch.column("x0")[0].as_py(), batch.column("x1")[0].as_py()) == (date(2020, 1, 1), [1.5])


def test_a_pool_can_be_asked_again_and_its_answers_are_not_carried(tmp_path):
    row = {"uuid": "1", "instruction": "q", "m-7b": {"content": "a", "r": 1.0}, "topic": "t"}
    with open_instructions(jsonl(tmp_path, row)) as found:
        assert found.carried == ("topic",)
        assert any("m-7b" in note for note in found.notes)


def test_what_is_asked_is_the_whole_prompt(tmp_path):
    tools = [{"type": "function", "function": {"name": "f"}}]
    answered = [user("c"), {"role": "assistant", "content": "an answer"}]
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    rows = (
        {"id": "1", "instruction": "a", "input": "b"},
        {"id": "2", "instruction": "a", "system": "s", "tools": tools},
        {"id": "3", "messages": answered},
        {"id": "4", "messages": picture},
    )
    with open_instructions(jsonl(tmp_path, *rows)) as found:
        asked = {prompt.id: prompt.request(0) for prompt in found.prompts()}
        assert asked["1"].messages() == [user("a\nb")]
        assert asked["2"].messages() == [{"role": "system", "content": "s"}, user("a")]
        assert asked["2"].tools() == tools
        assert asked["3"].messages() == [user("c")]
        assert "4" not in asked
        assert "left out: 1 row: not_text" in found.notes
        assert "1 conversation ends with an answer, which is not sent" in found.notes


@pytest.mark.parametrize("name", ["prompt", "question", "problem", "query"])
def test_the_instruction_may_have_another_name(name, tmp_path):
    with open_instructions(jsonl(tmp_path, {"id": "1", name: "a"})) as found:
        assert [prompt.request(0).messages() for prompt in found.prompts()] == [[user("a")]]
    with open_instructions(
        jsonl(tmp_path, {"id": "1", "task": "b", name: "a"}), read=HowRead(columns={"instruction": "task"})
    ) as found:
        assert [prompt.request(0).messages() for prompt in found.prompts()] == [[user("b")]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": "1", "text": "q"}], "nothing to ask: found the columns id, text"),
        ([{"id": "1", "instruction": "a"}, {"id": "1", "instruction": "b"}], "duplicate id '1'"),
        ([{"id": "1", "instruction": "a"}, {"instruction": "b"}], "row 2: the id is missing"),
        ([{"id": "1", "instruction": " "}], "holds no instruction with text"),
        ([{"id": "x", "messages": [{"role": "user"}]}], "row 1: a message is"),
        ([{"id": "x", "turns": ["a", ""]}], "id 'x': turns are"),
        ([{"id": "x", "turns": "no list"}], "id 'x': turns are 'no list'"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, rows, words):
    path = jsonl(tmp_path, *rows)
    with pytest.raises(InputError) as caught:
        open_instructions(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_several_go_through_at_once(tmp_path):
    path = jsonl(tmp_path, *({"id": str(n), "instruction": f"q{n}"} for n in range(5000)))
    with open_instructions(path) as found:
        ways = [found.requests(2) for _ in range(3)]
        seen = [0, 0, 0]
        for turn in range(15_000):
            for at, way in enumerate(ways):
                if turn % (at + 1) == 0 and next(way, None) is not None:
                    seen[at] += 1
        assert seen == [10_000, 7500, 5000]


def test_nothing_is_left_behind(tmp_path):
    path = jsonl(tmp_path, {"id": "1", "instruction": "q"})
    with open_instructions(path, near=tmp_path):
        assert [entry.name for entry in tmp_path.iterdir()] == ["in.jsonl"]
