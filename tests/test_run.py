"""The whole way from a pool to a selection: every reason, exact columns, and nothing that order or form changes."""

import gzip
import json
import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from crowdselect.crowd import Crowd, Member
from crowdselect.errors import BudgetError, OptionError, RewardError
from crowdselect.methods import method_named
from crowdselect.numeric.duplicates import normalised
from crowdselect.pool.pool import open_pool
from crowdselect.progress import Stages
from crowdselect.seeding import seeded_hash
from crowdselect.selection import clusters as grouping
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.folder import export
from crowdselect.selection.options import Options
from crowdselect.selection.run import select
from crowdselect.simulate.pool import simulate

NAN = float("nan")
# Two sizes of one family, and a model of another: rewards of "small" and "other" alone show no order.
CROWD = Crowd(
    (
        Member("large", "F", 70.0, "file"),
        Member("other", "G", 7.0, "file"),
        Member("small", "F", 7.0, "file"),
    )
)
COLUMNS = {
    "id": pa.string(),
    "selected": pa.bool_(),
    "rank": pa.int64(),
    "reason": pa.string(),
    "model": pa.string(),
    "reward": pa.float64(),
    "cluster": pa.int64(),
    "score": pa.float64(),
    "difficulty": pa.float64(),
    "separability": pa.float64(),
    "stability": pa.float64(),
    "difficulty_rank": pa.float64(),
    "separability_rank": pa.float64(),
    "stability_rank": pa.float64(),
    "best_reward": pa.float64(),
    "n_rewards": pa.int64(),
}


def instruction(id_, text, *, small=0.0, large=1.0, other=0.5, texts=("s", "l", "o"), **more) -> list[dict]:
    """One instruction's rows of a long pool: an answer and a reward per model."""
    rewards = {"small": small, "large": large, "other": other}
    return [
        {"id": id_, "instruction": text, "model": model, "response": answer, "score": reward, **more}
        for (model, reward), answer in zip(rewards.items(), texts, strict=True)
    ]


def write(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def simple_pool(path: Path, means: dict[str, float], **more) -> Path:
    """Instructions with the mean reward that each id asks for."""
    rows = [
        row
        for id_, mean in means.items()
        for row in instruction(
            id_, f"Question {id_!r}?", small=mean - 0.5, large=mean + 0.5, other=mean, **more
        )
    ]
    return write(path, rows)


def choose(path: Path, budget: int, *, crowd=CROWD, stages=None, method="crowd", **options):
    options = {"clusters": 0, "weights": {"difficulty": 1.0}, "cache": False, **options}
    with open_pool(path) as pool:
        return select(
            pool, Options(budget=budget, **options), crowd=crowd, stages=stages, method=method_named(method)
        )


def reasons(selection) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in selection.table.to_pylist()}


def by_id(selection) -> dict[str, dict]:
    return {row["id"]: row for row in selection.table.to_pylist()}


EVERY_FATE = {
    # id: (its rows, its reason)
    "a: best": (instruction("a: best", "One?", small=0.6, large=1.0, other=0.1, vec=[1.0, 0.0]), "selected"),
    "b\nsecond": (
        instruction("b\nsecond", "Two?", small=2.0, large=2.4, other=2.2, vec=[0.0, 1.0]),
        "selected",
    ),
    "c close": (
        instruction("c close", "One, please?", small=1.0, large=1.4, other=0.9, vec=[3.0, 0.1]),
        "near_duplicate_of:a: best",
    ),
    "d twice": (
        instruction("d twice", " ONE?\n", small=3.0, large=3.4, other=3.2, vec=[0.5, 0.5]),
        "duplicate_of:a: best",
    ),
    "e easy": (instruction("e easy", "Five?", small=9.0, large=9.4, other=9.2, vec=[-1.0, 0.0]), "below_cut"),
    "f banned": (instruction("f banned", "Six?", vec=[1.0, 1.0]), "excluded"),
    "g unlisted": (instruction("g unlisted", "Seven?", vec=[1.0, 1.0]), "not_included"),
    "h banned, without text": (instruction("h banned, without text", None, vec=[1.0, 1.0]), "excluded"),
    "i blank": (instruction("i blank", " \u3000\n", vec=[1.0, 1.0]), "no_instruction"),
    "j few": (instruction("j few", "Ten?", small=None, other=NAN, vec=[1.0, 1.0]), "too_few_rewards"),
    "k no order": (instruction("k no order", "Eleven?", large=None, vec=[1.0, 1.0]), "no_stability"),
    "l silent": (
        instruction("l silent", "Twelve?", other=None, texts=("", None, "unscored"), vec=[1.0, 1.0]),
        "no_answer",
    ),
    "m level": (
        instruction("m level", "Thirteen?", small=1.0, large=1.0, other=1.0, vec=[1.0, 1.0]),
        "no_pair",
    ),
    "n one voice": (
        instruction("n one voice", "Fourteen?", texts=("", "l", " "), vec=[1.0, 1.0]),
        "no_pair",
    ),
    "o poor": (
        instruction("o poor", "Fifteen?", small=-9.0, large=0.2, other=-9.0, vec=[1.0, 1.0]),
        "outside:best_reward",
    ),
    "日本; '\"": (
        instruction("日本; '\"", "Sixteen?", small=8.0, large=8.5, other=8.1, vec=[-1.0, -1.0]),
        "below_cut",
    ),
}


@pytest.fixture
def fates(tmp_path):
    """A selection from the pool in which every row has a fate of its own."""
    pool = write(tmp_path / "pool.parquet", [row for rows, _ in EVERY_FATE.values() for row in rows])
    banned, listed = tmp_path / "banned.txt", tmp_path / "listed.csv"
    banned.write_text("f banned\nh banned, without text\nnot there\n", encoding="utf-8")
    names = [id_ for id_ in EVERY_FATE if id_ != "g unlisted"]
    listed.write_text(
        "id\n" + "".join('"' + name.replace('"', '""') + '"\n' for name in names), encoding="utf-8"
    )
    return choose(
        pool,
        2,
        weights={"difficulty": 1.0, "stability": 1e-6},
        pairs="best-worst",
        keep="best_reward=0.5..",
        embedder="column:vec",
        near_duplicates=0.95,
        include=str(listed),
        exclude=str(banned),
    )


def test_every_reason_a_pool_can_give_stands_where_it_should(fates):
    assert reasons(fates) == {id_: reason for id_, (_, reason) in EVERY_FATE.items()}
    assert {reason.partition(":")[0] for _, reason in EVERY_FATE.values()} <= REASONS.keys()
    assert fates.chosen == ["a: best", "b\nsecond"]
    assert fates.counts() == {
        "selected": 2,
        "below_cut": 2,
        "excluded": 2,
        "not_included": 1,
        "no_instruction": 1,
        "too_few_rewards": 1,
        "no_stability": 1,
        "no_answer": 1,
        "no_pair": 2,
        "outside": 1,
        "duplicate_of": 1,
        "near_duplicate_of": 1,
    }
    assert any(
        "`exclude`" in note and "1 of 3 ids are not in the pool" in note for note in fates.facts["notes"]
    )
    assert not any("`include`" in note for note in fates.facts["notes"])


def test_the_columns_and_their_nulls_are_as_promised(fates):
    schema = fates.table.schema
    pairs = {"rejected_model": pa.string(), "rejected_reward": pa.float64()}
    assert dict(zip(schema.names, schema.types, strict=True)) == COLUMNS | pairs
    assert schema.names == [*COLUMNS, *pairs]
    rows = by_id(fates)
    assert list(rows) == sorted(EVERY_FATE)
    for id_, row in rows.items():
        reason = row["reason"].partition(":")[0]
        eligible = reason in {"selected", "below_cut", "duplicate_of", "near_duplicate_of"}
        for name in ("score", "difficulty_rank", "separability_rank", "stability_rank", "model", "reward"):
            assert (row[name] is not None) == eligible, (id_, name)
        for name in pairs:
            assert (row[name] is not None) == eligible, (id_, name)
        assert (row["rank"] is not None) == row["selected"] == (reason == "selected")
        assert row["cluster"] is None  # no clusters were asked for
        assert row["n_rewards"] == {"j few": 1, "k no order": 2, "l silent": 2}.get(id_, 3)
        assert row["difficulty"] is not None
        assert (row["separability"] is None) == (id_ == "j few")
        assert (row["stability"] is None) == (id_ in {"j few", "k no order"})
    assert (rows["a: best"]["model"], rows["a: best"]["reward"]) == ("large", 1.0)
    assert (rows["a: best"]["rejected_model"], rows["a: best"]["rejected_reward"]) == ("other", 0.1)
    assert rows["a: best"]["difficulty"] == pytest.approx(-1.7 / 3, rel=1e-15)
    assert rows["j few"]["difficulty"] == -1.0


def test_clusters_are_null_exactly_where_a_row_is_not_eligible(tmp_path):
    rows = [row for rows, _ in EVERY_FATE.values() for row in rows]
    found = choose(write(tmp_path / "pool.parquet", rows), 3, clusters=2, weights={"stability": 1.0})
    own = [name for name in COLUMNS if name != "best_reward"]  # no band, no column for it
    assert list(found.table.schema.names) == own  # no pairs, no columns for them
    for row in found.table.to_pylist():
        assert (row["cluster"] is None) == (row["score"] is None)
        assert row["cluster"] in {None, 0, 1}
    assert sum(found.facts["quotas"].values()) == 3
    assert found.facts["embedder"].startswith("lsa")


def test_a_metric_without_weight_may_be_undefined_in_an_eligible_row(tmp_path):
    rows = instruction("a", "A?", large=None) + instruction("b", "B?") + instruction("c", "C?", small=0.9)
    row = by_id(choose(write(tmp_path / "pool.parquet", rows), 1))["a"]
    assert row["score"] is not None
    assert row["stability"] is None
    assert row["stability_rank"] is None
    # And a single reward is enough where only the mean counts.
    rows += instruction("d", "D?", large=None, other=None)
    pool = write(tmp_path / "more.parquet", rows)
    assert reasons(choose(pool, 1, keep="rewards=1.."))["d"] != "too_few_rewards"
    assert (
        reasons(choose(pool, 1, keep="rewards=1..", weights={"separability": 1.0}))["d"] == "too_few_rewards"
    )
    assert reasons(choose(pool, 1, keep="rewards=3.."))["a"] == "outside:rewards"


# --- the same pool in other forms ---------------------------------------------------------------------


def long_rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def grouped(rows: list[dict]) -> list[list[dict]]:
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row["id"], []).append(row)
    return list(groups.values())


def as_zoo(rows: list[dict], reward: str) -> list[dict]:
    models = sorted({row["model"] for row in rows})
    out = []
    for group in grouped(rows):
        cells = {row["model"]: {"content": row["response"], reward: row[reward]} for row in group}
        empty = {"content": None, reward: None}
        out.append(
            {"uuid": group[0]["id"], "instruction": group[0]["instruction"]}
            | {model: cells.get(model, empty) for model in models}
        )
    return out


def as_ultrafeedback(rows: list[dict], reward: str) -> list[dict]:
    return [
        {
            "id": group[0]["id"],
            "instruction": group[0]["instruction"],
            "completions": [{name: row[name] for name in ("model", "response", reward)} for row in group],
        }
        for group in grouped(rows)
    ]


def write_csv(path: Path, rows: list[dict]) -> Path:
    names = ["id", "instruction", "model", "response", "simulated_reward"]

    def cell(value) -> str:
        if value is None:
            return ""
        return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else repr(value)

    lines = [",".join(names), *(",".join(cell(row[name]) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def written(path: Path, folder: Path, **options) -> tuple[bytes, bytes]:
    with open_pool(path) as pool:
        selection = select(pool, Options(cache=False, **options))
        export(selection, pool, folder)
    return (folder / "selection.parquet").read_bytes(), (folder / "train.jsonl").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 20, "clusters": 4},
        {"budget": 15, "clusters": 3, "near_duplicates": 0.8, "answer": "top3-random", "seed": 7},
        {"budget": 30, "clusters": 0, "answer": "random", "weights": {"separability": -1.0}},
    ],
)
def test_row_order_file_type_and_layout_give_the_same_bytes(tmp_path, options):
    simulated = simulate(
        tmp_path / "pool.parquet", instructions=90, answer_chars=80, missing=0.03, empty=0.05, duplicates=0.1
    )
    rows = long_rows(simulated.path)
    shuffled = random.Random(0).sample(rows, len(rows))
    shards = tmp_path / "shards"
    shards.mkdir()
    write(shards / "2.parquet", shuffled[:500])
    write(shards / "1.parquet", shuffled[500:])
    forms = {
        "shuffled": write(tmp_path / "shuffled.parquet", shuffled),
        "shards": shards,
        "json lines": write_jsonl(tmp_path / "pool.jsonl.gz", shuffled[::-1]),
        "csv": write_csv(tmp_path / "pool.csv", shuffled),
        "zoo": write(tmp_path / "zoo.parquet", as_zoo(shuffled, "simulated_reward")),
        "ultrafeedback": write_jsonl(tmp_path / "uf.jsonl", as_ultrafeedback(rows, "simulated_reward")),
    }
    expected = written(simulated.path, tmp_path / "out", **options)
    for name, path in forms.items():
        got = written(path, tmp_path / f"out {name}", **options)
        assert got[0] == expected[0], f"selection.parquet of {name}"
        assert got[1] == expected[1], f"train.jsonl of {name}"
    assert expected[1].count(b"\n") == options["budget"]


def test_another_seed_breaks_ties_in_another_way_and_the_same_seed_in_the_same(tmp_path):
    pool = simple_pool(tmp_path / "pool.parquet", {f"id{row}": 1.0 for row in range(60)})
    first, again, other = (choose(pool, 20, seed=seed) for seed in (3, 3, 4))
    assert first.table.equals(again.table)
    assert set(first.chosen) != set(other.chosen)
    keys = seeded_hash([f"id{row}" for row in range(60)], seed=3, salt="tie")
    assert first.chosen == [f"id{row}" for row in np.argsort(keys)[:20]]
    assert set(first.table["score"].to_pylist()) == {0.5}


def test_more_rows_change_no_other_rows_metrics_and_answer(tmp_path):
    few = choose(simple_pool(tmp_path / "few.parquet", {"b": 1.0, "d": 2.0}), 1, answer="random")
    more = choose(
        simple_pool(tmp_path / "more.parquet", dict.fromkeys("abcde", 0.0) | {"b": 1.0, "d": 2.0}),
        1,
        answer="random",
    )
    for id_, row in by_id(few).items():
        same = by_id(more)[id_]
        for name in ("model", "reward", "difficulty", "separability", "stability", "n_rewards"):
            assert same[name] == row[name]


# --- against a choice made by hand --------------------------------------------------------------------


def scipy_metrics(scores, members) -> dict[str, list[float]]:
    metrics: dict[str, list[float]] = {"difficulty": [], "separability": [], "stability": []}
    for row in scores:
        known = row[~np.isnan(row)]
        metrics["difficulty"].append(-np.mean(known) if known.size else NAN)
        metrics["separability"].append(np.var(known) if known.size > 1 else NAN)
        rhos = []
        for family in sorted({member.family for member in members}):
            there = [j for j, m in enumerate(members) if m.family == family and not np.isnan(row[j])]
            if len({members[j].size_b for j in there}) > 1:
                rhos.append(spearmanr([members[j].size_b for j in there], row[there]).statistic)
        metrics["stability"].append(np.mean(rhos) if rhos else NAN)
    return metrics


@pytest.mark.parametrize(
    "weights", [{"difficulty": 1, "separability": 1, "stability": 2}, {"difficulty": -0.3, "stability": 0.1}]
)
@pytest.mark.parametrize("budget", [1, 7, 40])
def test_the_choice_is_the_one_made_by_hand_from_the_rewards(tmp_path, weights, budget):
    simulated = simulate(
        tmp_path / "pool.parquet", instructions=80, answer_chars=80, missing=0.05, empty=0.1, duplicates=0.2
    )
    with open_pool(simulated.path) as pool:
        selection = select(pool, Options(budget=budget, clusters=3, weights=weights, cache=False, seed=5))
        scores, answered = pool.scores(), pool.answered()
        texts, ids = pool.instructions(), pool.ids
    table = selection.table.to_pydict()
    metrics = scipy_metrics(scores, simulated.crowd.members)
    eligible = (~np.isnan(scores)).sum(axis=1) >= 2
    eligible &= (answered & ~np.isnan(scores)).any(axis=1) & ~np.isnan(metrics["stability"])
    assert [value is not None for value in table["score"]] == eligible.tolist()
    rows = np.flatnonzero(eligible)
    total = dict.fromkeys(rows.tolist(), Fraction(0))
    for name, values in metrics.items():
        assert table[name] == pytest.approx(values, rel=1e-12, abs=1e-15)
        ranks = rankdata(np.round(np.array(values)[rows], 12))
        for row, rank in zip(rows.tolist(), ranks, strict=True):
            share = Fraction(rank - 1) / (len(rows) - 1)
            assert table[f"{name}_rank"][row] == pytest.approx(float(share), rel=1e-15)
            total[row] += Fraction(str(weights.get(name, 0))) * share
    keys = seeded_hash(ids, seed=5, salt="tie")
    line = sorted(total, key=lambda row: (-total[row], keys[row]))
    queues: dict[int, list[int]] = {}
    said = set()
    for row in line:
        if normalised(texts[row]) not in said:
            said.add(normalised(texts[row]))
            queues.setdefault(table["cluster"][row], []).append(row)
    chosen: list[int] = []
    while len(chosen) < budget:
        heads = sorted((queue[0] for queue in queues.values() if queue), key=line.index)
        for row in heads[: budget - len(chosen)]:
            queues[table["cluster"][row]].remove(row)
            chosen.append(row)
    assert selection.chosen == [ids[row] for row in sorted(chosen, key=line.index)]
    for row in selection.rows():
        at = ids.tolist().index(row["id"])
        usable = np.where(answered[at] & ~np.isnan(scores[at]), scores[at], -np.inf)
        assert row["reward"] == usable.max() == scores[at, pool.models.index(row["model"])]


@given(
    means=st.lists(st.integers(0, 5), min_size=3, max_size=12),
    weight=st.sampled_from([1.0, -1.0, 0.3]),
    data=st.data(),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_monotone_rescaling_of_a_metric_changes_no_choice(tmp_path, means, weight, data):
    budget = data.draw(st.integers(1, len(means)))
    pools = []
    for name, scaled in (("a", float), ("b", lambda mean: 2.0 ** (3 * mean) - 100)):
        ids = {f"{row}": scaled(mean) for row, mean in enumerate(means)}
        pools.append(simple_pool(tmp_path / f"{name}.parquet", ids))
    one, other = (choose(pool, budget, weights={"difficulty": weight}) for pool in pools)
    assert one.chosen == other.chosen
    assert len(set(one.chosen)) == budget
    assert one.table["score"].to_pylist() == other.table["score"].to_pylist()


# --- options -------------------------------------------------------------------------------------------


def test_a_negative_weight_turns_a_metric_round(tmp_path):
    pool = simple_pool(tmp_path / "pool.parquet", {"easy": 9.0, "hard": 1.0, "middle": 5.0})
    assert choose(pool, 3).chosen == ["hard", "middle", "easy"]
    turned = choose(pool, 3, weights={"difficulty": -2.0})
    assert turned.chosen == ["easy", "middle", "hard"]
    assert turned.table["score"].to_pylist() == [0.0, -2.0, -1.0]


def test_include_and_exclude_together_and_what_they_do_not_find(tmp_path):
    pool = simple_pool(tmp_path / "pool.parquet", {"a": 1.0, "b": 2.0, "2024-01-01": 3.0, "007": 4.0})
    (tmp_path / "in.txt").write_text("\ufeffa\n\n  b \n2024-01-01\nzzz\nyyy\n", encoding="utf-8")
    write(tmp_path / "out.parquet", [{"id": "b"}, {"id": None}])
    found = choose(pool, 2, include=str(tmp_path / "in.txt"), exclude=str(tmp_path / "out.parquet"))
    assert reasons(found) == {
        "007": "not_included",
        "2024-01-01": "selected",
        "a": "selected",
        "b": "excluded",
    }
    assert [note for note in found.facts["notes"] if "ids are not in the pool" in note] == [
        f"`include` {tmp_path / 'in.txt'}: 2 of 5 ids are not in the pool"
    ]
    with pytest.raises(
        BudgetError, match="`budget=3` is more than can be chosen: 2 instructions are eligible"
    ):
        choose(pool, 3, include=str(tmp_path / "in.txt"), exclude=str(tmp_path / "out.parquet"))


@pytest.mark.parametrize(
    ("band", "barred"),
    [
        ("2.5..", {"a"}),  # best rewards are 1.5, 2.5, 3.5, 4.5: at the floor is enough
        ("2.6..", {"a", "b"}),
        ("..2.6", {"c", "d"}),
        ("2..3", {"a", "c", "d"}),
        ("..66%", {"c", "d"}),
        ("0%..", set()),
        ("50%..", {"a", "b"}),
        ("100%..", {"a", "b", "c"}),
    ],
)
def test_a_band_of_the_best_reward_bars_what_nobody_answered_well(tmp_path, band, barred):
    pool = simple_pool(tmp_path / "pool.parquet", {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    found = reasons(choose(pool, 1, keep=(f"best_reward={band}",)))
    assert {id_ for id_, reason in found.items() if reason == "outside:best_reward"} == barred


def test_the_floor_looks_at_answers_with_text_only(tmp_path):
    rows = instruction("a", "A?", large=9.0, texts=("s", "", "o")) + instruction("b", "B?", large=1.0)
    found = choose(write(tmp_path / "pool.parquet", rows), 1, keep="best_reward=1..")
    assert reasons(found) == {"a": "outside:best_reward", "b": "selected"}
    assert any(line.startswith("1 answer has a reward but no text") for line in found.warnings)


@pytest.mark.parametrize("strategy", ["best", "random", "top2-random", "model:large"])
def test_an_empty_answer_is_never_chosen(tmp_path, strategy):
    rows = []
    for row in range(30):
        texts = [("s", "", "o"), ("s", None, "o"), (" \n", "l", "\u3000")][row % 3]
        rows += instruction(f"{row:02d}", f"Question {row}?", large=5.0, texts=texts)
    found = choose(write(tmp_path / "pool.parquet", rows), 10, answer=strategy)
    for row in found.table.to_pylist():
        if int(row["id"]) % 3 == 2:
            assert row["model"] == "large"
        elif strategy == "model:large":
            assert row["reason"] == "no_answer"
        else:
            assert row["model"] in {"small", "other"}


def test_a_teacher_may_lack_a_reward_but_not_an_answer(tmp_path):
    rows = instruction("a", "A?", other=None) + instruction("b", "B?", texts=("s", "l", None))
    row = by_id(choose(write(tmp_path / "pool.parquet", rows), 1, answer="model:other"))
    assert (row["a"]["reason"], row["a"]["model"], row["a"]["reward"]) == ("selected", "other", None)
    assert row["b"]["reason"] == "no_answer"


def test_a_column_of_the_pool_stands_in_for_clusters_and_missing_is_a_group(tmp_path):
    topics = ["é", "b", None, "B", "b", "b", None, "b"]
    rows = [row for at, topic in enumerate(topics) for row in instruction(f"{at}", f"Q{at}?", topic=topic)]
    found = choose(
        write(tmp_path / "pool.parquet", rows), 6, clusters=10, cluster_by="topic", embedder="none at all"
    )
    assert found.table["cluster"].to_pylist() == [2, 1, 3, 0, 1, 1, 3, 1]
    assert found.facts["cluster_names"] == ["B", "b", "é", "(missing)"]
    assert found.facts["quotas"] == {"0": 1, "1": 2, "2": 1, "3": 2}
    assert found.facts["embedder"] is None


def test_a_number_column_with_nan_groups_too(tmp_path):
    rows = [
        row
        for at, year in enumerate([2024.0, NAN, 2024.0, None, NAN])
        for row in instruction(f"{at}", f"Q{at}?", year=year)
    ]
    with open_pool(write(tmp_path / "pool.parquet", rows)) as pool:
        found = select(
            pool,
            Options(budget=4, cluster_by="year", weights={"difficulty": 1.0}, reward="score"),
            crowd=CROWD,
        )
    labels = found.table["cluster"].to_pylist()
    assert labels[0] == labels[2]
    assert labels[1] == labels[4] != labels[0]
    assert sum(found.facts["quotas"].values()) == 4


def test_a_cluster_per_row_and_a_budget_of_all(tmp_path):
    pool = simple_pool(tmp_path / "pool.parquet", {f"{row}": float(row) for row in range(8)})
    for options in ({"clusters": 8}, {"cluster_by": "id"}, {"clusters": 0}):
        everything = choose(pool, 8, **options)
        assert everything.chosen == [f"{row}" for row in range(8)]
        assert everything.counts() == {"selected": 8}
        few = choose(pool, 3, **options)
        assert few.chosen == ["0", "1", "2"]
        said = [warning for warning in few.warnings if "contribute no row" in warning]
        assert [warning[:33] for warning in said] == ["5 of 8 clusters contribute no row"] * (
            options != {"clusters": 0}
        )
    with pytest.raises(OptionError, match="`clusters=9` is more than the 8 eligible instructions"):
        choose(pool, 8, clusters=9)


def test_a_pool_that_says_one_thing_only_is_one_cluster_and_one_row(tmp_path):
    rows = [
        row
        for at, text in enumerate(["Why?", "why?", " WHY?", "Why?\n", "\uff37hy?", "why?"])
        for row in instruction(f"{at}", text, small=at / 10)
    ]
    pool = write(tmp_path / "pool.parquet", rows)
    found = choose(pool, 1, clusters=2)
    assert found.chosen == ["0"]
    assert reasons(found) == {"0": "selected"} | {f"{at}": "duplicate_of:0" for at in range(1, 6)}
    assert "all eligible instructions are in one cluster, so clusters change nothing" in found.warnings
    with pytest.raises(
        BudgetError, match="6 instructions are eligible, 5 of them duplicates of others; 1 is the most"
    ):
        choose(pool, 2, clusters=2)


def test_near_duplicates_by_words_name_the_chosen_row(tmp_path):
    words = ["write", "a", "short", "story", "about", "one", "brave", "little", "dog", "who", "finds", "home"]
    texts = [
        " ".join(words),
        " ".join(words[::-1]),
        "Explain the tax law of Japan",
        "Sum the integers below 100",
    ]
    rows = [row for at, text in enumerate(texts) for row in instruction(f"{at}", text, small=at / 10)]
    found = choose(write(tmp_path / "pool.parquet", rows), 3, near_duplicates=0.99)
    assert reasons(found)["1"] == "near_duplicate_of:0"
    assert len(found.chosen) == 3
    with pytest.raises(
        BudgetError, match="`budget=4` cannot be filled: only 3 rows are left without near-duplicates"
    ):
        choose(tmp_path / "pool.parquet", 4, near_duplicates=0.99)


# --- pools with parts missing --------------------------------------------------------------------------


def matrix(path: Path, rows: int = 12) -> Path:
    rng = np.random.default_rng(0)
    columns = {"id": [f"{row:02d}" for row in range(rows)], "topic": ["x", "y"] * (rows // 2)}
    columns |= {name: rng.random(rows) for name in ("small", "large", "other")}
    columns["vec"] = [[float(row % 3 == axis) for axis in range(3)] for row in range(rows)]
    pq.write_table(pa.table(columns), path)
    return path


def test_a_pool_without_text_is_chosen_from_without_a_training_file(tmp_path):
    pool = matrix(tmp_path / "pool.parquet")
    for options, labels in (
        ({"clusters": 0}, {None}),
        ({"cluster_by": "topic"}, {0, 1}),
        ({"clusters": 3, "embedder": "column:vec"}, {0, 1, 2}),
    ):
        found = choose(pool, 6, **options)
        assert set(found.table["cluster"].to_pylist()) == labels
        assert any(
            w.startswith("the pool holds no instruction text (wanted a column instruction or messages)")
            for w in found.warnings
        )
        assert found.counts() == {"selected": 6, "below_cut": 6}
        assert found.table["model"].null_count == 0
    with open_pool(pool) as opened:
        folder = export(found, opened, tmp_path / "out")
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "manifest.json",
        "selection.parquet",
    ]


def test_the_default_embedder_needs_text_and_says_what_to_use(tmp_path):
    for options in ({"clusters": 2}, {"clusters": 0, "near_duplicates": 0.9}):
        with pytest.raises(
            OptionError, match=r"no instruction has text, so `embedder=.lsa.` has nothing to read; use `clu"
        ):
            choose(matrix(tmp_path / "pool.parquet"), 6, **options)


def test_a_pool_without_answers_takes_rewards_for_answers(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "response"} for row in instruction("a", "A?", other=None)]
    found = choose(write(tmp_path / "pool.parquet", rows), 1)
    assert found.rows()[0]["model"] == "large"
    assert (
        "the pool holds no answers (wanted a column response), so there is no training file and nothing for a trainer"
        in found.warnings
    )


# --- warnings and errors -------------------------------------------------------------------------------


def test_a_warning_where_nobody_answered_well(tmp_path):
    rows = instruction("hopeless", "A?", small=0.0, large=0.0, other=0.0) + instruction(
        "open", "B?", small=0.0
    )
    pool = write(tmp_path / "pool.parquet", rows)
    warning = (
        "no model answered 1 of the 1 chosen instructions well: their best reward is the pool's lowest (0); "
        "set a floor, such as `keep='best_reward=10%..'`"
    )
    assert warning in choose(pool, 1).warnings
    assert not any("no model" in line for line in choose(pool, 1, weights={"difficulty": -1}).warnings)


@pytest.mark.parametrize("scale", [1, 0.1])
def test_the_floor_that_is_advised_leaves_out_what_nobody_answered_well(tmp_path, scale):
    rows = [
        row
        for i in range(8)
        for row in instruction(
            str(i), f"{i}?", small=-scale, large=scale / 3 if i > 4 else -scale, other=-scale
        )
    ]
    pool = write(tmp_path / "pool.parquet", rows)
    (line,) = (line for line in choose(pool, 3).warnings if "set a floor" in line)
    band = line.split("`keep='")[1].removesuffix("'`")
    found = choose(pool, 3, keep=band)
    assert sorted(found.chosen) == ["5", "6", "7"]
    assert not any("set a floor" in line for line in found.warnings)


def test_without_any_reward_there_is_no_floor_to_advise(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "score"} for row in instruction("a", "A?")]
    pool = write(tmp_path / "pool.parquet", [row | {"level": 3} for row in rows])
    found = choose(pool, 1, method="random", answer="random")
    assert not any("floor" in line for line in found.warnings)


def test_a_column_called_as_a_metric_is_told_apart_where_there_are_no_rewards(tmp_path):
    rows = [row for i in range(20) for row in instruction(str(i), f"{i}?", difficulty=i % 4)]
    pool = write(tmp_path / "pool.parquet", [{k: v for k, v in row.items() if k != "score"} for row in rows])
    asked = {"method": "random", "answer": "random"}
    with pytest.raises(OptionError, match="`keep`: difficulty is the metric, which needs rewards"):
        choose(pool, 1, keep="difficulty=3..", **asked)
    with pytest.raises(OptionError, match=r"`quota`: difficulty holds numbers.*`cluster_by='difficulty'`"):
        choose(pool, 1, quota="difficulty=equal", **asked)
    with open_pool(pool, columns={"own_difficulty": "difficulty"}) as renamed:
        options = Options(budget=1, clusters=0, keep="own_difficulty=3..", answer="random")
        (chosen,) = select(renamed, options, method=method_named("random")).chosen
        assert int(chosen) % 4 == 3


def test_a_warning_where_a_poor_answer_is_trained_on_though_a_better_one_is_there(tmp_path):
    rows = [row for i in range(4) for row in instruction(str(i), f"{i}?", small=0.0, large=i % 2, other=0.0)]
    pool = write(tmp_path / "pool.parquet", rows)

    def warned(budget, **options):
        return [line for line in choose(pool, budget, **options).warnings if "though there is" in line]

    words = (
        "in 2 of the 4 chosen instructions an answer to train on has the pool's lowest reward (0), "
        "though there is a better one; "
    )
    best, floor = "train on the best with `answer='best'`", "set a floor, such as `keep='best_reward=1..'`"
    assert warned(4) == []
    assert warned(4, answer="model:small") == [words + best]  # in the other two none is better
    assert warned(2, answer="model:large", weights={"difficulty": -1}) == []
    assert warned(4, answers_per_row=3) == [words + floor]
    assert (
        warned(2, answers_per_row=3, keep="best_reward=1..") == []
    )  # the floor leaves poor answers out, too


@pytest.mark.real
def test_the_hardest_questions_of_zeroeval_were_answered_by_nobody(data):
    crowd = Crowd.from_file(data / "zeroeval.models.json")
    with open_pool(data / "zeroeval.parquet") as pool:
        found = select(pool, Options(budget=100, clusters=0, weights={"difficulty": 1.0}), crowd=crowd)
    table = pq.read_table(data / "zeroeval.parquet", columns=["id", "score"])
    best = dict(zip(*table.group_by("id").aggregate([("score", "max")]).to_pydict().values(), strict=True))
    nobody = sum(best[id_] == 0 for id_ in found.chosen)
    assert nobody > 20
    assert any(
        line.startswith(f"no model answered {nobody} of the 100 chosen instructions well")
        for line in found.warnings
    )


def test_an_impossible_budget_fails_before_anything_is_embedded(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(grouping, "open_vectors", never)
    pool = simple_pool(tmp_path / "pool.parquet", {"a": 1.0, "b": 2.0})
    with pytest.raises(
        BudgetError, match="`budget=3` is more than can be chosen: 2 instructions are eligible"
    ):
        choose(pool, 3, clusters=2)
    with pytest.raises(BudgetError, match="0 instructions are eligible"):
        choose(pool, 1, clusters=2, keep="rewards=4..")


def test_what_depends_on_the_pool_is_refused_with_its_names(tmp_path):
    pool = simple_pool(tmp_path / "pool.parquet", {"a": 1.0, "b": 2.0})
    with pytest.raises(
        OptionError, match="no model 'GPT' in the pool to teach; its models are: large, other, small"
    ):
        choose(pool, 1, answer="model:GPT")
    with pytest.raises(RewardError, match="no reward column 'armo'; found score"):
        choose(pool, 1, reward="armo")
    unordered = Crowd((Member("large", "F", 7.0, "file"), Member("small", "F", 7.0, "file")))
    with pytest.raises(OptionError, match="stability has a weight, but no model family of two known sizes"):
        choose(pool, 1, crowd=unordered, weights={"stability": 1.0})
    assert choose(pool, 1, crowd=unordered).chosen == ["a"]  # without the weight it is no matter


def test_rewards_whose_square_is_too_large_name_the_row(tmp_path):
    rows = instruction("fine", "A?") + instruction("giant", "B?", large=1e200)
    with pytest.raises(ValueError, match="separability of id 'giant' is too large for a number"):
        choose(write(tmp_path / "pool.parquet", rows), 1)


def test_stages_are_timed_in_their_order_and_told_of_progress(tmp_path):
    stages = Stages()
    found = choose(simple_pool(tmp_path / "pool.parquet", {"a": 1.0, "b": 2.0}), 1, stages=stages)
    assert list(found.seconds) == [
        "rewards and metrics",
        "eligibility",
        "score",
        "clusters",
        "choice",
    ]
    assert found.seconds is stages.seconds
    assert all(seconds >= 0 for seconds in found.seconds.values())


def test_the_facts_are_plain_values_for_a_manifest(fates):
    facts = json.loads(json.dumps({"facts": dict(fates.facts), "options": dict(fates.options)}))
    assert facts["facts"]["instructions"] == len(EVERY_FATE)
    assert facts["facts"]["models"] == 3
    assert facts["facts"]["reward"] == "score"
    assert facts["facts"]["filled"] == pytest.approx((3 * len(EVERY_FATE) - 4) / (3 * len(EVERY_FATE)))
    assert [member["name"] for member in facts["facts"]["crowd"]] == ["large", "other", "small"]
    assert facts["options"]["weights"] == {
        "difficulty": 1.0,
        "separability": 0.0,
        "stability": 1e-6,
        "within": 0.0,
    }
