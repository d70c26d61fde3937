"""The report without a browser: what it shows is what selection.parquet says, and text stays text."""

import base64
import hashlib
import json
import re
import sys

import numpy as np
import pytest

from crowdselect import Options, export, open_pool, select
from crowdselect._optional import install_command
from crowdselect.errors import InputError, MissingExtraError
from crowdselect.report.data import ReportData, content_words, longest, row_data, why
from crowdselect.report.page import json_block, render
from crowdselect.report.projection import POINTS, project, sample
from crowdselect.selection.folder import load_selection
from crowdselect.selection.texts import reopen_pool
from crowdselect.simulate.pool import simulate

EXTREME = [
    "</script>",
    "<!--<script>",
    "\u2028",
    "\ud800",
    "\x00",
    "&amp;",
    "\u202e",
    '"',
    "\\",
    "\U0001f642",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    simulate(place / "pool.parquet", instructions=300)
    with open_pool(place / "pool.parquet") as pool:
        export(select(pool, Options(budget=30, clusters=4, near_duplicates=0.9)), pool, place / "chosen")
    return place / "chosen"


@pytest.fixture(scope="module")
def shown(folder):
    selection = load_selection(folder)
    pool, problem = reopen_pool(selection)
    assert problem is None
    return ReportData(selection, pool)


# Figures of the run


def test_standing_is_that_of_explain(shown):
    for row in range(0, len(shown.ids), 7):
        told, standing = shown.selection.explain(shown.ids[row]), shown.standing
        if told["reason"] in {"selected", "below_cut"}:
            found = (standing.place[row], standing.size[row], standing.quota[row])
            assert found == (told["place"], told["cluster_size"], told["quota"])
            assert standing.short[row] == pytest.approx(told["last"]["score"] - told["score"])
        else:
            assert standing.place[row] == 0


def test_picks_are_the_chosen_in_order_and_the_missed_are_not(shown):
    assert [shown.ids[row] for row in shown.picks(1000)] == shown.selection.chosen
    assert len(shown.picks(3)) == 3
    missed = shown.missed(20)
    assert not shown.chosen[missed].any()
    assert (np.diff(shown.standing.short[missed]) >= 0).all()


def test_extremes_are_ends_of_the_metric(shown):
    high, low = shown.extremes("difficulty", 4)
    values = shown.metrics["difficulty"][shown.eligible]
    assert shown.metrics["difficulty"][high[0]] == np.nanmax(values)
    assert shown.metrics["difficulty"][low[0]] == np.nanmin(values)


def test_texts_rewards_and_answers_belong_to_their_rows(shown):
    known = dict(zip(shown.pool.ids, shown.pool.instructions(), strict=True))
    assert all(shown.texts[row] == known[shown.ids[row]] for row in range(len(shown.ids)))
    row = shown.picks(1)[0]
    asked = [(shown.ids[row], shown.models[row])]
    assert shown.answers([row]) == shown.pool.responses(asked)
    column = shown.pool.models.index(shown.models[row])
    assert shown.rewards[row, column] == pytest.approx(shown.number("reward")[row])


def test_why_says_place_and_gap(shown):
    assert why(shown, shown.picks(1)[0]).startswith("Chosen: place ")
    assert "Not chosen: place " in why(shown, shown.missed(1)[0])
    other = int(np.flatnonzero(~np.isin(shown.reasons, ["selected", "below_cut"]))[0])
    assert str(shown.selection.table["reason"][other]).partition(":")[2] in why(shown, other)


def test_a_row_of_two_lists_is_sent_once(shown):
    data, places = row_data(shown, {"one": [3, 5], "two": [5]})
    assert len(data["rows"]) == 2
    assert places == {"one": [0, 1], "two": [1]}
    assert dict(zip(data["fields"], data["rows"][1], strict=True))["id"] == shown.ids[5]


def test_typical_words_set_a_cluster_apart(shown):
    words = shown.typical_words(5)
    assert sorted(words) == sorted(set(shown.cluster[shown.eligible].tolist()))
    texts = [set(content_words(text)) for text in shown.texts]
    for label, found in words.items():
        assert len(found) <= 5
        here = shown.eligible & (shown.cluster == label)
        for word in found:
            holds = np.array([word in text for text in texts])
            assert holds[here].mean() > holds[shown.eligible & ~here].mean()
    assert any(len(found) == 5 for found in words.values())


def test_japanese_and_chinese_are_cut_into_words():
    pytest.importorskip("budoux", reason="budoux is not installed (extra: report)", exc_type=ImportError)
    japanese = content_words("量子コンピュータについて説明してください。GPUは10台です。")
    assert japanese == ["量子コンピュータ", "説明", "gpu"]
    chinese = content_words("请写一篇关于机器学习的文章。")
    assert {"机器", "学习", "文章"} <= set(chinese)
    assert "的" not in chinese


def test_eligible_rows_are_no_duplicates(shown):
    reasons = shown.selection.table["reason"].to_pylist()
    copies = np.array([reason.startswith("duplicate_of:") for reason in reasons])
    assert copies.any()
    assert not (shown.eligible & copies).any()
    assert (shown.eligible | copies).tolist() == (~np.isnan(shown.score)).tolist()


def test_long_texts_are_cut_until_they_fit():
    texts = ["<" * 100_000] * 600
    cut = longest(texts)
    assert cut < 4_000
    assert sum(len(json_block(text[:cut])) for text in texts) <= 4_500_000 + 2 * 600


# The map


def test_the_sample_keeps_the_chosen(shown):
    assert sample(shown).tolist() == np.flatnonzero(shown.eligible).tolist()
    assert len(sample(shown)) <= POINTS


def test_the_map_is_the_same_twice_and_says_how_it_was_made(shown):
    one, two = project(shown, method="tsne"), project(shown, method="tsne")
    assert np.array_equal(one.xy, two.xy)
    assert "t-SNE" in one.description
    assert "lsa" in one.description
    assert np.abs(one.xy).max() <= 1
    assert "principal components" in project(shown, method="pca").description


def test_without_a_pool_there_is_no_map_and_the_reason_is_said(shown):
    alone = ReportData(shown.selection, None, problem="gone")
    assert project(alone).description == "the pool could not be read"
    assert (alone.texts, alone.rewards, alone.typical_words(3)) == (None, None, {})
    assert alone.answers([0]) == [None]


def test_a_folder_cannot_ask_for_foreign_code(shown, monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "crowdselect.report.projection.vectors_of", lambda *_, **given: asked.update(given) or 1 / 0
    )
    options = {**shown.options, "embedder": "someone/model", "trust_remote_code": True}
    foreign = ReportData(
        type(shown.selection)(table=shown.selection.table, options=options, facts=shown.facts), shown.pool
    )
    with pytest.raises(ZeroDivisionError):
        project(foreign)
    assert not asked.get("trust_remote_code")


# The page


@pytest.mark.parametrize("text", EXTREME)
def test_json_in_a_page_reads_back_and_ends_nothing(text):
    block = json_block({text: [text]})
    assert json.loads(block) == {text: [text]}
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", block)


@pytest.mark.parametrize("scripts", [[], ["window.vegaEmbed = 1;", "'use strict';"]])
def test_the_policy_names_every_script_and_style_of_the_page(scripts):
    made = render("base.html", scripts=scripts, data={}, title="t", kind="page", simulated=False, warnings=[])
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', made)[1]
    assert policy.startswith("default-src 'none'; ")
    assert ("script-src" in policy) == bool(scripts)
    assert "unsafe" not in policy
    found = re.findall(r"<script>(.*?)</script>", made, re.DOTALL)
    assert found == scripts
    for part in [*found, *re.findall(r"<style>(.*?)</style>", made, re.DOTALL)]:
        assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy


# Without the extra


@pytest.fixture
def bare(monkeypatch):
    for name in ("altair", "vl_convert"):
        monkeypatch.setitem(sys.modules, name, None)


def test_report_names_the_extra(bare, run, folder):
    ran = run("report", str(folder))
    assert ran.code == 2
    assert f"altair is not installed; run: {install_command('report')}" in ran.err
    assert not (folder / "report.html").exists()


def test_without_the_extra_select_refuses_before_it_chooses(bare, run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("crowdselect.cli.choosing.open_pool", None)  # what is not called need not exist
    pool, new = folder.parent / "pool.parquet", tmp_path / "new"
    for more in (["-o", new], ["--dry-run"], ["-o", new, "--method", "random", "--seeds", 2]):
        ran = run("select", pool, "--budget", 5, "--report", *more)
        ran.refuses("altair is not installed", install_command("report"))
    assert not new.exists()


def test_without_the_extra_demo_goes_on_and_says_how_to_get_its_page(bare, run, tmp_path):
    ran = run("demo", "-o", tmp_path / "demo")
    assert ran.code == 0
    assert f"no report: altair is not installed; run: {install_command('report')}" in ran.out
    assert f"crowdselect report {tmp_path / 'demo'}" in ran.out
    assert not (tmp_path / "demo" / "report.html").exists()


# With it


@pytest.fixture(scope="session")
def extra():
    for name in ("altair", "vl_convert"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra: report)", exc_type=ImportError)


@pytest.mark.extra
def test_figures_are_written_as_svg_and_png(extra, run, folder, tmp_path):
    ran = run("report", str(folder), "--map", "pca", "--figures", str(tmp_path / "figures"))
    assert (ran.code, ran.err) == (0, "")
    names = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert names == {path.stem for path in (tmp_path / "figures").glob("*.png")}
    assert {"crowd", "difficulty", "correlations", "map", "teachers", "instruction-length"} <= names
    assert "<svg" in (tmp_path / "figures" / "map.svg").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "map.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "report.html").stat().st_size < 10_000_000


@pytest.mark.extra
def test_a_pool_that_is_gone_or_changed_is_said_in_the_page(extra, run, tmp_path):
    simulate(tmp_path / "pool.parquet", instructions=60)
    assert (
        run(
            "select",
            str(tmp_path / "pool.parquet"),
            "--budget",
            "5",
            "--clusters",
            "2",
            "-o",
            str(tmp_path / "chosen"),
        ).code
        == 0
    )
    simulate(tmp_path / "pool.parquet", instructions=60, seed=1, overwrite=True)
    ran = run("report", str(tmp_path / "chosen"), "--map", "none")
    assert ran.code == 0
    said = "its content is not what this selection was made from"
    assert said in ran.err
    assert said in (tmp_path / "chosen" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "pool.parquet").unlink()
    ran = run("report", str(tmp_path / "chosen"), "--overwrite")
    assert ran.code == 0
    assert "pass its current path as --pool" in ran.err
    page = (tmp_path / "chosen" / "report.html").read_text(encoding="utf-8")
    assert "There is no map" in page
    assert "pass its current path as --pool" in page


@pytest.mark.extra
def test_a_file_that_is_there_is_not_replaced_unasked(extra, run, folder, tmp_path):
    place = tmp_path / "mine.html"
    place.write_text("mine", encoding="utf-8")
    ran = run("report", str(folder), "--map", "none", "-o", str(place))
    assert ran.code == 2
    assert "add --overwrite" in ran.err
    assert place.read_text(encoding="utf-8") == "mine"


def test_no_selection_no_report(run, tmp_path):
    ran = run("report", str(tmp_path))
    assert ran.code == 2
    assert str(tmp_path) in ran.err
    with pytest.raises(InputError):
        load_selection(tmp_path)


def test_missing_extra_is_one_of_ours(bare, shown, tmp_path):
    from crowdselect.report.report import write_report

    with pytest.raises(MissingExtraError, match=re.escape(install_command("report"))):
        write_report(shown, tmp_path / "report.html")
