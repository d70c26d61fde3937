"""The crowd: from names, from files, aligned with a pool, written and read again."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crowdselect.ask.endpoints import load_endpoints
from crowdselect.crowd import Crowd, Member
from crowdselect.errors import InputError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_from_names_says_what_it_read() -> None:
    crowd = Crowd.from_names(["gemma-2-9b-it", "gpt-4o", "Tanuki-8x8B-dpo"])
    assert crowd.members == (
        Member("gemma-2-9b-it", "gemma-2-it", 9.0, "name"),
        Member("gpt-4o", None, None, "unknown"),
        Member("Tanuki-8x8B-dpo", "tanuki-dpo", None, "name"),
    )
    assert crowd.names == ["gemma-2-9b-it", "gpt-4o", "Tanuki-8x8B-dpo"]
    assert crowd.families == ["gemma-2-it", None, "tanuki-dpo"]
    assert crowd.sizes.dtype == np.float64
    np.testing.assert_array_equal(crowd.sizes, [9.0, math.nan, math.nan])


def test_from_names_needs_different_names() -> None:
    with pytest.raises(InputError, match=r"^the models' names: there is no model"):
        Crowd.from_names([])
    with pytest.raises(InputError, match=r"model 'a-7b' appears twice"):
        Crowd.from_names(["a-7b", "b-7b", "a-7b"])


@pytest.mark.parametrize(
    ("names", "has_order"),
    [
        (["a-7b", "a-9b"], True),
        (["a-7b", "b-9b"], False),
        (["a-7b", "org/a-7b"], False),
        (["gpt-4o", "7b", "9b"], False),
    ],
)
def test_has_order_needs_two_sizes_in_one_family(names: list[str], has_order: bool) -> None:  # noqa: FBT001  (a case's value)
    assert Crowd.from_names(names).has_order is has_order


def test_toml_file_ignores_how_to_reach_a_model(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "crowd.toml",
        '[defaults]\nbase_url = "http://x"\n[[judge]]\nname = "j"\nsize_b = "no"\n'
        '[[model]]\nname = "a"\nfamily = "F"\nsize_b = 7\nmodel = "org/a"\napi_key_env = "KEY"\nprice_in = 0.1\n'
        '[[model]]\nname = "b-7b"\n',
    )
    assert Crowd.from_file(path).members == (
        Member("a", "F", 7.0, "file"),
        Member("b-7b", "b", 7.0, "name"),
    )


def test_what_the_file_does_not_say_is_read_off_the_name(tmp_path: Path) -> None:
    text = (
        '[[model]]\nname = "a-7b"\nfamily = "F"\n[[model]]\nname = "b-9b"\nsize_b = 8\n'
        '[[model]]\nname = "c-1b"\n[[model]]\nname = "gpt-4o"\n'
    )
    assert Crowd.from_file(write(tmp_path, "crowd.toml", text)).members == (
        Member("a-7b", "F", 7.0, "name"),
        Member("b-9b", "b", 8.0, "name"),
        Member("c-1b", "c", 1.0, "name"),
        Member("gpt-4o", None, None, "unknown"),
    )
    json_file = write(tmp_path, "crowd.json", '{"a-7b": {}, "b-9b": {"family": null}}')
    assert Crowd.from_file(json_file).members == (
        Member("a-7b", "a", 7.0, "name"),
        Member("b-9b", None, 9.0, "name"),
    )


def test_unknown_can_be_said_against_the_name(tmp_path: Path) -> None:
    text = '[[model]]\nname = "a-7b"\nfamily = "unknown"\nsize_b = "unknown"\n'
    path = write(tmp_path, "crowd.toml", text)
    crowd = Crowd.from_file(path)
    assert crowd.members == (Member("a-7b", None, None, "file"),)
    assert load_endpoints(path).models[0].name == "a-7b"  # `collect` takes the same file
    assert Crowd.from_file(write(tmp_path, "again.toml", crowd.to_toml())) == crowd


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("c.toml", '[[model]]\nname = "a"\nsize = 7', "model 'a': unknown key 'size'; did you mean 'size_b'?"),
        ("c.toml", '[[model]]\nname = "a"\nfamly = "F"', "unknown key 'famly'; did you mean 'family'?"),
        ("c.toml", '[[model]]\nname = "a"\nmax_tokns = 5', "unknown key 'max_tokns'; did you mean 'max_tokens'?"),
        ("c.toml", '[[modl]]\nname = "a"', "top level: unknown key 'modl'; did you mean 'model'?"),
        ("c.toml", '[note]\na = 1\n[[model]]\nname = "a"', "unknown key 'note'; did you mean 'notes'?"),
        ("c.toml", '[defaults]\ntemprature = 1\n[[model]]\nname = "a"', "[defaults]: unknown key 'temprature'"),
        ("c.toml", '[[judge]]\nname = "j"\nmodl = "m"\n[[model]]\nname = "a"', "judge 'j': unknown key 'modl'"),
        ("c.toml", '[[model]]\nname = "a"\napi_key = "sk-secret"', "'api_key' looks like a secret"),
        ("c.json", '{"a": {"size": 7}}', "model 'a': unknown key 'size'; did you mean 'size_b'?"),
    ],
)  # fmt: skip
def test_unknown_keys_are_refused_with_the_nearest(tmp_path: Path, file: str, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Crowd.from_file(write(tmp_path, file, text))
    assert words in str(caught.value)
    assert file in str(caught.value)
    assert "sk-secret" not in str(caught.value)


def test_notes_and_keys_that_begin_with_x_are_free(tmp_path: Path) -> None:
    text = (
        'x_team = "ours"\n[notes]\nsiz = "anything"\n[notes.more]\nnam = 1\n[x_owner]\nnam = "me"\n'
        '[defaults]\nx_seen = true\n[[model]]\nname = "a-7b"\nx_licence = "mit"\n[[judge]]\nname = "j"\nx_a = 1\n'
    )
    path = write(tmp_path, "crowd.toml", text)
    assert Crowd.from_file(path).names == ["a-7b"]
    plain = write(tmp_path, "plain.toml", '[[model]]\nname = "a-7b"\n')
    assert load_endpoints(path).models[0].digest == load_endpoints(plain).models[0].digest
    assert Crowd.from_file(write(tmp_path, "c.json", '{"a": {"x_licence": "mit"}}')).names == ["a"]


def test_json_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "crowd.JSON",
        '\ufeff{"a": {"family": "F", "size_b": 0.5}, "b": {"family": null, "size_b": null}}',
    )
    assert Crowd.from_file(str(path)).members == (
        Member("a", "F", 0.5, "file"),
        Member("b", None, None, "file"),
    )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("c.toml", "[[model]\n", "broken TOML: .*line 1"),
        ("c.toml", "", "there is no model; a crowd needs at least one"),
        ("c.toml", 'model = "x"', "'model' is not a list of tables"),
        ("c.toml", "model = [1]", "'model' is not a list of tables"),
        (
            "c.toml",
            '[[model]]\nname = "a"\n[[model]]\nfamily = "f"',
            r"\[\[model\]\] number 2 needs a name as text, got None",
        ),
        ("c.toml", "[[model]]\nname = 7", "number 1 needs a name as text, got 7"),
        ("c.toml", '[[model]]\nname = " "', "needs a name as text, got ' '"),
        ("c.toml", '[[model]]\nname = "a"\n[[model]]\nname = "a"', "model 'a' appears twice"),
        ("c.toml", '[[model]]\nname = "a"\nfamily = 3', "model 'a': family must be text, got 3"),
        ("c.toml", '[[model]]\nname = "a"\nfamily = ""', "model 'a': family must be text, got ''"),
        (
            "c.toml",
            '[[model]]\nname = "a"\nsize_b = "7"',
            "model 'a': size_b must be a positive number .*, got '7'",
        ),
        ("c.toml", '[[model]]\nname = "a"\nsize_b = -1', "model 'a': size_b .*, got -1"),
        ("c.toml", '[[model]]\nname = "a"\nsize_b = 0', "model 'a': size_b .*, got 0"),
        ("c.toml", '[[model]]\nname = "a"\nsize_b = nan', "model 'a': size_b .*, got nan"),
        ("c.toml", '[[model]]\nname = "a"\nsize_b = inf', "model 'a': size_b .*, got inf"),
        ("c.toml", '[[model]]\nname = "a"\nsize_b = true', "model 'a': size_b .*, got True"),
        ("c.toml", f'[[model]]\nname = "a"\nsize_b = 1{"0" * 400}', r"model 'a': size_b .*, got 10+\.\.\."),
        ("c.json", '{"a": {"size_b": 1,\n}', r"broken JSON: .* \(line \d, column \d+\)"),
        ("c.json", "{}", "there is no model"),
        ("c.json", "[1]", r"wanted \{name: .*\}, got \[1\]"),
        ("c.json", '{"a": 7}', "model 'a': wanted an object with family and size_b, got 7"),
        ("c.json", '{"a": {}, "a": {}}', "'a' appears twice"),
        ("c.json", '{"a": {"size_b": NaN}}', "model 'a': size_b .*, got nan"),
        ("c.json", '{"a": {"size_b": [7]}}', r"model 'a': size_b .*, got \[7\]"),
        ("c.json", '{"\\ud800": {}}', "half a surrogate pair"),
        ("c.json", "[" * 100_000, "nested too deeply"),
        ("c.yaml", "a: 7", "ends in .toml or .json, this one in '.yaml'"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, file: str, text: str, message: str) -> None:
    path = write(tmp_path, file, text)
    with pytest.raises(InputError, match=message) as caught:
        Crowd.from_file(path)
    assert "\n" not in str(caught.value)
    assert file in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.toml': no such crowd file"):
        Crowd.from_file(tmp_path / "gone.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match=r"folder\.toml': the crowd file cannot be read: "):
        Crowd.from_file(tmp_path / "folder.toml")
    (tmp_path / "latin.toml").write_bytes(b'[[model]]\nname = "\xe9"\n')
    with pytest.raises(InputError, match=r"latin\.toml': byte 19 is not UTF-8"):
        Crowd.from_file(tmp_path / "latin.toml")


def test_aligned_follows_the_pool(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "c.json",
        '{"b": {"family": "F", "size_b": 2}, "x\\n": {}, "a": {"family": "F", "size_b": 1}}',
    )
    crowd, warnings = Crowd.from_file(path).aligned(["a", "b", "c"])
    assert crowd.members == (
        Member("a", "F", 1.0, "file"),
        Member("b", "F", 2.0, "file"),
        Member("c", None, None, "unknown"),
    )
    assert warnings == [
        f"{str(path)!r}: 1 of 3 entries is not in the pool: 'x\\n'",
        f"{str(path)!r}: 1 of 3 models of the pool is without an entry, so family and size are read off the name: 'c'",
    ]


def test_aligned_is_silent_when_all_match_and_an_error_when_none_does(tmp_path: Path) -> None:
    path = write(tmp_path, "c.json", '{"a": {}, "b": {}}')
    crowd = Crowd.from_file(path)
    assert crowd.aligned(["b", "a"])[1] == []
    message = f"{str(path)!r}: no entry matches a model of the pool; the entries are 'a', 'b', the pool's models 'A'"
    with pytest.raises(InputError, match=re.escape(message)):
        crowd.aligned(["A"])


def test_long_lists_are_cut() -> None:
    crowd = Crowd.from_names([f"m-{size}b" for size in range(1, 9)])
    assert crowd.aligned(["m-1b"])[1] == [
        "the models' names: 7 of 8 entries are not in the pool: 'm-2b', 'm-3b', 'm-4b', 'm-5b', 'm-6b' and 2 more"
    ]


def test_toml_says_where_each_value_comes_from() -> None:
    text = Crowd(
        (Member("a", "f", 1.5, "file"), Member("b-7b", "b", 7.0, "name"), Member("c", None, None, "unknown"))
    ).to_toml()
    _, first, second, third = text.split("[[model]]\n")
    assert first == 'name = "a"\nfamily = "f"\nsize_b = 1.5\n\n'
    assert second == 'name = "b-7b"\n# read off the name: please check\nfamily = "b"\nsize_b = 7\n\n'
    assert third == 'name = "c"\n# unknown, add if you know: family, size_b\n'


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1).filter(str.strip),
            st.none() | st.text(min_size=1).filter(lambda text: text.strip() and text != "unknown"),
            st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda entry: entry[0],
    )
)
@settings(max_examples=150, deadline=None)
def test_toml_comes_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, str | None, float | None]]
) -> None:
    crowd = Crowd(tuple(Member(name, family, size, "file") for name, family, size in entries))
    path = write(tmp_path_factory.mktemp("toml"), "crowd.toml", crowd.to_toml())
    found = Crowd.from_file(path).members
    assert [(m.name, m.family, m.size_b) for m in found] == entries


def test_nasty_names_stay_inside_their_string(tmp_path: Path) -> None:
    names = [
        'a"\nsize_b = 9',
        "'''",
        "\\",
        "\x1b[31m",
        "# no comment",
        "[[model]]",
        "\u202e",
        "\U0001f600",
        "\U000e0001",
    ]
    text = Crowd.from_names(names).to_toml()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert Crowd.from_file(write(tmp_path, "c.toml", text)).names == names


def test_half_a_surrogate_pair_cannot_be_written() -> None:
    with pytest.raises(InputError, match=r"'\\ud800': a name with half a surrogate pair"):
        Crowd.from_names(["\ud800"]).to_toml()


@pytest.mark.real
@pytest.mark.parametrize("pool", ["shaberi", "zeroeval", "wildbench"])
def test_real_crowd_files_are_read(data: Path, pool: str) -> None:
    crowd = Crowd.from_file(data / f"{pool}.models.json")
    assert crowd.has_order
    assert {member.source for member in crowd.members} == {"file"}
