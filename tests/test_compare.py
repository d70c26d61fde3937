"""Selections side by side: every figure against a plain computation, chance by its own rule, text that stays text."""

import html.parser
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from crowdselect import Options, export, open_pool, select
from crowdselect.compare.facts import Chance, figure_words
from crowdselect.compare.selections import compare, comparison_page
from crowdselect.crowd import Crowd, Member
from crowdselect.errors import InputError, OptionError
from crowdselect.methods.length import by_length
from crowdselect.methods.random_choice import random_choice
from crowdselect.methods.reward import by_reward
from crowdselect.numeric.metrics import stability
from crowdselect.report.page import number

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(2)>",
    "a\x00b\u202ec",
    '"><svg onload=alert(3)>',
    "&lt;already&gt; ]]> <!-- ",
]


def _write(path: Path, n: int = 30, *, seed: int = 0, hostile: bool = False) -> Path:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        vector, words = rng.normal(size=3).tolist(), "x" * int(rng.integers(1, 9))
        for m in range(3):
            name = HOSTILE[m] if hostile else f"qwen2.5-{m + 1}b"
            rows.append(
                {
                    "id": f"{HOSTILE[i % 5]}{i}" if hostile else f"i{i:02d}",
                    "instruction": f"{HOSTILE[i % 5] if hostile else 'Do'} {words} {i}",
                    "model": name,
                    "response": "r" * int(rng.integers(1, 20)),
                    "score": float(rng.integers(0, 9)),
                    "category": HOSTILE[i % 3] if hostile else f"kind {i % 3}",
                    "vector": vector,
                }
            )
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _folders(tmp_path: Path, pool_file: Path, **methods) -> list[str]:
    made = []
    with open_pool(pool_file, layout="long") as pool:
        for name, (method, more) in methods.items():
            options = Options(**{"budget": 6, "clusters": 0, "weights": {"difficulty": 1.0}, **more})
            chosen = select(pool, options) if method is None else select(pool, options, method=method)
            export(chosen, pool, tmp_path / name)
            made.append(str(tmp_path / name))
    return made


@pytest.fixture
def folders(tmp_path):
    pool = _write(tmp_path / "pool.parquet")
    return _folders(
        tmp_path, pool, ours=(None, {}), long=(by_length(), {}), best=(by_reward(), {"budget": 9})
    )


def _compare(folders, **more):
    return compare(folders, **{"embedder": "column:vector", "clusters": 4, "cache": False, **more})


def test_every_figure_is_what_a_plain_computation_gives(folders, tmp_path):
    found = _compare(folders)
    table = pq.read_table(tmp_path / "pool.parquet").to_pylist()
    best, vector, text, answers = {}, {}, {}, {}
    for row in table:
        best[row["id"]] = max(best.get(row["id"], -1), row["score"])
        vector[row["id"]] = np.array(row["vector"]) / np.linalg.norm(row["vector"])
        text[row["id"]] = row["instruction"]
        answers[row["id"], row["model"]] = row["response"]
    for side in found.sides:
        chosen = [
            r for r in pq.read_table(Path(side.name) / "selection.parquet").to_pylist() if r["selected"]
        ]
        ids = [row["id"] for row in chosen]
        closest = [max(min(float(vector[i] @ vector[j]), 1.0) for j in ids if j != i) for i in ids]
        wanted = {
            "rows": len(ids),
            "instruction_length": np.mean([len(text[i]) for i in ids]),
            "answer_length": np.mean([len(answers[row["id"], row["model"]]) for row in chosen]),
            "best_reward": np.mean([best[i] for i in ids]),
            "answer_reward": np.mean([row["reward"] for row in chosen]),
            "difficulty": np.mean([row["difficulty"] for row in chosen]),
            "separability": np.mean([row["separability"] for row in chosen]),
            "stability": np.mean([row["stability"] for row in chosen]),
            "neighbour_distance": np.mean([1 - c for c in closest]),
            "near_duplicates": np.mean([c > 0.9 for c in closest]),
            "models": len({row["model"] for row in chosen}),
        }
        for name, value in wanted.items():
            assert side.figures[name] == pytest.approx(value, rel=1e-5), (side.name, name)
        assert 1 <= side.figures["clusters"] <= 4
        assert 0 <= side.figures["entropy"] <= 2
        models = Counter(row["model"] for row in chosen)
        assert side.mixes["models"] == {name: count / len(ids) for name, count in models.items()}
        assert sum(side.mixes["category"].values()) == pytest.approx(1)
    assert list(found.sides[0].figures) == list(figure_words())


def test_overlap_counts_rows_and_divides_by_all(folders):
    found = _compare(folders)
    sets = []
    for folder in folders:
        table = pq.read_table(Path(folder) / "selection.parquet")
        sets.append(set(table.filter(table["selected"])["id"].to_pylist()))
    for i, one in enumerate(sets):
        for j, other in enumerate(sets):
            assert found.overlap[i, j] == len(one & other)
            assert found.jaccard[i, j] == pytest.approx(len(one & other) / len(one | other))
            assert found.expected[i, j] == pytest.approx(len(one) * len(other) / 30)


def test_chance_is_drawn_where_no_random_selections_are_given(folders):
    found = _compare(folders, draws=50)
    assert found.random == f"50 draws of 6 rows that {folders[0]} could choose, with its answers"
    assert len(found.sides) == 3
    means = [found.chance[name] for name in ("difficulty", "answer_length", "best_reward")]
    assert all(chance.low < chance.mean < chance.high for chance in means)
    assert (
        found.chance["difficulty"].beyond(found.sides[0].figures["difficulty"]) == 1
    )  # it was chosen for that
    assert "rows" not in found.chance
    assert _compare(folders, draws=50).as_dict() == found.as_dict()


def test_random_selections_are_the_reference_and_their_spread_is_over_seeds(tmp_path, folders):
    random = random_choice()
    (tmp_path / "random").mkdir()
    more = {f"random/seed-{seed}": (random, {"seed": seed}) for seed in range(4)}
    (tmp_path / "spread").mkdir()
    more |= {
        f"spread/seed-{seed}": (random, {"seed": seed, "clusters": 3, "embedder": "column:vector"})
        for seed in range(3)
    }
    made = _folders(tmp_path, tmp_path / "pool.parquet", **more)
    found = _compare([folders[0], str(tmp_path / "random"), str(tmp_path / "spread")])
    assert [side.name for side in found.sides] == [folders[0], f"{tmp_path / 'spread'} (3 seeds)"]
    assert found.random == f"{tmp_path / 'random'} (4 seeds)"
    each = [_compare([name, folders[0]]).sides[0].figures for name in made[:4]]
    values = np.array([figures["separability"] for figures in each])
    chance = found.chance["separability"]
    assert chance.mean == pytest.approx(values.mean())
    assert chance.spread == pytest.approx(values.std(ddof=1))
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=values.std(ddof=1) * np.sqrt(1 + 1 / 4))
    assert (chance.low, chance.high) == (pytest.approx(low), pytest.approx(high))
    assert found.overlap.shape == (3, 3)
    assert found.overlap[1, 1] < 6  # of seeds it is the mean over pairs of different ones


def test_one_random_selection_is_no_reference(tmp_path, folders):
    made = _folders(tmp_path, tmp_path / "pool.parquet", alone=(random_choice(), {}))
    found = _compare([*folders, *made])
    assert len(found.sides) == 4
    assert found.random.startswith("20 draws")


def test_without_the_pool_what_the_folder_knows_is_shown(folders, tmp_path):
    (tmp_path / "pool.parquet").rename(tmp_path / "moved.parquet")
    found = _compare(folders)
    assert any("pass its current path as `pool`" in problem for problem in found.problems)
    assert found.sides[0].figures["instruction_length"] is None
    assert found.sides[0].figures["difficulty"] is not None
    assert "pass its current path" in comparison_page(found)
    again = _compare(folders, pool=str(tmp_path / "moved.parquet"))
    assert again.problems == ()
    assert again.sides[0].figures["instruction_length"] is not None


def test_selections_of_two_pools_are_refused(folders, tmp_path):
    other = _write(tmp_path / "other.parquet", seed=1)
    (made,) = _folders(tmp_path, other, other=(None, {}))
    with pytest.raises(InputError, match=re.escape(f"{made}: made from another pool")):
        _compare([*folders, made])
    small = _write(tmp_path / "small.parquet", 3)
    with pytest.raises(InputError, match="27 ids of the selections are not in it"):
        _compare(folders, pool=str(small))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"draws": 1}, "`draws` is 1; wanted at least 2"),
        ({"clusters": 0}, "`clusters` is 0; wanted at least 1"),
        ({"unit": "pyproject.toml"}, "tokenizer"),
    ],
)
def test_options_that_make_no_sense_are_refused(folders, more, said):
    with pytest.raises((OptionError, InputError, ImportError), match=said):
        _compare(folders, **more)
    with pytest.raises(OptionError, match=rf"^{re.escape(str(folders[0]))} is named twice"):
        _compare([folders[0], folders[0]])


class _Page(html.parser.HTMLParser):
    """Collects what would act: elements, attributes, styles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data


def test_hostile_text_stays_text_and_nothing_can_run(tmp_path):
    pool = _write(tmp_path / "pool.parquet", hostile=True)
    place = tmp_path / "<img src=x onerror=alert(4)>"
    place.mkdir()
    folders = _folders(place, pool, ours=(None, {"weights": {"separability": 1.0}}), long=(by_length(), {}))
    page = comparison_page(_compare(folders))
    parsed = _Page()
    parsed.feed(page)
    assert not {"script", "img", "iframe", "link", "object", "a", "form"} & set(parsed.tags)
    assert parsed.tags["style"] == 1
    assert not any(name.startswith("on") or name in {"src", "href", "style"} for name in parsed.attributes)
    assert "<script>alert(1)</script>" in parsed.text
    assert "<img src=x onerror=alert(4)>" in parsed.text
    assert "\x00" not in page
    assert "\u202e" not in page
    assert "default-src 'none'; style-src 'sha256-" in page
    assert "http" not in page.replace("http-equiv", "")
    assert 'name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme: dark" in page


def test_the_command_writes_a_page_and_prints(run, folders, tmp_path):
    common = ("--embedder", "column:vector", "--clusters", 4)
    ran = run("compare", *folders, *common, "-o", tmp_path / "c.html")
    assert ran.code == 0, ran.err
    assert "  difficulty  " in ran.out
    assert " ▲" in ran.out
    assert (tmp_path / "c.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run("compare", *folders, *common, "-o", tmp_path / "c.html").out.startswith("up to date: ")
    run("compare", *folders, *common, "--seed", 1, "-o", tmp_path / "c.html").refuses(
        "--seed was 0 and is now 1", "--overwrite"
    )
    run("compare", *folders, "-o", tmp_path / "c.pdf").refuses("name a file that ends in .html")
    run("compare", tmp_path / "nothing").refuses("not a crowdselect output folder (no manifest.json)")
    told = json.loads(run("compare", *folders, *common, "--json").out)
    assert [s["name"] for s in told["selections"]] == folders
    assert told["selections"][0]["beyond_random"]["difficulty"] == 1
    assert told["overlap"]["rows"][0][0] == 6


def test_marks_and_numbers():
    assert [Chance(0, 1, -2, 2).beyond(value) for value in (-3, -2, 0, 2, 3)] == [-1, 0, 0, 0, 1]
    assert number(float("nan")) == "-"


def test_ordinary_draws_are_rarely_marked(tmp_path):
    """The rule is honest: a further random choice is marked about one time in twenty, not more."""
    pool = _write(tmp_path / "pool.parquet", 60)
    made = _folders(tmp_path, pool, r0=(by_length(), {}))
    found = _compare(made, draws=200)
    rng = np.random.default_rng(5)
    scores = pq.read_table(tmp_path / "r0" / "selection.parquet")["separability"].to_numpy()
    draws = [scores[rng.choice(60, 6, replace=False)].mean() for _ in range(400)]
    marked = np.mean([found.chance["separability"].beyond(value) != 0 for value in draws])
    assert marked < 0.1


# ── the order in which selections are named ──────────────────────────────────────────────────────────


def _with_crowd(tmp_path, name, sizes, **more):
    crowd = Crowd(tuple(Member(f"qwen2.5-{m + 1}b", "q", size, "file") for m, size in enumerate(sizes)))
    with open_pool(tmp_path / "pool.parquet", layout="long") as pool:
        options = Options(**{"budget": 6, "clusters": 0, "weights": {"stability": 1.0}, **more})
        export(select(pool, options, crowd=crowd), pool, tmp_path / name)
    return str(tmp_path / name)


def _unordered(found):
    """Everything that a comparison says, without regard to the order of its selections."""
    told = found.as_dict()
    told["selections"] = sorted(told["selections"], key=lambda one: one["name"])
    names = told["overlap"].pop("names")
    order = np.argsort(names)
    told["overlap"] = {
        name: np.array(table)[order][:, order].tolist() for name, table in told["overlap"].items()
    }
    return told


def test_selections_of_different_crowds_need_one_that_is_named(tmp_path, run):
    _write(tmp_path / "pool.parquet")
    one = _with_crowd(tmp_path, "one", (1.0, 2.0, 3.0))
    other = _with_crowd(tmp_path, "other", (3.0, 2.0, 1.0))
    for named in ([one, other], [other, one]):
        with pytest.raises(
            InputError, match=r"other: made with another crowd than .*one: 'qwen2.5-1b' is of family 'q', 3B"
        ):
            _compare(named)
    crowd = Crowd(
        tuple(Member(f"qwen2.5-{m + 1}b", "q", size, "file") for m, size in enumerate((2.0, 9.0, 4.0)))
    )
    found = _compare([one, other], crowd=crowd)
    assert _unordered(_compare([other, one], crowd=crowd)) == _unordered(found)
    with open_pool(tmp_path / "pool.parquet", layout="long") as pool:
        expected = stability(pool.scores(), sizes=crowd.sizes, families=crowd.families)
        place = {i: row for row, i in enumerate(pool.ids)}
    for side in found.sides:
        table = pq.read_table(Path(side.name) / "selection.parquet")
        rows = [place[i] for i in table.filter(table["selected"])["id"].to_pylist()]
        assert side.figures["stability"] == pytest.approx(expected[rows].mean())
    (tmp_path / "crowd.toml").write_text(crowd.to_toml())
    asked = ("compare", "--embedder", "column:vector", "--json", "--crowd", tmp_path / "crowd.toml")
    said = [json.loads(run(*asked, *named).out)["selections"] for named in ([one, other], [other, one])]
    assert said[0][0]["figures"]["stability"] == found.sides[0].figures["stability"]
    assert said[0] == said[1][::-1]
    assert run("compare", one, other).code == 2
    (tmp_path / "pool.parquet").unlink()
    with pytest.raises(InputError, match="no other crowd can be used"):
        _compare([one, other], crowd=crowd)


def test_the_order_of_the_folders_changes_no_figure(tmp_path):
    _write(tmp_path / "pool.parquet")
    table = pq.read_table(tmp_path / "pool.parquet")
    marks = pa.array(np.random.default_rng(5).integers(0, 9, len(table)).astype(float))
    pq.write_table(table.append_column("mark", marks), tmp_path / "pool.parquet")
    made = [
        _with_crowd(tmp_path, "a", (1.0, 2.0, 3.0), reward="score"),
        _with_crowd(tmp_path, "b", (1.0, 2.0, 3.0), reward="mark", budget=9, ties="paper"),
        _with_crowd(tmp_path, "c", (1.0, 2.0, 3.0), reward="score", keep="best_reward=4.."),
    ]
    found = _compare(made)
    for named in (made[::-1], [made[1], made[0], made[2]]):
        assert _unordered(_compare(named)) == _unordered(found)
    assert any("different rewards (mark, score)" in problem for problem in found.problems)
    assert any("count ties in different ways" in problem for problem in found.problems)


def test_a_figure_that_no_choice_can_change_is_never_marked(tmp_path):
    file = _write(tmp_path / "pool.parquet")
    (every,) = _folders(tmp_path, file, every=(None, {"budget": 30}))
    found = _compare([every])
    beyond = found.as_dict()["selections"][0]["beyond_random"]
    assert set(beyond.values()) == {0}, beyond


def test_a_selection_whose_ids_an_earlier_version_wrote_is_told(tmp_path: Path) -> None:
    file = _write(tmp_path / "pool.parquet")
    table = pq.read_table(file)
    numbers = [float(id_[1:]) for id_ in table["id"].to_pylist()]
    pq.write_table(table.set_column(0, "id", [numbers]), file)
    folders = []
    for name in ("before", "now"):
        with open_pool(file) as pool:
            folders.append(str(export(select(pool, Options(budget=5, clusters=0)), pool, tmp_path / name)))
    place = tmp_path / "before" / "selection.parquet"
    older = pq.read_table(place)
    ids = [[f"{id_}.0" for id_ in older["id"].to_pylist()]]
    pq.write_table(older.set_column(older.column_names.index("id"), "id", ids), place)
    told = r"now: no instruction in common with .*before: its ids are written as '0', those as '0.0'; .*select again"
    with pytest.raises(InputError, match=told):
        compare(folders)
    with pytest.raises(
        InputError, match=r"pool.parquet: 30 ids of the selections .*: select again with this version"
    ):
        compare(folders[:1])
