"""The dataset card: YAML in front that a loader reads, and nothing in it that acts."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crowdselect import Options, open_pool, select
from crowdselect.selection.eligible import REASONS
from crowdselect.selection.folder import code, dataset_card

NASTY = '[/b] \x1b[31m \u202e | ` `` <b> "quoted" \\ : # --- \n---\n- x: {y} \x7f \x85 \ufeff 🙂 日本'


@pytest.fixture(scope="module")
def selection(sim):
    with open_pool(sim) as pool:
        return select(pool, Options(budget=7, clusters=3))


def front(card: str) -> dict:
    """The YAML in front: every value is JSON, but for escapes of characters beyond the sixteenth bit."""
    lines = card.split("\n")
    assert lines[0] == "---"
    head = lines[1 : lines.index("---", 1)]
    return {
        line.split(": ", 1)[0]: json.loads(line.split(": ", 1)[1].replace("\\U0000", "\\u")) for line in head
    }


def test_the_card_of_a_selection(selection):
    card = dataset_card(selection, train_file="train.jsonl", format_name="messages", license_name=None)
    head = front(card)
    assert head["license"] == "unknown"
    assert head["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "train.jsonl"}]}
    ]
    assert "# 7 instructions chosen by a crowd" in card
    assert "simulated: no real model or reward is behind it" in card
    assert "from 120 instructions that 12 models answered" in card
    assert (
        '| `weights` | `{"difficulty": 1.0, "separability": 1.0, "stability": 2.0, "within": 0.0}` |' in card
    )
    for reason, count in selection.counts().items():
        assert f"| `{reason}: {REASONS[reason]}` | `{count}` |" in card
    assert selection.facts["fingerprint"] in card
    assert "unknown here." in card


def test_a_licence_that_is_named(selection):
    card = dataset_card(
        selection, train_file="train.jsonl", format_name="messages", license_name="apache-2.0"
    )
    assert front(card)["license"] == "apache-2.0"
    assert "names: `apache-2.0`." in card


def test_without_a_training_file(selection):
    card = dataset_card(selection, train_file=None, format_name="messages", license_name=None)
    assert "configs" not in front(card)
    assert "There is no training file" in card


def test_no_folder_of_this_machine_is_in_it(selection, sim):
    import dataclasses

    facts = {
        **selection.facts,
        "embedder": "file:/home/me/v.npz (3 dimensions, as given)",
        "pool": "/data/my pools/*.parquet",
    }
    options = {
        **selection.options,
        "include": "/home/me/my ids.txt",
        "exclude": "../never.txt",
        "embedder": "file:/home/me/v.npz",
        "decontaminate": ["/home/me/bench 1.jsonl", "hf://datasets/a/b"],
    }
    warnings = ("'/home/me/crowd.toml': 1 of 3 entries is not in the pool: 'org/model'",)
    told = dataclasses.replace(selection, facts=facts, options=options, warnings=warnings)
    card = dataset_card(told, train_file="train.jsonl", format_name="messages", license_name=None)
    assert "/home" not in card
    assert "/data/" not in card
    for part in (
        "`*.parquet`",
        "`my ids.txt`",
        "`never.txt`",
        "`file:v.npz`",
        "'crowd.toml': 1 of 3",
        "'org/model'",
        "`bench 1.jsonl, hf://datasets/a/b`",
    ):
        assert part in card
    remote = dataclasses.replace(selection, facts={**facts, "pool": "hf://datasets/owner/name@main/data"})
    assert "`hf://datasets/owner/name@main/data`" in dataset_card(
        remote, train_file=None, format_name="dpo", license_name=None
    )
    assert str(Path(sim).parent) not in dataset_card(
        selection, train_file=None, format_name="dpo", license_name=None
    )


def test_hostile_facts_stay_in_their_cells(selection):
    import dataclasses

    told = dataclasses.replace(
        selection,
        facts={**selection.facts, "reward": NASTY, "pool": f"/x/{NASTY}"},
        options={**selection.options, "cluster_by": NASTY, "answer": f"model:{NASTY}"},
        warnings=(NASTY,),
    )
    card = dataset_card(told, train_file="train.jsonl", format_name="messages", license_name=NASTY)
    assert front(card)["license"] == NASTY
    assert all(c == "\n" or c.isprintable() for c in card)
    assert card.split("\n").count("---") == 2
    inside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "CODE", card.split("---\n", 2)[2])
    assert "<" not in inside
    assert "[/b]" not in inside
    tables = [line for line in card.split("\n") if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in tables)


@given(st.text())
def test_code_is_one_span_on_one_line(text):
    shown = code(text)
    assert shown.isprintable()
    fence = re.match("`+", shown)[0]
    assert shown.endswith(fence)
    inner = shown[len(fence) : -len(fence)]
    assert inner
    assert fence not in re.findall("`+", inner)
    assert not re.search(r"(?<!\\)\|", inner)


@pytest.mark.extra
def test_yaml_reads_the_front(selection):
    yaml = pytest.importorskip("yaml")
    card = dataset_card(selection, train_file="train.jsonl", format_name="messages", license_name=NASTY)
    assert yaml.safe_load(card.split("---\n")[1])["license"] == NASTY
