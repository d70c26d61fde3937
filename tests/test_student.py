"""Choosing for a student: who it is, what it can do, what is drawn for it, and that nothing else changes that."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crowdselect import Options, export, load_selection, open_pool, select
from crowdselect.compare.robustness import robustness
from crowdselect.engine.here import run_here
from crowdselect.errors import CrowdselectError, InputError, OptionError, RewardError
from crowdselect.methods import method_named
from crowdselect.numeric.teachable import folds
from crowdselect.seeding import content_hash, reseeded

CROWD, PUPIL = ("a-1b", "a-7b", "b-7b", "c-70b"), "pupil-0.5b"
NAN = float("nan")


def rewards(n=300, *, seed=0, values=2, samples=1, missing=0.05, student=0.35):
    """Rewards by (id, model, sample); larger models do better, and the student somewhat like the first."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(n):
        hard = rng.random()
        skills = {model: 0.35 + 0.15 * at for at, model in enumerate(CROWD)}
        for model, skill in (skills | {PUPIL: student}).items():
            for sample in range(samples):
                right = rng.random() < np.clip(skill + 0.6 * (0.5 - hard), 0.02, 0.98)
                grade = right * (values - 1) if values == 2 else rng.integers(values) * 0.5 + right * values
                found[f"q{i:03d}", model, sample] = None if rng.random() < missing else float(grade)
    return found


def write(path, found, *, models=(*CROWD, PUPIL), change=None, order=0, named=True):
    """Write a pool of some models in the layout long, its rows in some order."""
    rows = []
    for (id_, model, sample), score in found.items():
        if model in models:
            row = {"id": id_, "instruction": f"What is {id_}?", "model": model, "sample": sample}
            row |= {"response": f"{model} says {sample} to {id_}", "score": score}
            rows.append(row if change is None else change(row))
    table = pa.Table.from_pylist([rows[at] for at in np.random.default_rng(order).permutation(len(rows))])
    if max(sample for *_, sample in found) == 0:
        table = table.drop_columns(["sample"])
    pq.write_table(table if named else table.drop_columns(["model"]), path)
    return path


def choose(path, method="teachable", *, run=None, limit=None, **options):
    with open_pool(path, limit=limit) as pool:
        asked = Options(**({"budget": 40, "clusters": 0} | options))
        return select(pool, asked, method=None if method is None else method_named(method), run=run)


def column(selection, name):
    return selection.table[name].to_numpy(zero_copy_only=False).astype(float)


def told(selection):
    return " ".join([*selection.facts["notes"], *selection.warnings])


@pytest.fixture
def pool(tmp_path):
    return write(tmp_path / "pool.parquet", rewards())


def by_hand(found, *, method, seed=0, cut=0.5, models=CROWD):
    """Chance and score of every row, from the rewards alone."""
    ids = sorted({id_ for id_, *_ in found})
    samples = max(sample for *_, sample in found) + 1

    def share(id_, model):
        own = [found[id_, model, sample] for sample in range(samples)]
        own = [score > cut for score in own if score is not None]
        return np.mean(own) if own else NAN

    good = np.array([[share(id_, model) for model in models] for id_ in ids])
    student = np.array([share(id_, PUPIL) for id_ in ids])
    hashes = content_hash(ids)
    ease, fold = np.nanmean(good, axis=1), folds(hashes, seed=seed)
    reach = np.empty(len(ids))
    for k in range(5):
        learnt = (fold != k) & ~np.isnan(student)
        model = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha=1.0))
        reach[fold == k] = model.fit(good[learnt], student[learnt]).predict(good[fold == k])
    reach = np.clip(reach, 0, 1)
    should = reach if method == "teachable" else ease
    missed = 1 - np.where(np.isnan(student), should, student)
    sure = np.nanmax(good, axis=1) > 0
    chance = np.where(sure, ease**2 if method == "easy" else should**2 * missed, 0)
    uniform = ((reseeded(hashes, seed=seed, salt="draw") >> np.uint64(11)).astype(float) + 0.5) / 2**53
    gumbel = -np.log(-np.log(uniform))
    score = np.where(chance > 0, np.log(np.maximum(chance, 1e-12)) + gumbel, -64 + ease**2 * sure)
    return ids, reach, chance, score


@pytest.mark.parametrize("method", ["teachable", "teachable:plain", "easy"])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_choice_is_that_of_the_words(method, samples, tmp_path):
    found = rewards(samples=samples)
    selection = choose(write(tmp_path / "pool.parquet", found), method, student=PUPIL, seed=5)
    ids, reach, chance, score = by_hand(found, method=method, seed=5)
    np.testing.assert_allclose(column(selection, "within_reach"), reach, atol=1e-9)
    eligible = selection.eligible
    np.testing.assert_allclose(column(selection, "chance")[eligible], chance[eligible], atol=1e-9)
    np.testing.assert_allclose(column(selection, "score")[eligible], score[eligible], atol=1e-6)
    score[~eligible] = -np.inf  # rewards of fewer than two models
    best = np.argsort(-score)[:40]
    assert selection.chosen == [ids[row] for row in best]
    assert selection.facts["good"]["above"] == 0.5


def test_the_student_is_no_part_of_the_crowd(pool, tmp_path):
    apart = choose(write(tmp_path / "crowd.parquet", rewards(), models=CROWD), "crowd")
    ours = choose(pool, "crowd", student=PUPIL)
    assert ours.chosen == apart.chosen
    for name in ("difficulty", "separability", "n_rewards", "reward"):
        assert ours.table[name].equals(apart.table[name])
    assert [member["name"] for member in ours.facts["crowd"]] == list(CROWD)
    assert PUPIL not in ours.table["model"].to_pylist()
    assert ours.facts["students"] == [PUPIL]


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("pairs", [None, "best-student"])
def test_in_the_pool_or_in_one_of_its_own_a_student_is_the_same(samples, pairs, tmp_path):
    found = rewards(samples=samples)
    whole = choose(write(tmp_path / "pool.parquet", found), student=PUPIL, pairs=pairs)
    crowd = write(tmp_path / "crowd.parquet", found, models=CROWD)
    one = write(tmp_path / "one.parquet", found, models=[PUPIL], named=False)
    several = write(tmp_path / "several.parquet", found, order=3)
    answers = choose(crowd, student_answers=str(one), student=PUPIL, pairs=pairs)
    named = choose(crowd, student_answers=str(several), student=PUPIL, pairs=pairs)
    nameless = choose(crowd, student_answers=str(one), pairs=pairs)
    assert whole.table.equals(answers.table)
    assert whole.table.equals(named.table)
    assert nameless.chosen == whole.chosen
    assert nameless.facts["student"]["name"] == "student"
    tables = [each.facts["student"]["table"] for each in (whole, answers, named)]
    assert tables[0] == tables[1] == tables[2]


def test_a_column_of_its_success_is_the_same_too(pool, tmp_path):
    whole = choose(pool, student=PUPIL)
    crowd = write(tmp_path / "crowd.parquet", rewards(), models=CROWD)
    rates = pa.table({"id": whole.table["id"], "rate": whole.table["student_good"]})
    pq.write_table(rates, tmp_path / "rates.parquet")
    beside = choose(crowd, student_column="rate", metrics=str(tmp_path / "rates.parquet"), good_above=0.5)
    by_id = dict(zip(rates["id"].to_pylist(), rates["rate"].to_pylist(), strict=True))
    inside = write(
        tmp_path / "in.parquet",
        rewards(),
        models=CROWD,
        change=lambda row: row | {"rate": str(by_id[row["id"]] or 0)},
    )
    assert beside.chosen == whole.chosen
    assert choose(inside, student_column="rate", good_above=0.5).facts["student"]["missing"] == 0


@pytest.mark.parametrize("run", [None, run_here])
def test_the_cut_is_of_the_instructions_of_the_pool_alone(run, tmp_path):
    found = rewards(values=1000)
    few = {key: score for key, score in found.items() if key[0] < "q150"}
    folder = tmp_path / "crowd"
    folder.mkdir()
    for part in range(2):
        own = {key: score for key, score in few.items() if int(key[0][1:]) % 2 == part}
        write(folder / f"{part}.parquet", own, models=CROWD)
    more = write(tmp_path / "more.parquet", found, models=[PUPIL])
    apart = choose(folder, student_answers=str(more), limit=120, run=run)
    whole = choose(write(tmp_path / "pool.parquet", few), student=PUPIL, limit=120)
    assert apart.facts["good"] == whole.facts["good"]
    assert apart.table.equals(whole.table)


@pytest.mark.parametrize("run", [None, run_here])
def test_a_column_is_read_file_by_file(run, tmp_path):
    found, folder = rewards(), tmp_path / "crowd"
    folder.mkdir()

    def rated(row):
        return row | {"rate": int(row["id"][1:]) % 5 / 4}

    for part in range(2):
        own = {key: score for key, score in found.items() if int(key[0][1:]) % 2 == part}
        write(folder / f"{part}.parquet", own, models=CROWD, change=rated)
    selection = choose(folder, student_column="rate", run=run)
    assert column(selection, "student_good").tolist() == [
        int(i[1:]) % 5 / 4 for i in selection.table["id"].to_pylist()
    ]


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("values", [2, 1000])
def test_order_files_and_layout_change_nothing(samples, values, tmp_path):
    found = rewards(samples=samples, values=values)
    whole = choose(write(tmp_path / "pool.parquet", found), student=PUPIL, pairs="best-student", limit=250)
    other = write(tmp_path / "other.parquet", found, order=9)
    assert whole.table.equals(choose(other, student=PUPIL, pairs="best-student", limit=250).table)
    for count in (2, 7):
        folder = tmp_path / f"cut-{count}"
        folder.mkdir()
        for part in range(count):
            own = {key: score for key, score in found.items() if int(key[0][1:]) % count == part}
            write(folder / f"{part}.parquet", own, order=part)
        cut = choose(folder, student=PUPIL, pairs="best-student", limit=250, run=run_here)
        assert whole.table.equals(cut.table)
        assert whole.facts["good"] == cut.facts["good"]
    apart = tmp_path / "crowd"
    apart.mkdir()
    for part in range(3):
        own = {key: score for key, score in found.items() if int(key[0][1:]) % 3 == part}
        write(apart / f"{part}.parquet", own, models=CROWD)
    one = write(tmp_path / "one.parquet", found, models=[PUPIL])
    own = choose(apart, student_answers=str(one), pairs="best-student", run=run_here)
    crowd = write(tmp_path / "crowd.parquet", found, models=CROWD)
    assert own.table.equals(choose(crowd, student_answers=str(one), pairs="best-student").table)


def test_the_layout_changes_nothing(tmp_path, pool):
    found = rewards()
    ids = sorted({id_ for id_, *_ in found})
    wide = [
        {"id": id_, "instruction": f"What is {id_}?"}
        | {f"{model}_score": found[id_, model, 0] for model in (*CROWD, PUPIL)}
        | {f"{model}_response": f"{model} says 0 to {id_}" for model in (*CROWD, PUPIL)}
        for id_ in ids
    ]
    lists = [
        {
            "id": id_,
            "instruction": f"What is {id_}?",
            "model_names": [*CROWD, PUPIL],
            "responses": [f"{model} says 0 to {id_}" for model in (*CROWD, PUPIL)],
            "score": [found[id_, model, 0] for model in (*CROWD, PUPIL)],
        }
        for id_ in ids
    ]
    whole = choose(pool, student=PUPIL, pairs="best-student")
    for name, rows in (("wide", wide), ("lists", lists)):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
        assert choose(path, student=PUPIL, pairs="best-student").table.equals(whole.table), name


@pytest.mark.parametrize("change", [lambda score: score * 0.1 + 3, lambda score: score * 7 - 1000.3])
@pytest.mark.parametrize("values", [2, 10, 1000])
def test_shift_and_scale_of_all_rewards_change_nothing(change, values, tmp_path):
    found = rewards(values=values)
    moved = {key: None if score is None else change(score) for key, score in found.items()}
    one = choose(write(tmp_path / "one.parquet", found), student=PUPIL)
    two = choose(write(tmp_path / "two.parquet", moved), student=PUPIL)
    assert one.chosen == two.chosen
    for name in ("ease", "student_good", "within_reach", "chance", "score"):
        assert one.table[name].equals(two.table[name]), name


def test_names_of_models_change_nothing(tmp_path):
    found = rewards()
    new = dict(zip(CROWD, ("z", "m", "k", "b"), strict=True)) | {PUPIL: "a"}
    renamed = {(id_, new[model], sample): score for (id_, model, sample), score in found.items()}
    one = choose(write(tmp_path / "one.parquet", found), student=PUPIL)
    two = choose(write(tmp_path / "two.parquet", renamed, models=tuple(new.values())), student="a")
    assert one.chosen == two.chosen
    np.testing.assert_allclose(column(one, "within_reach"), column(two, "within_reach"), atol=1e-11)


def test_two_models_are_a_crowd_of_one(tmp_path):
    selection = choose(write(tmp_path / "p.parquet", rewards(), models=("a-7b", PUPIL)), student=PUPIL)
    assert len(selection.chosen) == 40
    assert column(selection, "within_reach")[~np.isnan(column(selection, "ease"))].max() <= 1


def test_a_student_that_is_a_crowd_member_everywhere_has_nothing_within_reach(tmp_path):
    found = {k: v for k, v in rewards(missing=0.0, n=2000).items() if k[1] != PUPIL}
    found |= {(id_, PUPIL, s): score for (id_, model, s), score in found.items() if model == "a-7b"}
    selection = choose(write(tmp_path / "p.parquet", found), student=PUPIL)
    assert column(selection, "chance").max() < 0.01


def test_what_bars_a_row_changes_no_weight(pool, tmp_path):
    free = choose(pool, student=PUPIL)
    barred = free.chosen[::2]
    (tmp_path / "out.txt").write_text("\n".join(barred))
    listed = choose(pool, student=PUPIL, exclude=str(tmp_path / "out.txt"), keep="ease=0.1..0.9")
    for name in ("ease", "student_good", "within_reach"):
        assert free.table[name].equals(listed.table[name])
    assert not set(barred) & set(listed.chosen)
    chances = dict(zip(free.table["id"].to_pylist(), column(free, "chance"), strict=True))
    assert all(chances[row["id"]] == row["chance"] for row in listed.rows())


def test_the_numbers_are_numbers_like_others(pool, tmp_path, run):
    kept = choose(pool, "crowd", student=PUPIL, keep=("within_reach=0.3..", "student_good=..0"), budget=20)
    assert all(row["within_reach"] >= 0.3 and row["student_good"] == 0 for row in kept.rows())
    weighed = choose(pool, "crowd", weights={"ease": 1.0}, budget=5)
    assert min(row["ease"] for row in weighed.rows()) == np.nanmax(column(weighed, "ease"))
    spread = choose(pool, student=PUPIL, cluster_by="within_reach:4")
    assert sorted(spread.facts["quotas"].values()) == [10, 10, 10, 10]
    out = tmp_path / "numbers.parquet"
    run("metrics", pool, "--also", "ease,within_reach,student_good", "--student", PUPIL, "-o", out)
    table = pq.read_table(out)
    for name in ("ease", "within_reach", "student_good"):
        assert table[name].combine_chunks().equals(kept.table[name].combine_chunks())
    with pytest.raises(OptionError, match="within_reach is of the student; name it with `student`"):
        choose(pool, "crowd", keep="within_reach=0.5..")


def test_clusters_are_drawn_from_by_the_same_chances(pool):
    selection = choose(pool, student=PUPIL, clusters=3, budget=30)
    assert sorted(selection.facts["quotas"].values()) == [10, 10, 10]
    rows = selection.table.to_pylist()
    for cluster in range(3):
        own = sorted((row for row in rows if row["cluster"] == cluster), key=lambda row: -row["score"])
        assert [row["selected"] for row in own[:10]] == [True] * 10


def test_fewer_within_reach_than_wanted_is_said_and_filled_with_the_easiest(pool):
    selection = choose(pool, student=PUPIL, budget=290)
    chance = column(selection, "chance")
    possible = int((chance > 0).sum())
    assert f"only {possible} rows are within reach and missed" in told(selection)
    assert sum(row["chance"] > 0 for row in selection.rows()) == possible
    rest = [row["ease"] for row in selection.rows() if row["chance"] == 0]
    assert rest == sorted(rest, reverse=True)
    with pytest.raises(CrowdselectError, match="`budget=400` is more than can be chosen: 299"):
        choose(pool, student=PUPIL, budget=400)


def test_too_few_rows_to_learn_from_take_the_crowds_ease(tmp_path):
    weak = choose(write(tmp_path / "weak.parquet", rewards(n=150, student=-0.2)), student=PUPIL)
    assert "is good on" in told(weak)
    assert weak.table["within_reach"].equals(weak.table["ease"])
    assert "the crowd succeeds here with" in " ".join(weak.explain(weak.chosen[0])["story"])
    strong = choose(write(tmp_path / "strong.parquet", rewards(n=150, student=1.5)), student=PUPIL)
    assert "40 are needed (10 per model of the crowd)" in told(strong)


def test_a_student_that_is_good_everywhere_gets_easy_rows(tmp_path):
    found = {key: 1.0 if key[1] == PUPIL else score for key, score in rewards().items()}
    path = write(tmp_path / "p.parquet", found)
    selection = choose(path, student=PUPIL)
    assert "good everywhere" in told(selection)
    assert "the student is good on every row" in told(selection)
    assert selection.chosen == choose(path, "easy", student=PUPIL).chosen


def test_equal_rewards_are_said_and_the_choice_is_random(tmp_path):
    path = write(tmp_path / "p.parquet", dict.fromkeys(rewards(), 3.0))
    selection = choose(path, student=PUPIL)
    assert "rows are drawn at random" in told(selection)
    assert selection.facts["good"] == {"above": None, "share": None}
    assert json.dumps(dict(selection.facts), allow_nan=False)
    assert selection.chosen != choose(path, student=PUPIL, seed=1).chosen


def test_outliers_are_said_and_a_threshold_can_be_given(tmp_path):
    found = rewards(values=10)
    found["q000", "c-70b", 0] = 1e6
    path = write(tmp_path / "p.parquet", found)
    assert "say with `good_above` from which reward on an answer is good" in told(choose(path, student=PUPIL))
    given = choose(path, student=PUPIL, good_above=7)
    assert given.facts["good"]["above"] == 7
    assert "good_above" not in told(given)
    scores = [score for score in found.values() if score is not None]
    assert given.facts["good"]["share"] == pytest.approx(np.mean([score > 7 for score in scores]))


def test_a_random_choice_keeps_the_same_eligible_rows(pool):
    ours, random = choose(pool, student=PUPIL), choose(pool, "random", student=PUPIL)
    assert (ours.eligible == random.eligible).all()
    assert random.facts["student"]["table"]["pool"] == ours.facts["student"]["table"]["pool"]


def test_the_table_counts_every_row_with_both(pool):
    selection = choose(pool, "random", student=PUPIL, budget=100)
    student = selection.facts["student"]
    ease, good = column(selection, "ease"), column(selection, "student_good")
    both = ~np.isnan(ease) & ~np.isnan(good)
    chosen = selection.table["selected"].to_numpy(zero_copy_only=False)
    edges = np.array(student["table"]["edges"])
    for rows, counts in ((both, student["table"]["pool"]), (both & chosen, student["table"]["chosen"])):
        expected = np.histogram2d(ease[rows] + 1e-9, good[rows] + 1e-9, bins=[[*edges[:-1], 1.1]] * 2)[0]
        assert counts == expected.astype(int).tolist()
    assert student["already"] == int((good[chosen] == 1).sum())
    assert student["missing"] == int(np.isnan(good).sum())


def test_pairs_reject_the_students_own_answer(tmp_path):
    found = rewards()
    same = ("q007", "q011")

    def change(row):
        return (
            row | {"response": "The  Same" if row["model"] == PUPIL else "the same"}
            if row["id"] in same
            else row
        )

    path = write(tmp_path / "pool.parquet", found, change=change)
    selection = choose(path, student=PUPIL, pairs="best-student")
    for row in selection.table.to_pylist():
        own = found[row["id"], PUPIL, 0]
        best = max(found[row["id"], model, 0] or 0 for model in CROWD)
        if row["reason"] == "no_pair":
            assert own is None or own >= best or row["id"] in same
        elif row["reason"] in {"selected", "below_cut"}:
            assert (row["rejected_model"], row["rejected_reward"]) == (PUPIL, own)
            assert row["reward"] == best > own
            assert row["id"] not in same
    with open_pool(path) as opened:
        export(selection, opened, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/train.jsonl").read_text().splitlines()]
    ids = selection.chosen
    assert [line["rejected"][0]["content"] for line in lines] == [f"{PUPIL} says 0 to {id_}" for id_ in ids]


def test_pairs_with_answers_from_elsewhere_are_written_and_written_again(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = rewards()
    write("crowd.parquet", found, models=CROWD)
    write("own.parquet", found, models=[PUPIL], named=False)
    asked = ("--method", "teachable", "--pairs", "best-student", "--budget", 20)
    run(
        "select", "crowd.parquet", *asked, "--student-answers", "own.parquet", "--student", PUPIL, "-o", "one"
    )
    write("pool.parquet", found)
    run("select", "pool.parquet", *asked, "--student", PUPIL, "-o", "two")
    assert (tmp_path / "one/train.jsonl").read_bytes() == (tmp_path / "two/train.jsonl").read_bytes()
    (tmp_path / "crowd.parquet").rename(tmp_path / "moved.parquet")
    run("export", "one", "--pool", "moved.parquet", "--format", "dpo", "-o", "again")
    assert (tmp_path / "again/train.jsonl").read_bytes() == (tmp_path / "one/train.jsonl").read_bytes()
    assert load_selection("one").facts["student"]["answers"] == str(tmp_path / "own.parquet")
    assert "up to date" in run("select", "pool.parquet", *asked, "--student", PUPIL, "-o", "two").out


def test_answers_to_another_text_do_not_count(tmp_path):
    found = rewards()
    crowd = write(tmp_path / "crowd.parquet", found, models=CROWD)

    def other(row):
        return row | {"instruction": "Something else"} if row["id"] < "q010" else row

    own = write(tmp_path / "own.parquet", found, models=[PUPIL], change=other)
    selection = choose(crowd, student_answers=str(own))
    assert "10 of 300 instructions" in told(selection)
    assert np.isnan(column(selection, "student_good")[:10]).all()
    wrong = write(
        tmp_path / "wrong.parquet",
        found,
        models=[PUPIL],
        change=lambda row: row | {"instruction": "Something else"},
    )
    with pytest.raises(InputError, match="is it the answers to another pool"):
        choose(crowd, student_answers=str(wrong))
    far = write(
        tmp_path / "far.parquet", found, models=[PUPIL], change=lambda row: row | {"id": "x" + row["id"]}
    )
    with pytest.raises(InputError, match="none of its 300 ids is one of the crowd's pool"):
        choose(crowd, student_answers=str(far))


def test_rewards_of_both_may_be_in_one_second_file(tmp_path):
    found = rewards()

    def bare(row):
        return {name: value for name, value in row.items() if name != "score"}

    crowd = write(tmp_path / "crowd.parquet", found, models=CROWD, change=bare)
    own = write(tmp_path / "own.parquet", found, models=[PUPIL], change=bare)
    scores = [{"id": i, "model": m, "score": s} for (i, m, _), s in found.items()]
    pq.write_table(pa.Table.from_pylist(scores), tmp_path / "rewards.parquet")
    with open_pool(crowd, rewards=tmp_path / "rewards.parquet") as pool:
        options = Options(budget=40, clusters=0, student_answers=str(own))
        apart = select(pool, options, method=method_named("teachable"))
    assert apart.table.equals(choose(write(tmp_path / "pool.parquet", found), student=PUPIL).table)


def test_answers_that_changed_since_are_not_exported(tmp_path):
    found = rewards()
    crowd = write(tmp_path / "crowd.parquet", found, models=CROWD)
    own = write(tmp_path / "own.parquet", found, models=[PUPIL])
    selection = choose(crowd, student_answers=str(own), pairs="best-student")
    write(own, found, models=[PUPIL], change=lambda row: row | {"response": "another"})
    with (
        open_pool(crowd) as pool,
        pytest.raises(InputError, match="not those that this selection was made with"),
    ):
        export(selection, pool, tmp_path / "out")


def test_inspect_shows_the_cut(pool, run):
    shown = run("inspect", pool).out
    scores = [score for score in rewards().values() if score is not None]
    assert f"score is good above 0.5 ({np.mean(np.array(scores) > 0.5):.1%} of rewards)." in shown


def test_why_says_the_chance_in_words(pool):
    selection = choose(pool, student=PUPIL)
    row = next(row for row in selection.rows() if row["student_good"] is not None)
    median = np.median([row["chance"] for row in selection.rows()])
    assert (
        f"models that do as yours does elsewhere succeed here with {row['within_reach']:.2f}; yours "
        f"{row['student_good']:.2f}; chance weight {row['chance']:.2f} (the median chosen row {median:.2f})"
    ) in selection.explain(row["id"])["story"]
    plain = choose(pool, "teachable:plain", student=PUPIL)
    assert any("the crowd succeeds here with" in line for line in plain.explain(plain.chosen[0])["story"])
    easy = choose(pool, "easy")
    assert not any("yours" in line for line in easy.explain(easy.chosen[0])["story"])


def test_the_next_step_after_metrics_chooses_for_the_same_student(pool, tmp_path, run):
    shown = run("metrics", pool, "--student", PUPIL, "--good-above", 0.5, "-o", tmp_path / "m.parquet").out
    assert f"--student {PUPIL} --good-above 0.5 --method teachable --budget 10% -o " in shown
    assert "--method" not in run("metrics", pool, "-o", tmp_path / "crowd.parquet").out


def test_the_only_model_of_a_pool_cannot_be_the_student(tmp_path):
    alone = write(tmp_path / "p.parquet", rewards(), models=[PUPIL])
    with pytest.raises(CrowdselectError, match=f"no model besides the student {PUPIL}"):
        choose(alone, student=PUPIL)


def test_a_column_is_no_advice_for_pairs(pool):
    with pytest.raises(CrowdselectError, match=r"with `student_answers`$"):
        choose(pool, "random", pairs="best-student")


def test_a_marked_student_is_found_where_one_is_needed(tmp_path):
    marked = write(
        tmp_path / "p.parquet", rewards(), change=lambda row: row | {"is_student": row["model"] == PUPIL}
    )
    selection = choose(marked)
    assert selection.facts["student"]["name"] == PUPIL
    assert selection.chosen == choose(marked, student=PUPIL).chosen
    assert choose(marked, "crowd").facts["student"]["name"] == PUPIL  # what it can is shown
    assert choose(marked, "crowd").facts["students"] == [PUPIL]


def test_a_student_is_chosen_for_where_no_method_is_named(pool, run):
    chosen = choose(pool, None, student=PUPIL)
    assert chosen.options["method"] == "teachable"
    assert chosen.chosen == choose(pool, "teachable", student=PUPIL).chosen
    shown = run("select", pool, "--student", PUPIL, "--budget", 9, "--dry-run").out
    assert "teachable" in shown
    assert "clusters  none" in shown
    said = run("select", pool, "--student", PUPIL, "--budget", 9, "--weights", "difficulty=1", "--dry-run")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--weights count with --method crowd; --method teachable does not weigh metrics" in said.err


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("teachable", {}, "`method=teachable` chooses for a student; name it with `student`"),
        ("crowd", {"pairs": "best-student"}, "rejects the student's own answers; name it"),
        ("teachable", {"student": "pupil-05b"}, "no answers of the student 'pupil-05b'.*mean 'pupil-0.5b'"),
        (
            "teachable",
            {"student_column": "rate"},
            "is a column neither of the pool nor of the file of `metrics`",
        ),
        ("teachable", {"student_column": "instruction"}, "wanted a finite number"),
        ("crowd", {"good_above": 3.0}, "neither the method nor a number asks for it"),
    ],
)
def test_what_cannot_be_is_said(method, options, words, pool):
    with pytest.raises(CrowdselectError, match=words):
        choose(pool, method, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"student": PUPIL, "student_column": "rate"}, "both say what the student does"),
        (
            {"student": PUPIL, "answer": f"model:{PUPIL}"},
            "would train the student pupil-0.5b on its own answers",
        ),
        ({"student_column": "rate", "pairs": "best-student"}, "which `student_column` does not hold"),
        ({"good_above": NAN}, "wanted a finite number"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, words):
    with pytest.raises(OptionError, match=words):
        Options(budget=5, **options)


def test_answers_of_a_pool_of_its_own_are_refused_where_they_cannot_be_used(tmp_path):
    found = rewards()
    crowd = write(tmp_path / "crowd.parquet", found, models=CROWD)
    both = write(tmp_path / "both.parquet", found)
    with pytest.raises(OptionError, match=r"answers of several models .*; name the student with `student`"):
        choose(crowd, student_answers=str(both))
    with pytest.raises(OptionError, match="no answers of the student 'nobody'"):
        choose(crowd, student_answers=str(both), student="nobody")
    other = write(
        tmp_path / "other.parquet",
        found,
        models=[PUPIL],
        change=lambda row: {"mark" if k == "score" else k: v for k, v in row.items()},
    )
    with pytest.raises(RewardError, match="no reward column 'score'; found mark"):
        choose(crowd, student_answers=str(other))
    out_of_range = write(tmp_path / "r.parquet", found, models=CROWD, change=lambda row: row | {"rate": 70})
    with pytest.raises(InputError, match="rate of id 'q000' is 70; `student_column` is a share"):
        choose(out_of_range, student_column="rate")


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_robustness_draws_again_for_the_student(samples, elsewhere, tmp_path):
    found = rewards(samples=samples)

    def other(row):
        return row | {"strict": None if row["score"] is None else row["score"] - (row["id"] < "q150")}

    pairs = "best-student" if samples == 1 else None
    options = {"budget": 40, "clusters": 2, "reward": "score", "pairs": pairs}
    if elsewhere:
        own = write(tmp_path / "own.parquet", found, models=[PUPIL], change=other)
        path = write(tmp_path / "pool.parquet", found, models=CROWD, change=other)
        options |= {"student_answers": str(own)}
    else:
        path = write(tmp_path / "pool.parquet", found, change=other)
        options |= {"student": PUPIL}
    with open_pool(path) as pool:
        tried = robustness(
            pool, Options(**options), method=method_named("teachable"), bootstraps=1, seeds=2, clusters=(0,)
        )
    base = choose(path, **options)
    assert sorted(base.chosen) == list(tried.chosen)
    assert {variant.axis for variant in tried.variants} == {
        "model",
        "family",
        "crowd",
        "reward",
        "clusters",
        "seed",
    }
    assert tried.facts["options"]["method"] == "teachable"
    again = {
        ("seed", "1"): choose(path, **options, seed=1),
        ("reward", "strict"): choose(path, **(options | {"reward": "strict"})),
        ("clusters", "none"): choose(path, **(options | {"clusters": 0})),
    }
    for variant in tried.variants:
        assert variant.kept is not None, variant
        same = again.get((variant.axis, variant.name))
        if same is not None:
            assert variant.kept == len({*same.chosen} & {*base.chosen}) / 40, variant
            assert variant.kept < 1


def test_robustness_refuses_methods_that_read_texts(pool):
    with open_pool(pool) as opened, pytest.raises(OptionError, match="`method=length` reads texts"):
        robustness(opened, Options(budget=5), method=method_named("length"))


def test_compare_takes_seeds_of_a_draw_together(pool, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(
        "select",
        pool,
        "--method",
        "teachable",
        "--student",
        PUPIL,
        "--budget",
        30,
        "--seeds",
        2,
        "-o",
        "drawn",
    )
    shown = run("compare", "drawn/seed-0", "drawn/seed-1")
    assert shown.code == 0
    assert "drawn (2 seeds)" in shown.out
    assert "draws of 30 rows" in shown.out  # what is drawn for a student is no control
