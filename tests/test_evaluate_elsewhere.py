"""`evaluate compare` on folders that lm-evaluation-harness wrote elsewhere: read, paired over documents, conflicts said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from crowdselect.errors import InputError
from crowdselect.evaluate.comparison import compare
from crowdselect.evaluate.documents import read_documents
from crowdselect.evaluate.outcome import load_groups, load_result

STORED = Path(__file__).parent / "stored" / "lm-eval-0.4.13" / "results"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Two folders of results, `small` and `large`, that a test may change."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(STORED / "example__lol-1b", "small")
    shutil.copytree(STORED / "example__lol-7b", "large")


def newest(folder, task):
    return max(Path(folder).glob(f"samples_{task}_*.jsonl"))


def change(file, edit):
    """Write a log again, each row edited; None leaves it out."""
    rows = [edit(json.loads(line)) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))


def by_hand(folder):
    """Document → its mean over filters of the task's first metric; negative where lower is better."""
    found = {}
    for task, metric, sign in (
        ("capitals", "acc", 1),
        ("sums", "exact_match", 1),
        ("endings", "perplexity", 1),
    ):
        for line in newest(folder, task).read_text().splitlines():
            row = json.loads(line)
            found.setdefault((task, row["doc_id"]), []).append(sign * float(row[metric]))
    return {key: float(np.mean(values)) for key, values in found.items()}


def test_a_folder_of_the_harness_is_one_result():
    found, truth = load_result("small"), by_hand("small")
    assert (found.benchmark, found.model, found.judge) == ("harness", "example/lol-1b", None)
    weights = found.cells.weights.sum(axis=1)
    means = {
        (task, int(id_.partition(":")[2].split()[0])): total / weight
        for id_, task, total, weight in zip(
            found.cells.ids, found.cells.categories, found.cells.sums.sum(axis=1), weights, strict=True
        )
        if weight
    }
    assert means == pytest.approx(truth)
    assert set(weights.tolist()) == {0.0, 1.0}  # two filters of a document count as one document
    assert found.tasks["sums"].scored_by == "exact_match through flexible-extract, strict-match"
    documents = read_documents(Path("small"))
    assert documents.reasons == {"its metric is of all documents together": 3}  # passages
    assert documents.parts["sums (flexible-extract)"].mean() == 0.5  # as the harness printed it
    assert documents.parts["sums (strict-match)"].mean() == 0.0
    assert documents.parts["capitals"].mean() == pytest.approx(2 / 3)


def test_differences_are_paired_over_documents_whatever_their_order(run):
    first, second = by_hand("small"), by_hand("large")
    truth = np.mean([first[key] - second[key] for key in first])
    made = run("evaluate", "compare", "small", "large", "--json")
    assert made.code == 0, made
    (difference,) = json.loads(made.out)["differences"]
    assert difference["difference"] == pytest.approx(truth)
    assert (difference["questions"], difference["left_out"]) == (len(first), 0)
    draw = np.random.default_rng(5)
    each = np.array([first[key] - second[key] for key in first])
    means = each[draw.integers(0, len(each), size=(20_000, len(each)))].mean(axis=1)
    assert difference["interval"] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=0.15)
    for file in Path("small").glob("*.jsonl"):
        file.write_text("".join(f"{line}\n" for line in reversed(file.read_text().splitlines())))
    assert json.loads(run("evaluate", "compare", "small", "large", "--json").out)["differences"] == [
        difference
    ]
    shown = run("evaluate", "compare", "small", "large").out
    assert "paired over documents" in shown
    assert (
        "left out: passages; the metric is of all documents together"
        in run("evaluate", "compare", "small", "large").err
    )


def test_runs_of_a_method_are_a_second_level(run):
    shutil.copytree("small", "other")
    change(newest("other", "capitals"), lambda row: {**row, "acc": 1.0 - row["acc"]})
    found = json.loads(run("evaluate", "compare", "one=small,other", "two=large", "--json").out)
    first, other, second = (by_hand(folder) for folder in ("small", "other", "large"))
    truth = np.mean([(first[key] + other[key]) / 2 - second[key] for key in first])
    assert found["differences"][0]["difference"] == pytest.approx(truth)
    assert [one["runs"] for one in found["standings"]] == [2, 1]


def test_missing_and_changed_documents_are_not_paired(run):
    change(newest("small", "capitals"), lambda row: None if row["doc_id"] == 0 else row)
    change(
        newest("small", "endings"), lambda row: {**row, "doc_hash": "f" * 64} if row["doc_id"] == 1 else row
    )
    found = json.loads(run("evaluate", "compare", "small", "large", "--json").out)
    first, second = by_hand("small"), by_hand("large")
    both = [key for key in first if key in second and key != ("endings", 1)]
    (difference,) = found["differences"]
    assert difference["difference"] == pytest.approx(np.mean([first[key] - second[key] for key in both]))
    assert (difference["questions"], difference["left_out"]) == (len(both), 3)
    assert any(
        f"share {len(both)} documents; 3 that only one of them has are left out" in n for n in found["notes"]
    )


def test_conflicts_are_one_line(run):
    run("evaluate", "compare", STORED, "large").refuses(
        "several models: example/lol-1b, example/lol-7b; name the folder"
    )
    shutil.copytree("small", "one-filter")
    change(newest("one-filter", "sums"), lambda row: row if row["filter"] == "strict-match" else None)
    run("evaluate", "compare", "one-filter", "large").refuses(
        "large: the task sums is scored by exact_match through flexible-extract, strict-match, in one-filter by exact_match; "
        "such scores cannot be compared"
    )
    shutil.copytree("small", "other-metric")
    change(
        newest("other-metric", "capitals"),
        lambda row: {**row, "metrics": ["brier_score", "acc"], "brier_score": 0.5},
    )
    run("evaluate", "compare", "large", "other-metric").refuses(
        "the task capitals is scored by brier_score", "in large by acc"
    )
    for folder, gone in (("small", ("sums", "endings", "passages")), ("large", ("capitals",))):
        for task in gone:
            for file in Path(folder).glob(f"samples_{task}_*.jsonl"):
                file.unlink()
    run("evaluate", "compare", "small", "large").refuses(
        "large: its tasks are endings, passages, sums, those of small are capitals; wanted a task in common"
    )
    newest("small", "capitals").write_text("{no json\n")
    run("evaluate", "compare", "small", "large").refuses("line 1", "copy the file again")
    Path("nothing").mkdir()
    run("evaluate", "compare", "nothing", "large").refuses(
        "wanted a folder of crowdselect evaluate, or a results folder"
    )


def test_a_document_that_comes_twice_is_refused():
    file = newest("small", "endings")
    file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
    with pytest.raises(InputError, match=r"line 5: the document 0 .* comes a second time"):
        load_result("small")


def test_what_only_some_have_and_what_was_asked_otherwise_is_said():
    for file in Path("large").glob("samples_sums_*.jsonl"):
        file.unlink()
    for file in Path("large").glob("results_*.json"):
        facts = json.loads(file.read_text())
        facts["n-shot"]["endings"] = 5
        file.write_text(json.dumps({**facts, "chat_template": "{{ messages }}"}))
    notes = compare(load_groups(["small", "large"])).notes
    assert "not in all results: sums; a difference is of what both have" in notes
    assert (
        "not asked in the same way (chat, num_fewshot): capitals, endings, passages; compare with care"
        in notes
    )
