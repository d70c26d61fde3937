"""A new metric, method or trainer is one record in a dict: everything that chooses, explains, shows, compares and writes takes it from there."""

import importlib
import inspect
import json
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest

from crowdselect import (
    METRICS,
    Options,
    difficulty,
    export,
    load_selection,
    open_pool,
    random_control,
    select,
)
from crowdselect.compare.robustness import robustness
from crowdselect.compare.selections import compare
from crowdselect.compare.variants import PAPER_METRICS
from crowdselect.embed.vectors import EMBEDDERS, VectorKind, vector_kind
from crowdselect.errors import OptionError, ShapeError
from crowdselect.methods import METHODS, Argument, Entry, method_named
from crowdselect.numeric.metrics import Metric, by_family
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.look import look_at
from crowdselect.selection.methods import CROWD, Method, Scored
from crowdselect.selection.records import FORMATS
from crowdselect.selection.rows import metrics_table
from crowdselect.selection.trainers import TRAINERS, Trainer

BUDGET = 12
NAN = float("nan")


def _spread(block):
    there = True if block.missing is None else ~block.missing
    highest = block.rewards.max(axis=0, initial=-np.inf, where=there)
    return highest - block.rewards.min(axis=0, initial=np.inf, where=there)


SPREAD = Metric(
    name="spread",
    compute=_spread,
    words="highest less lowest reward: far from best to worst",
    range=(0.0, np.inf),
    fewest=2,
)


@pytest.fixture
def spread(monkeypatch):
    """A fourth metric."""
    monkeypatch.setitem(METRICS, "spread", SPREAD)


@pytest.fixture
def shortest(monkeypatch):
    """Another method."""

    def make(*, of="instruction"):
        def score(seen, progress):
            return Scored(
                seen.map(lambda texts: [-float(len(text)) for text in texts], of=of, progress=progress)
            )

        return Method(name="shortest", arguments={"of": of}, score=score, needs=frozenset({of}))

    monkeypatch.setitem(METHODS, "shortest", Entry(make=make, help="The shortest texts."))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _truth(pool) -> dict[str, float]:
    scores = pool.scores(pool.reward_name(None))
    enough = (~np.isnan(scores)).sum(axis=1) >= 2
    with np.errstate(invalid="ignore"):
        found = np.fmax.reduce(scores, axis=1) - np.fmin.reduce(scores, axis=1)
    return dict(zip(pool.ids, np.where(enough, found, NAN).tolist(), strict=True))


def _options(**more) -> Options:
    return Options(**{"budget": BUDGET, "clusters": 0, "weights": {"spread": 1.0}, **more})


# What the records claim


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_what_its_record_says(name):
    entry = METHODS[name]
    argument = entry.argument or Argument(fills=(), form="", help="")
    place = (
        entry.make
        if callable(entry.make)
        else importlib.import_module(f"crowdselect.methods.{entry.make.split(':')[0]}")
    )
    function = place if callable(place) else getattr(place, entry.make.split(":")[1])
    taken = inspect.signature(function).parameters
    assert {*argument.fills, *(setting.name for setting in entry.settings)} <= set(taken)
    for setting in entry.settings:
        assert taken[setting.name].default == setting.default
    if argument.fills and argument.required:
        with pytest.raises(OptionError, match=f"`method={name}` needs {argument.form}"):
            method_named(name)
    spec = f"{name}:{','.join('ab'[: len(argument.fills)])}" if argument.required and argument.fills else name
    made = method_named(spec)
    assert made.name == {"crowd": "crowdselect"}.get(name, name)
    assert made.settings["method"] == made.name
    assert set(entry.options) <= set(Options.__dataclass_fields__)


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("lenght", {}, "`method=lenght` is unknown; the methods are: crowd, random.*did you mean 'length'"),
        ("random:3", {}, "`method=random:3`: random takes nothing after its name"),
        ("deita:mark", {}, "`method=deita:mark`: wanted COMPLEXITY,QUALITY"),
        ("deita:mark,", {}, "write it as deita:COMPLEXITY,QUALITY"),
        ("tags:", {}, "needs COLUMN"),
        ("length:both", {}, "choose one of: length, length:instruction, length:answer"),
        ("teachable:foo", {}, "`method=teachable:foo` is unknown; choose one of: teachable, teachable:plain"),
        ("length", {"device": "cpu"}, "`device` is not a setting of the method length"),
    ],
)
def test_a_method_that_is_written_otherwise_is_an_error(spec, settings, message):
    with pytest.raises(OptionError, match=message):
        method_named(spec, **settings)


def test_a_method_is_named_with_what_it_is_told():
    assert method_named("length:answer", direction="down").settings["direction"] == "down"
    assert method_named("column:a,b").settings["column"] == "a,b"
    assert method_named("deita:a,b").settings["quality"] == "b"
    assert method_named("crowd") is CROWD


@pytest.mark.parametrize("ties", ["average", "paper"])
def test_every_metric_is_what_its_record_says(ties, spread):
    rng = np.random.default_rng(1)
    scores = rng.integers(5, size=(4000, 6)).astype(np.float64)
    scores[rng.random(scores.shape) < 0.4] = NAN
    variances = np.where(rng.random(scores.shape) < 0.5, NAN, np.abs(scores))
    variances[np.isnan(scores)] = NAN
    variances[~np.isnan(scores).any(axis=1), 0] = 1.0
    crowd = {"sizes": [1.0, 2.0, 3.0, 1.0, 1.0, NAN], "families": ["a", "a", "a", "b", "b", None]}
    count = (~np.isnan(scores)).sum(axis=1)
    for name, metric in METRICS.items():
        values = metric(scores, **crowd, ties=ties, spread=variances)
        known = values[~np.isnan(values)]
        assert metric.name == name
        assert metric.range[0] <= known.min()
        assert known.max() <= metric.range[1]
        assert np.isnan(values[count < metric.fewest]).all()
        assert not np.isnan(values[count == 6]).any()
        if metric.undefined is None:
            assert not np.isnan(values[count >= metric.fewest]).any()
        else:
            assert np.isnan(values[count >= metric.fewest]).any()
            assert REASONS[metric.undefined.code] == metric.undefined.words
        assert (name in by_family()) == metric.by_family
    assert {name: METRICS[name].weight for name in DEFAULT_WEIGHTS} == DEFAULT_WEIGHTS
    assert np.array_equal(METRICS["difficulty"](scores), difficulty(scores), equal_nan=True)


def test_a_metric_by_family_asks_for_the_families():
    with pytest.raises(ShapeError, match="2 models, but there are 0 sizes and 0 families"):
        METRICS["stability"](np.eye(2))


def test_the_documentation_has_every_metric():
    text = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = text[text.index("| metric |") :].partition("\n\n")[0]
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == list(METRICS)


# A fourth metric


def test_a_fourth_metric_chooses_explains_and_is_compared(spread, sim, place):
    with open_pool(sim) as pool:
        found, truth = select(pool, _options()), _truth(pool)
        export(found, pool, place / "run")
        export(select(pool, _options(weights=dict(DEFAULT_WEIGHTS))), pool, place / "usual")
        table = metrics_table(look_at(pool, options=None)[1])
    assert table.column_names[-4:] == ["difficulty", "separability", "stability", "spread"]
    rows = {row["id"]: row for row in found.table.to_pylist()}
    assert {i: row["spread"] for i, row in rows.items() if row["spread"] is not None} == {
        i: value for i, value in truth.items() if not np.isnan(value)
    }
    ordered = sorted((row["spread"] for row in rows.values() if row["score"] is not None), reverse=True)
    assert max(truth[i] for i in found.chosen) == ordered[0]
    assert min(truth[i] for i in found.chosen) >= ordered[BUDGET]
    assert any(
        "spread" in line and "weight 1 adds" in line for line in found.explain(found.chosen[0])["story"]
    )
    assert random_control(found)["spread"].chosen == pytest.approx(np.mean([truth[i] for i in found.chosen]))
    compared = compare([str(place / "run"), str(place / "usual")], clusters=2, cache=False)
    ours, usual = (side.figures["spread"] for side in compared.sides)
    assert ours == pytest.approx(np.mean([truth[i] for i in found.chosen]))
    assert ours > usual


def test_too_few_rewards_for_a_fourth_metric(spread, monkeypatch, sim):
    monkeypatch.setitem(METRICS, "spread", Metric(name="spread", compute=_spread, words="", fewest=12))
    with open_pool(sim) as pool:
        gaps = np.isnan(pool.scores(pool.reward_name(None))).any(axis=1)
        found = select(pool, _options())
        usual = select(pool, _options(weights={"separability": 1.0}))
    assert gaps.any()
    barred = {row["id"] for row in found.table.to_pylist() if row["reason"] == "too_few_rewards"}
    assert barred == set(np.array(found.table["id"])[gaps])
    assert "too_few_rewards" not in usual.counts()


def test_robustness_keeps_the_weight_of_a_fourth_metric(spread, sim):
    assert set(PAPER_METRICS) < set(METRICS)
    with open_pool(sim) as pool:
        found = robustness(pool, _options(), bootstraps=2, seeds=1, clusters=(0, 2))
        made = {v.name: v for v in found.variants if v.axis == "weights"}
        again = select(
            pool,
            _options(weights={"difficulty": -1.0, "separability": -1.0, "stability": 2.0, "spread": 1.0}),
        )
    assert len(made) == 9
    kept = len(set(again.chosen) & set(found.chosen)) / BUDGET
    assert made["-1, -1, 2"].kept == kept
    assert all(v.kept is not None for v in found.variants if v.axis in {"model", "crowd", "seed"})


def test_a_fourth_metric_through_the_commands(spread, sim, place, run):
    chosen = run("select", sim, "--budget", BUDGET, "--clusters", 0, "--weights", "spread=1", "-o", "run")
    assert chosen.code == 0, chosen
    assert run("select", sim, "--budget", BUDGET, "--clusters", 0, "-o", "usual").code == 0
    with open_pool(sim) as pool:
        ours = select(pool, _options())
    assert load_selection("run").chosen == ours.chosen
    told = run("why", "run", ours.chosen[0])
    assert told.code == 0
    assert "weight 1 adds" in " ".join(told.out.split())
    assert run("metrics", sim, "-o", "metrics.csv").code == 0
    assert pyarrow.csv.read_csv("metrics.csv").column_names[-1] == "spread"
    compared = run("compare", "run", "usual", "--clusters", 2, "--no-cache", "-o", "compare.html", "--json")
    assert compared.code == 0, compared
    assert json.loads(compared.out)["figures"]["spread"] == "spread, mean"
    assert "spread, mean" in (place / "compare.html").read_text()
    tested = run(
        "robustness", sim, "--budget", BUDGET, "--clusters", 0, "--weights", "spread=1", "--bootstraps", 1,
        "--seeds", 1, "--try-clusters", 0, "-o", "robustness.html", "--json",
    )  # fmt: skip
    assert tested.code == 0, tested
    weights = [v for v in json.loads(tested.out)["variants"] if v["axis"] == "weights"]
    assert len(weights) == 9
    assert all(v["kept"] is not None for v in weights)


@pytest.mark.extra
def test_the_report_of_a_fourth_metric(spread, sim, place, run):
    for name in ("altair", "vl_convert"):
        pytest.importorskip(name, exc_type=ImportError)
    made = run("select", sim, "--budget", BUDGET, "--weights", "spread=1,difficulty=1", "-o", "run")
    assert made.code == 0, made
    assert run("report", "run", "--map", "none").code == 0
    page = (place / "run" / "report.html").read_text(encoding="utf-8")
    assert "<dt>spread</dt><dd>highest less lowest reward: far from best to worst</dd>" in page
    assert 'data-chart="spread"' in page
    assert "mean spread" in page
    assert "1 \u00d7 difficulty + 1 \u00d7 spread" in page


@pytest.mark.parametrize("name", ["crowdselect", "random"])
def test_a_folder_that_is_older_than_a_metric(name, sim, place, monkeypatch):
    with open_pool(sim) as pool:
        usual = {"weights": dict(DEFAULT_WEIGHTS)}
        method = {} if name == "crowdselect" else {"method": METHODS[name]()}
        export(select(pool, _options(**usual), **method), pool, place / "old")
        monkeypatch.setitem(METRICS, "spread", SPREAD)
        export(select(pool, _options()), pool, place / "new")
        truth = _truth(pool)
    old = load_selection(place / "old")
    assert "spread" not in " ".join(old.explain(old.chosen[0])["story"])
    assert set(random_control(old)) == {"reward", "difficulty", "separability", "stability"}
    for folders in (["old", "new"], ["new", "old"]):
        found = compare(folders, names=folders, clusters=2, cache=False)
        figures = {side.name: side.figures["spread"] for side in found.sides}
        assert figures["old"] == pytest.approx(np.mean([truth[i] for i in old.chosen]))


# Another method


def test_another_method_is_named_on_the_command_line(shortest, sim, place, run):
    ran = run("select", sim, "--budget", BUDGET, "--method", "shortest", "-o", "run")
    assert ran.code == 0, ran.err
    assert "shortest The shortest texts." in " ".join(run("select", "--help").out.split())
    with open_pool(sim) as pool:
        found = select(pool, Options(budget=BUDGET, clusters=0), method=METHODS["shortest"]())
    assert load_selection("run").chosen == found.chosen
    text = f'[pool]\npath = "{sim}"\n[select]\nmethod = ["shortest", "random"]\nbudget = 3\n'
    (place / "recipe.toml").write_text(text)
    planned = run("run", "recipe.toml", "--dry-run", "--json")
    assert [step["step"] for step in json.loads(planned.out)["steps"]] == ["shortest", "random"]


def test_another_method_chooses_explains_and_is_compared(shortest, sim, place, run):
    with open_pool(sim) as pool:
        found = select(pool, _options(weights=dict(DEFAULT_WEIGHTS)), method=METHODS["shortest"]())
        export(found, pool, place / "short")
        export(select(pool, _options(weights=dict(DEFAULT_WEIGHTS))), pool, place / "usual")
        lengths = dict(zip(pool.ids, map(len, pool.instructions()), strict=True))
    rest = [row["id"] for row in found.table.to_pylist() if row["reason"] == "below_cut"]
    assert max(lengths[i] for i in found.chosen) <= min(lengths[i] for i in rest)
    told = run("why", "short", found.chosen[0])
    assert (told.code, "weight" in told.out) == (0, False)
    compared = run("compare", "short", "usual", "--clusters", 2, "--no-cache", "--json")
    assert compared.code == 0, compared
    sides = {side["name"]: side for side in json.loads(compared.out)["selections"]}
    assert sides["short"]["method"] == "shortest (of instruction)"
    assert sides["short"]["figures"]["instruction_length"] < sides["usual"]["figures"]["instruction_length"]


@pytest.mark.extra
def test_the_report_of_another_method(shortest, spread, sim, place, run):
    for name in ("altair", "vl_convert"):
        pytest.importorskip(name, exc_type=ImportError)
    with open_pool(sim) as pool:
        method = METHODS["shortest"](of="answer")
        export(select(pool, _options(weights=dict(DEFAULT_WEIGHTS)), method=method), pool, place / "short")
    assert run("report", "short", "--map", "none").code == 0
    assert "by the method <b>shortest</b>" in (place / "short" / "report.html").read_text(encoding="utf-8")


# Another trainer


def test_another_trainer_gets_its_files(monkeypatch, sim, place, run):
    def files(start):
        rate = start.settings["learning_rate"]
        return {"toy.cfg": f"{start.format} {start.train_file} {start.stage} {rate}\n"}

    forms = {name: FORMATS[name] for name in ("messages", "dpo")}
    monkeypatch.setitem(TRAINERS, "toy", Trainer(title="Toy", forms=forms, files=files, start="toy {}"))
    command = ("select", sim, "--budget", BUDGET, "--clusters", 0, "--for", "toy", "-o", "run")
    assert run(*command).code == 0
    assert (place / "run" / "toy.cfg").read_text() == "messages train.jsonl sft 1e-5\n"
    assert run(*command, "--overwrite", "--pairs", "best-worst", "--format", "dpo").code == 0
    assert (place / "run" / "toy.cfg").read_text() == "dpo train.jsonl dpo 1e-6\n"
    run(*command, "--overwrite", "--format", "alpaca").refuses("Toy does not read --format alpaca")
    run(*command, "--overwrite", "--for", "none").refuses(
        "choose one of: trl, llamafactory, axolotl, ms-swift, unsloth, verl, open-instruct, toy"
    )


# Another kind of vectors


class Lengths:
    """The simplest vectors of texts: how long each is, and 1."""

    notes = ()

    def __init__(self, wanted):
        self._wanted = wanted
        self.name = wanted.embedder

    def prepare(self, rows):
        pass

    def of(self, rows):
        found = np.ones((len(rows), 2), np.float32)
        for some, named in self._wanted.reading.texts(rows, self.name).over(rows, measured, lambda _: None):
            found[np.searchsorted(rows, some), 0] = named["length"]
        return found

    def labels(self, rows, centres, progress):
        return np.abs(self.of(rows)[:, :1] - centres[:, 0]).argmin(axis=1)


def measured(texts, told):
    return {"length": np.array([len(text) for text in texts])}


def test_another_kind_of_vectors_is_one_record(place, monkeypatch):
    kind = VectorKind(form="lengths:WHAT", words="how long texts are", open=Lengths)
    monkeypatch.setitem(EMBEDDERS, "lengths", kind)
    assert vector_kind("lengths:x") is kind
    path = place / "pool.csv"
    rows = [
        f"i{i},{'a' * (1 if i % 2 else 90)}{i},m{m},{(i * 7 + m) % 5}" for i in range(20) for m in range(3)
    ]
    path.write_text("\n".join(["id,instruction,model,score", *rows]))
    with open_pool(path) as pool:
        options = Options(
            budget=4, clusters=2, embedder="lengths:x", weights={"difficulty": 1.0}, answer="random"
        )
        found = select(pool, options)
    labels = dict(zip(found.table["id"].to_pylist(), found.table["cluster"].to_pylist(), strict=True))
    assert len({labels[f"i{i}"] for i in range(0, 20, 2)}) == 1
    assert len(set(labels.values())) == 2
    assert found.facts["embedder"] == "lengths:x"
