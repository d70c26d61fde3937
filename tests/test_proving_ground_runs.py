"""The proving ground with torch: models, pools that crowdselect opens, equal budgets and steps, the same twice."""

import dataclasses
import json
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.extra

FIRST_WORLDS = ("strings", "facts", "arithmetic", "mixed")
WORLD_NAMES = (*FIRST_WORLDS, "pairs", "lookup")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Everything a hundredth as large, kept in a folder of this test."""
    from proving_ground import crowd, design, pools, run, students
    from proving_ground.training import Recipe

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in {"ANSWERED": 300, "TESTED": 40, "DRAWN": 200}.items():
        monkeypatch.setattr(pools, name, value)
    monkeypatch.setattr(crowd, "EXAMPLES", 64)
    monkeypatch.setattr(crowd, "RECIPES", dict.fromkeys(crowd.SIZES, Recipe(steps=2, batch=8, rate=1e-3)))
    base = Recipe(steps=2, batch=8, rate=1e-3)
    few = {name: dataclasses.replace(student, base=base) for name, student in design.STUDENTS.items()}
    tuning = Recipe(steps=5, batch=8, rate=1e-3)
    for name, value in {"BASE_EXAMPLES": 64, "STUDENTS": few, "TUNING": tuning}.items():
        monkeypatch.setattr(students, name, value)
    students.base.cache_clear()
    run._asked.cache_clear()
    yield
    run._asked.cache_clear()
    students.base.cache_clear()


def fake_answers(world, folder):
    """Larger members are right more often; without training."""
    from proving_ground import crowd, pools

    rng = random.Random(world.name)
    sure = {"small": 0.3, "middle": 0.5, "large": 0.8}
    answers = {
        member.name: [
            question.item.answer if question.item.answer and rng.random() < sure[member.size] else "bad"
            for question in pools.questions(world)
        ]
        for member in crowd.members(world)
    }
    file = folder / "answers.json"
    file.write_text(json.dumps(answers))
    return file


def test_one_forward_pass_finds_what_greedy_decoding_answers_exactly():
    from proving_ground import tokens
    from proving_ground.crowd import examples
    from proving_ground.model import Size, build, greedy, judged
    from proving_ground.training import Recipe, train
    from proving_ground.worlds import WORLDS

    world = WORLDS["strings"]
    only = dict.fromkeys(world.skills, 0.0) | {"count": 1.0, "outer": 1.0}
    pairs = examples(world, random.Random(0), count=2000, known=2, likely=only, barred=frozenset())
    rows = tokens.rows(pairs, world.shape)
    model = build(Size(32, 1), world.shape, seeds=[0, 1])
    train(model, torch.stack([rows, rows]), Recipe(steps=60, batch=32, rate=4e-3), seed=0)
    test = rows[:300]
    right, loss = judged(model, test)
    said = greedy(model, test[:, : world.shape.prompt])
    for copy in range(2):
        exact = [a == b for a, (_, b) in zip(tokens.texts(said[copy]), pairs[:300], strict=True)]
        assert right[copy].tolist() == exact
        assert 20 < sum(exact) < 280, "a test that sees only right or only wrong answers shows nothing"
    assert loss[0] != loss[1]


def test_a_copy_in_a_stack_learns_what_it_would_learn_alone():
    from proving_ground import tokens
    from proving_ground.crowd import examples
    from proving_ground.model import Size, build, judged
    from proving_ground.training import Recipe, train
    from proving_ground.worlds import WORLDS

    world = WORLDS["facts"]
    data = [
        tokens.rows(
            examples(world, random.Random(i), count=200, known=2, likely=None, barred=frozenset()),
            world.shape,
        )
        for i in range(3)
    ]
    recipe = Recipe(steps=20, batch=16, rate=2e-3)
    stack = build(Size(32, 2), world.shape, seeds=[5, 6, 7])
    together = train(stack, torch.stack(data), recipe, seed=1)
    for i in range(3):
        alone = build(Size(32, 2), world.shape, seeds=[5 + i])
        made = train(alone, data[i][None], recipe, seed=1)
        assert (made.steps, made.tokens[0]) == (together.steps, together.tokens[i])
        losses = judged(stack, data[0])[1][i], judged(alone, data[0])[1][0]
        assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)


@pytest.mark.parametrize("name", WORLD_NAMES)
def test_no_test_instruction_is_in_a_pool_or_a_diet(name):
    from proving_ground import pools, tokens
    from proving_ground.crowd import examples
    from proving_ground.pools import questions, test_items
    from proving_ground.worlds import WORLDS

    world = WORLDS[name]
    tested = {item.instruction for item in test_items(world)}
    asked = questions(world)
    assert len(tested) == 480
    assert len({question.item.instruction for question in asked}) == len({q.id for q in asked}) == 8000
    assert not tested & {question.item.instruction for question in asked}
    barred = frozenset(tested)
    diet = examples(world, random.Random(1), count=3000, known=2, likely=None, barred=barred)
    assert not tested & {text for text, _ in diet}
    towards = pools.examples(world, asked, seed=0)
    assert len(set(towards)) == pools.EXAMPLES
    assert not set(towards) & (tested | {question.item.instruction for question in asked})
    assert towards == pools.examples(world, asked, seed=0) != pools.examples(world, asked, seed=1)
    tokens.rows(
        [(q.item.instruction, q.item.answer or "") for q in asked], world.shape
    )  # nothing is too long
    assert all(len(answer) < world.shape.answer for _, answer in diet)


def test_a_draw_keeps_rewordings_together_and_seeds_differ():
    from proving_ground.pools import drawn, questions
    from proving_ground.worlds import WORLDS

    asked = questions(WORLDS["mixed"])
    assert sum(q.origin != q.id for q in asked) / len(asked) == pytest.approx(0.1, abs=0.02)
    one, other = drawn(asked, seed=0), drawn(asked, seed=1)
    assert len(one) == len(other) == 4000
    assert one == drawn(asked, seed=0)
    assert len({q.id for q in one} & {q.id for q in other}) < 2500
    here = {q.id for q in one}
    partners = [{p.id for p in asked if p.origin == q.origin} for q in one if q.origin != q.id]
    assert sum(bool(ids - here) for ids in partners) <= 1  # the last one may be cut by the number of rows


def rewarded(credit, lengths, *, graded=False, of=None):
    """Reward columns of answers of the crowd, or of a student who is asked so often."""
    from proving_ground import crowd
    from proving_ground.pools import Rewarder
    from proving_ground.worlds import WORLDS

    liked = np.array([member.family == crowd.FAVOURED for member in crowd.members(WORLDS["strings"])])
    rewarder = Rewarder(graded=graded, length=(float(lengths.mean()), float(lengths.std())), seed=0)
    return rewarder.columns(credit, lengths, liked, of=of), liked


def test_rewards_are_the_verifier_with_noise_and_the_biased_one_likes_length_and_a_family():
    from proving_ground.pools import NOISE, slope_within_rows

    rng = np.random.default_rng(0)
    right, lengths = rng.random((3000, 9)) < 0.5, rng.integers(1, 9, size=(3000, 9)).astype(float)
    partly = np.where(right, 1.0, 0.5)  # the verifier does not see what is right in part
    columns, liked = rewarded(partly, lengths)
    for name, sd in NOISE.items():
        assert np.std(columns[name] - right) == pytest.approx(sd, rel=0.03)
    rest = columns["biased"] - right
    assert rest[:, liked].mean() - rest[:, ~liked].mean() == pytest.approx(0.3, abs=0.03)
    assert np.polyfit(lengths.ravel(), rest.ravel(), 1)[0] * lengths.std() == pytest.approx(0.3, abs=0.03)
    assert (columns["quality"] > 0).all()
    slope = slope_within_rows(columns["biased"], lengths)
    assert slope * lengths.std() == pytest.approx(0.3, abs=0.03)
    assert slope_within_rows(columns["biased"] - slope * lengths, lengths) == pytest.approx(0, abs=1e-12)
    assert slope_within_rows(columns["biased"], np.ones_like(lengths)) == 0


def test_marks_are_whole_from_1_to_10_and_rise_with_what_is_right():
    from proving_ground.pools import GRADED, MARKS_APART

    rng = np.random.default_rng(1)
    credit, lengths = rng.choice([0.0, 0.25, 0.5, 1.0], size=(4000, 9)), np.ones((4000, 9))
    for columns in (
        rewarded(credit, lengths, graded=True)[0],
        {"middle": rewarded(credit, lengths)[0][GRADED]},
    ):
        marks = columns["middle"]
        assert set(np.unique(marks)) == set(range(1, 11))
        half = marks[credit == 0.5]
        assert half.mean() == pytest.approx(5.5, abs=0.1)
        assert half.std() == pytest.approx(0.3 * MARKS_APART, rel=0.05)
        assert np.all(np.diff([marks[credit == share].mean() for share in (0, 0.25, 0.5, 1)]) > 0.5)


def test_the_student_has_noise_of_its_own():
    credit, lengths = np.zeros((50, 9)), np.ones((50, 9))
    crowd, student = (rewarded(credit, lengths, of=of)[0]["middle"] for of in (None, "student"))
    assert not np.isin(student, crowd).any()


@pytest.mark.usefixtures("tiny")
def test_every_way_chooses_exactly_the_budget_and_trains_as_long(tmp_path):
    from proving_ground.design import MAIN, Block, Setting
    from proving_ground.results import BASE_WAY
    from proving_ground.run import run_block
    from proving_ground.students import TUNING
    from proving_ground.ways import RANDOM, WAYS
    from proving_ground.worlds import WORLDS

    block, file = Block(MAIN, "mixed", 0), fake_answers(WORLDS["mixed"], tmp_path)
    setting = Setting(budget=40)
    done = run_block(block, setting, [BASE_WAY, *WAYS], file)
    assert done.runs.keys() | done.failed.keys() == {BASE_WAY, *WAYS}
    assert set(done.failed) <= {"deita"}  # may find too few rows that differ
    assert {run["steps"] for way, run in done.runs.items() if way != BASE_WAY} == {TUNING.steps}
    assert done.runs["difficulty down"]["right_chosen"] > done.runs["difficulty up"]["right_chosen"]
    again = run_block(block, setting, [RANDOM, BASE_WAY], file)
    assert all(again.runs[way] == done.runs[way] for way in again.runs)


@pytest.mark.usefixtures("tiny")
def test_equal_tokens_are_equal_to_less_than_a_batch(tmp_path):
    from proving_ground import students
    from proving_ground.design import Block, Setting
    from proving_ground.run import run_block
    from proving_ground.worlds import WORLDS

    file = fake_answers(WORLDS["arithmetic"], tmp_path)
    setting = Setting(budget=40, equal="tokens")
    done = run_block(Block("equal tokens", "arithmetic", 0), setting, ["random", "longest answer"], file)
    learnt = [run["tokens"] for run in done.runs.values()]
    assert max(learnt) - min(learnt) < 8 * WORLDS["arithmetic"].shape.answer
    assert done.runs["longest answer"]["steps"] < done.runs["random"]["steps"]
    assert students.TUNING.tokens is None


@pytest.mark.usefixtures("tiny")
def test_budgets_that_differ_are_refused(tmp_path):
    from proving_ground import students
    from proving_ground.worlds import WORLDS

    world = WORLDS["facts"]
    start = students.base(world, "small", number=0)
    pair = ("home of mira holt", "boki")
    with pytest.raises(ValueError, match=r"budgets differ: \[2, 1\]"):
        students.tuned(start, [[pair, pair], [pair]], students.test_rows(world), seed=0)


@pytest.mark.usefixtures("tiny")
def test_the_whole_chain_gives_the_same_files_twice_and_goes_on_where_it_stopped(tmp_path):
    from proving_ground.design import MAIN, Block, Setting
    from proving_ground.results import BASE_WAY, Results
    from proving_ground.run import answer_all, run_block
    from proving_ground.tables import summary

    block, ways = Block(MAIN, "facts", 0), [BASE_WAY, "random", "weights 1, 1, 2"]
    setting, written = Setting(budget=40), []
    for name in ("one", "two"):
        results = Results(tmp_path / name)
        answers = answer_all(results, Here(), ["facts"], tmp_path)
        if name == "one":  # in two parts, as after a stop
            for part in (ways[:2], ways[2:]):
                done = run_block(block, setting, part, answers["facts"])
                results = Results(tmp_path / name)
                results.add(block, done.runs, done.failed, seconds=done.seconds)
        else:
            done = run_block(block, setting, ways, answers["facts"])
            results.add(block, done.runs, done.failed, seconds=done.seconds)
        assert all(Results(tmp_path / name).has(block, way) for way in ways)
        assert not results.has(Block(MAIN, "facts", 1), "random")
        written.append([(tmp_path / name / file).read_bytes() for file in ("main/facts.json", "crowd.json")])
    assert written[0] == written[1]
    assert "weights 1, 1, 2" in summary(results, MAIN, "facts")


class Here:
    """An executor that does it at once, in this process."""

    def submit(self, work, *given):
        from concurrent.futures import Future

        future = Future()
        future.set_result(work(*given))
        return future


def test_records_hold_every_item():
    from proving_ground.results import packed, unpacked
    from proving_ground.students import Readout

    right = np.random.default_rng(0).random(477) < 0.3
    record = packed(Readout(right=right, loss=1.0, steps=1, tokens=2), right_chosen=0.5)
    assert (unpacked(json.loads(json.dumps(record)), tests=477) == right).all()


CHOSEN = "separability up"


def planted(shift):
    """Runs of a few ways; one is better by so much in some worlds, all others are equal."""
    from proving_ground.findings import Seen

    rng = np.random.default_rng(0)
    by_world = {}
    for world in FIRST_WORLDS:
        hard = rng.normal(size=(1, 480))
        ways = ("random", "cluster + random", "weights 1, 1, 2", "stability up", CHOSEN)
        right = {
            way: dict(
                enumerate(
                    (rng.random((8, 480)) < 1 / (1 + np.exp(-hard - shift.get(world, 0) * (way == CHOSEN))))
                    + 0.0
                )
            )
            for way in ways
        }
        by_world[world] = Seen(right, {}, {}, {}, {})
    return by_world


@pytest.mark.parametrize(
    ("where", "candidate", "confirmed"),
    [
        (FIRST_WORLDS, CHOSEN, True),
        (("strings", "facts"), CHOSEN, False),
        (("arithmetic", "mixed"), None, False),
    ],
)
def test_the_default_follows_only_what_is_better_where_it_is_chosen_and_where_it_is_confirmed(
    where, candidate, confirmed
):
    from proving_ground.findings import decide

    found = decide(planted(dict.fromkeys(where, 0.6)))
    assert (found.candidate, found.confirmed) == (candidate, confirmed)
    assert found.beats_random == ((CHOSEN,) if len(where) == 4 else ())
    assert found.better_than_random["stability up"] == ()
    assert not found.complete


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "setting", ["main", "asked four times", "a quarter scored", "reward biased", "reward noise high"]
)
def test_every_way_of_the_second_protocol_chooses_for_its_student(tmp_path, setting):
    from proving_ground import second
    from proving_ground.design import Block
    from proving_ground.run import run_block
    from proving_ground.worlds import WORLDS

    how = dataclasses.replace(second.SETTINGS[setting], budget=40)
    ways = second.ways_of(setting)
    done = run_block(Block(setting, "pairs", 80), how, ways, fake_answers(WORLDS["pairs"], tmp_path))
    assert (done.runs.keys(), done.failed) == (set(ways), {})
    assert done.runs["teachable:plain"] != done.runs["student fails, drawn"]
    if setting in second.REMEDIES:
        assert all(done.runs[way] != done.runs[way.partition(",")[0]] for way in second.REMEDIES[setting])


@pytest.mark.usefixtures("tiny")
def test_a_bases_likelihoods_are_its_losses(tmp_path):
    from proving_ground import students, tokens
    from proving_ground.model import judged
    from proving_ground.worlds import WORLDS

    start = students.base(WORLDS["strings"], "small", number=0)
    pairs = [("reverse abc", "cba"), ("sort cab", "abc"), ("reverse a", "")]
    found = students.likelihoods(start, pairs)
    alone = [float(judged(start.model, tokens.rows([pair], start.model.shape))[1][0]) for pair in pairs]
    np.testing.assert_allclose(found, -np.array(alone), rtol=1e-5)


def test_fits_takes_the_likeliest_good_answer(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from crowdselect import open_pool
    from proving_ground.ways import fitting

    rewards = {"a": [0.9, 0.8, 0.7, 0.1, 0.2, 0.3], "b": [0.1, 0.9, 0.9, 0.0, 0.0, 0.0]}
    rows = [
        {"id": id_, "instruction": id_, "model": f"m{at}", "response": "x", "reward": reward}
        for id_, own in rewards.items()
        for at, reward in enumerate(own)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pool.parquet")
    likely = {("a", "m0"): -3.0, ("a", "m1"): -1.0, ("b", "m1"): -2.0, ("b", "m2"): -2.5}
    asked = []

    def likelihoods(pairs):
        asked.extend(pairs)
        return np.array([likely[pair] for pair in pairs])

    with open_pool(tmp_path / "pool.parquet") as pool:
        found = fitting(pool, [("b", "m9"), ("a", "m0")], reward="reward", seed=0, likelihoods=likelihoods)
    assert found == [("b", "m1"), ("a", "m1")]
    assert sorted(asked) == sorted(likely)


@pytest.mark.usefixtures("tiny")
def test_every_way_of_the_third_protocol_chooses_and_is_tabulated(tmp_path):
    from proving_ground import third, third_tables
    from proving_ground.findings import seen
    from proving_ground.results import Results
    from proving_ground.run import run_block
    from proving_ground.worlds import WORLDS

    how = dataclasses.replace(third.SETTINGS["main"], budget=40)
    results = Results(tmp_path / "results")
    third_tables.write_all(results)
    assert not (tmp_path / "results").exists()
    order = [(block.seed, block.world) for block, _ in third.blocks()]
    assert order == [(seed, world) for seed in range(32, 40) for world in FIRST_WORLDS]
    for block, ways in [*third.blocks()][:4]:
        done = run_block(block, how, ways, fake_answers(WORLDS[block.world], tmp_path))
        assert (done.runs.keys(), done.failed) == (set(ways), {})
        results.add(block, done.runs, done.failed, seconds=done.seconds)
    by_world = {world: seen(results, "main", world) for world in FIRST_WORLDS}
    lines = third_tables.compared(by_world).splitlines()
    assert [line.split(" | ")[0] for line in lines[6:]] == [
        "| random, exact match",
        *(f"| {way}" for way in third.OTHERS),
    ]
    assert "1 seeds" in lines[2]


@pytest.mark.usefixtures("tiny")
def test_a_student_is_asked_once_or_several_times_and_scored_in_part(tmp_path):
    import pyarrow.parquet as pq

    from proving_ground import crowd, pools, students
    from proving_ground.worlds import WORLDS

    world = WORLDS["lookup"]
    asked = pools.questions(world)
    texts = json.loads(fake_answers(world, tmp_path).read_text())
    by_id = {name: {q.id: text for q, text in zip(asked, own, strict=True)} for name, own in texts.items()}
    files = pools.write_pool(tmp_path, world, asked, by_id, crowd.members(world), seed=80)
    start = students.base(world, "small", number=0)
    instructions = [q.item.instruction for q in asked]
    once, often = (students.own_answers(start, instructions, asked=asked_) for asked_ in (1, 4))
    assert (len(once), len(often)) == (1, 4)
    assert len({tuple(own) for own in (*once, *often)}) == 5
    assert often == students.own_answers(start, instructions, asked=4)
    own = [{q.id: text for q, text in zip(asked, texts, strict=True)} for texts in often]
    table = pq.read_table(pools.write_student(files, own, scored=0.25)).to_pandas()
    assert len(table) == 4 * pools.DRAWN
    scored = table.groupby("id")["middle"].count()
    assert (sorted(scored.unique()), (scored > 0).sum()) == ([0, 4], pools.DRAWN // 4)
    assert set(table["sample"]) == {0, 1, 2, 3}


def planted_second(shift, *, items=60):
    """Complete runs of the two candidates and random in every setting: (setting, world) → points that `teachable` is better by."""
    from proving_ground import second
    from proving_ground.findings import Seen

    rng = np.random.default_rng(0)

    def world(setting, name):
        right = {}
        for way in ("random", *second.CANDIDATES):
            own = rng.random((len(second.seeds_of(setting)), items)) < 0.3
            if way == "teachable":
                gain = shift(setting, name)
                flip = rng.random(own.shape) < abs(gain)
                own = np.where(flip, gain > 0, own)
            right[way] = dict(zip(second.seeds_of(setting), own.astype(float), strict=True))
        return Seen(right, {}, {}, {}, {})

    return {
        setting: {name: world(setting, name) for name in second.worlds_of(setting)}
        for setting in second.SETTINGS
    }


def ahead(count, *, behind=(), harmed=()):
    """Better in the first so many worlds, worse in some, and worse in all worlds of some variations."""
    from proving_ground.second import ALL_WORLDS

    def shift(setting, world):
        if setting in harmed or world in behind:
            return -0.3
        return 0.3 if setting == "main" and world in ALL_WORLDS[:count] else 0.0

    return shift


@pytest.mark.parametrize(
    ("shift", "default"),
    [
        (ahead(6), "teachable"),
        (ahead(4), "teachable"),
        (ahead(3), None),
        (ahead(5, behind=("lookup",)), None),
        (ahead(6, harmed=("student strong",)), None),
        (ahead(6, harmed=("budget 100",)), None),
    ],
)
def test_the_rule_wants_four_worlds_none_worse_and_no_variation_harmed(shift, default):
    from proving_ground import rule, second

    by_setting = planted_second(shift)
    found = rule.rule(by_setting, second.CANDIDATES)
    assert found.applied
    assert found.unread == ()
    assert rule.default_of(found, by_setting["main"]) == default
    assert found.judged["teachable:plain"].better == ()


def test_the_rule_is_not_applied_until_what_it_needs_is_in():
    from proving_ground import rule, second

    for name in second.SETTINGS:
        by_setting = planted_second(ahead(6))
        del by_setting[name]["facts"].right["teachable:plain"][83]
        found = rule.rule(by_setting, second.CANDIDATES)
        default = rule.default_of(found, by_setting["main"])
        if name in second.NEEDED:
            assert (found.missing, found.qualified, default) == ((name,), (), None)
        else:
            assert (found.unread, default) == ((name,), "teachable")


def test_of_two_that_qualify_the_plain_one_is_the_default_unless_the_other_is_better():
    from proving_ground import rule, second

    by_setting = planted_second(ahead(6))
    main = by_setting["main"]
    for world in main.values():
        world.right["teachable:plain"] = world.right["teachable"]
    assert rule.default_of(rule.rule(by_setting, second.CANDIDATES), main) == "teachable:plain"
    for world in main.values():
        world.right["teachable:plain"] = {
            seed: np.where(np.arange(60) < 6, 0.0, right) for seed, right in world.right["teachable"].items()
        }
    assert rule.default_of(rule.rule(by_setting, second.CANDIDATES), main) == "teachable"


def test_worlds_of_an_unfinished_setting_weigh_alike_and_the_hard_band_is_a_part_of_the_test():
    from proving_ground import rule
    from proving_ground.items import BANDS
    from proving_ground.pools import test_items
    from proving_ground.worlds import WORLDS

    main = planted_second(ahead(6), items=480)["main"]
    for by_seed in main["facts"].right.values():
        del by_seed[80]
    del main["pairs"].right["teachable:plain"][81]
    step = rule.in_step(main)
    assert all(found.right.keys() == {"random", "teachable"} for found in step.values())
    assert all(
        set(by_seed) == set(range(81, 96)) for found in step.values() for by_seed in found.right.values()
    )
    gap = np.mean(
        [
            np.mean([found.right["teachable"][s] - found.right["random"][s] for s in range(81, 96)])
            for found in main.values()
        ]
    )
    mean = rule.over_worlds(step, "teachable")
    assert (mean.mean, mean.seeds) == (pytest.approx(gap), 15)
    hard = [i for i, item in enumerate(test_items(WORLDS["lookup"])) if BANDS[item.band] == "hard"]
    found = rule.hard_band(main)["lookup"].right["random"][90]
    assert found.tolist() == main["lookup"].right["random"][90][hard].tolist()


def test_runs_that_a_variation_shares_come_from_the_main_cell(tmp_path):
    from proving_ground import rule, second
    from proving_ground.design import Block
    from proving_ground.results import Results, packed
    from proving_ground.students import Readout

    results = Results(tmp_path)
    rng = np.random.default_rng(0)
    for setting, ways, seeds in (
        ("main", ("random", "teachable"), (80, 90)),
        (second.ASKED, ("teachable",), (80,)),
    ):
        for seed in seeds:
            readouts = {
                way: Readout(right=rng.random(480) < 0.5, loss=1.0, steps=1, tokens=2) for way in ways
            }
            runs = {way: packed(one, right_chosen=0.5) for way, one in readouts.items()}
            results.add(Block(setting, "pairs", seed), runs, {}, seconds=1.0)
    main, asked = (rule.runs_of(results, setting)["pairs"].right for setting in ("main", second.ASKED))
    assert set(asked["random"]) == {80}
    assert (asked["random"][80] == main["random"][80]).all()
    assert (asked["teachable"][80] != main["teachable"][80]).any()


def test_every_block_comes_once_and_what_the_rule_needs_before_the_rest():
    from proving_ground import second

    seen, order = {}, []
    for block, ways in second.blocks():
        for way in ways:
            assert (block, way) not in seen
            seen[block, way] = len(seen)
        if block.setting not in order:
            order.append(block.setting)
    assert order == list(second.SETTINGS)
    for setting in second.SETTINGS:
        for world in second.worlds_of(setting):
            wanted = {*second.ways_of(setting), *second.base_of(setting)}
            for seed in second.seeds_of(setting):
                assert {way for block, way in seen if block == second.Block(setting, world, seed)} == wanted
    rest = [place for (block, way), place in seen.items() if block.setting != "main" and way == "easy"]
    needed = [place for (_, way), place in seen.items() if way in second.CANDIDATES]
    assert max(needed) < min(rest)
