"""A model with a new name in the crowd file: what was paid for under the old one is not paid again."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from crowdselect.ask.calls import Reply
from crowdselect.ask.endpoints import load_endpoints
from crowdselect.ask.ledger import Ledger
from crowdselect.ask.renamed import find_renamed
from crowdselect.collect.job import Task, collect, plan
from crowdselect.collect.seal import read_pool_manifest


class Asked:
    """A client that counts; its answers say who was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, endpoint):
        outer = self

        class Client:
            async def ask(self, request):
                outer.calls.append(endpoint.name)
                return Reply(f"{endpoint.name} says {len(request.prompt)}", "stop", None, 10, 20)

            async def close(self):
                pass

        return Client()


def crowd(folder: Path, names: Iterable[str], *, extra: str = "", **settings: object) -> None:
    lines = [
        "[defaults]",
        'base_url = "http://127.0.0.1:9/v1"',
        "max_tokens = 9",
        "price_in = 1",
        "price_out = 1",
    ]
    for name in names:
        lines += ["[[model]]", f"name = {json.dumps(name)}", 'model = "default"']
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    (folder / "crowd.toml").write_text("\n".join(lines) + "\n" + extra)


@pytest.fixture
def task(tmp_path) -> Task:
    rows = [{"id": f"i{n}", "instruction": f"Say {n}."} for n in range(5)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Task(str(tmp_path / "asked.jsonl"), str(tmp_path / "crowd.toml"), str(tmp_path / "pool.parquet"))


def folder(task: Task) -> Path:
    return Path(task.crowd).parent


def rows(task: Task) -> dict[tuple[str, str], str]:
    import pyarrow.parquet as pq

    found = pq.ParquetFile(task.output).read().to_pylist()
    return {(row["id"], row["model"]): row["response"] for row in found}


def test_a_renamed_model_is_asked_nothing_again(task):
    asked = Asked()
    crowd(folder(task), ["old", "other"], temperature=0.5)
    collect(task, clients=asked)
    before = rows(task)
    assert asked.calls.count("old") == 5
    crowd(folder(task), ["new", "other"], temperature=0.5)
    said = (
        "'new' takes over 5 answers of 'old', which sent the same requests and is no longer in the crowd file"
    )

    planned, notes = plan(task)
    assert (planned["new"].calls, planned["new"].done, planned["new"].renamed) == (0, 5, notes[0])
    assert planned["other"].renamed is None
    assert notes[0].startswith(said)
    with Ledger(task.ledger_path) as ledger:
        assert set(ledger.spent()) == {"old", "other"}  # a plan writes nothing

    told: list[str] = []
    report = collect(task, clients=asked, tell=told.append)
    assert len(asked.calls) == 10
    assert told[0].startswith(said)
    assert report.notes[0] == told[0]
    assert rows(task) == {(id_, {"old": "new"}.get(name, name)): text for (id_, name), text in before.items()}
    manifest = read_pool_manifest(Path(task.output))
    assert manifest["spent"]["new"]["attempts"] == 5
    assert manifest["models"]["new"]["cost"] == pytest.approx(5 * 30 / 1e6)

    assert collect(task, clients=asked).notes == []  # said once
    crowd(
        folder(task), ["newest", "other"], temperature=0.5
    )  # and once more: there is still one name to take from
    collect(task, clients=asked)
    crowd(folder(task), ["old", "other"], temperature=0.5)
    assert len(asked.calls) == 10
    collect(task, clients=asked)
    assert rows(task) == before


def test_sealing_alone_takes_over_too(task):
    crowd(folder(task), ["old"])
    collect(task, clients=Asked())
    crowd(folder(task), ["new"])
    report = collect(task, seal_only=True)
    assert report.tallies["new"].rows == 5


def test_all_settings_of_a_name_and_what_failed_go_with_it(task):
    asked = Asked()
    crowd(folder(task), ["old"], temperature=0.1)
    collect(task, clients=asked)
    crowd(folder(task), ["old"], temperature=0.2)
    collect(task, clients=asked)
    crowd(folder(task), ["new"], temperature=0.2)
    collect(task, clients=asked)
    crowd(folder(task), ["new"], temperature=0.1)
    collect(task, clients=asked)
    assert asked.calls == ["old"] * 10


@pytest.mark.extra
@pytest.mark.parametrize(
    "change", [{"temperature": 0.7}, {"system": "Be brief."}, {"max_tokens": 8}, {"seed": 1}]
)
def test_other_requests_are_another_model(task, change):
    asked = Asked()
    crowd(folder(task), ["old"])
    collect(task, clients=asked)
    crowd(folder(task), ["new"], **change)
    planned, notes = plan(task)
    assert (planned["new"].calls, notes) == (5, [])
    assert collect(task, clients=asked).notes == []
    assert asked.calls == ["old"] * 5 + ["new"] * 5


@pytest.mark.extra
def test_with_two_such_names_nothing_is_taken_and_both_are_named(task):
    asked = Asked()
    crowd(folder(task), ["one", "two"])
    collect(task, clients=asked)
    crowd(folder(task), ["new"])
    words = "'new' takes over no answers: 'one' and 'two' sent the same requests"
    planned, notes = plan(task)
    assert planned["new"].calls == 5
    assert notes[0].startswith(words)
    told: list[str] = []
    collect(task, clients=asked, tell=told.append)
    assert told[0].startswith(words)
    assert asked.calls.count("new") == 5
    assert {text.split()[0] for text in rows(task).values()} == {"new"}


def test_two_new_names_do_not_share_the_answers_of_one(task):
    asked = Asked()
    crowd(folder(task), ["old"])
    collect(task, clients=asked)
    crowd(folder(task), ["one", "two"])
    report = collect(task, clients=asked)
    assert [line.split(":")[0] for line in report.notes] == [
        "'one' takes over no answers of 'old'",
        "'two' takes over no answers of 'old'",
    ]
    assert sorted(set(asked.calls)) == ["old", "one", "two"]


@pytest.mark.parametrize("there", ["model", "judge"])
def test_who_is_still_in_the_crowd_file_shares_nothing(task, there):
    """Two servers may both call their model `default`."""
    asked = Asked()
    crowd(folder(task), ["old"])
    collect(task, clients=asked)
    if there == "model":
        crowd(folder(task), ["old", "new"])
    else:
        crowd(folder(task), ["new"], extra='[[judge]]\nname = "old"\n')
    report = collect(task, clients=asked)
    assert report.notes == []
    assert asked.calls == ["old"] * 5 + ["new"] * 5
    assert {text.split()[0] for (_, name), text in rows(task).items() if name == "new"} == {"new"}


def test_who_has_something_in_the_ledger_keeps_it(task):
    asked = Asked()
    crowd(folder(task), ["old", "new"])
    collect(task, clients=asked)
    crowd(folder(task), ["new"])
    assert collect(task, clients=asked).notes == []
    assert len(asked.calls) == 10
    assert all(text.startswith("new") for text in rows(task).values())


def test_what_was_in_flight_is_asked_under_the_new_name(task):
    from crowdselect.ask.ledger import Answer
    from crowdselect.collect.instructions import open_instructions

    crowd(folder(task), ["old"])
    asked = Asked()
    collect(task, clients=asked)
    (old,) = load_endpoints(task.crowd).models
    with open_instructions(task.instructions) as instructions, Ledger(task.ledger_path) as ledger:
        first = next(iter(instructions.requests(1)))
        ledger.put(Answer(first.key(old), "old", old.digest, first.digest, 0, "pending"))
    crowd(folder(task), ["new"])
    collect(task, clients=asked)
    assert asked.calls == ["old"] * 5 + ["new"]


def test_an_empty_ledger_has_nobody_to_take_from(task, tmp_path):
    crowd(folder(task), ["new"])
    found = load_endpoints(task.crowd)
    assert find_renamed(None, found.models, present=found.names).notes == {}
    with Ledger(tmp_path / "new.ledger") as ledger:
        assert find_renamed(ledger, found.models, present=found.names).taken == {}


STORED = Path(__file__).parent / "stored" / "ledgers-0.1.0"


@pytest.mark.parametrize("names", [{}, {"m-1b": "small-1b"}, {"m-1b": "small-1b", "m-7b": "large-7b"}])
def test_a_ledger_of_0_1_0_pays_for_nothing_again_whatever_the_models_are_called(tmp_path, names):
    (tmp_path / "pool.parquet.ledger").write_bytes((STORED / "collect.ledger").read_bytes())
    text = (STORED / "crowd.toml").read_text(encoding="utf-8")
    lines = text.splitlines()
    for at, line in enumerate(lines):
        for old, new in names.items():
            if line == f'name = "{old}"':
                lines[at] = f'name = "{new}"'
                if not any(one.startswith("model = ") for one in lines[at + 1 : at + 3]):
                    lines[at] += f'\nmodel = "{old}"'  # the name that is sent
    (tmp_path / "crowd.toml").write_text("\n".join(lines) + "\n")
    task = Task(
        str(STORED / "instructions.jsonl"), str(tmp_path / "crowd.toml"), str(tmp_path / "pool.parquet")
    )
    asked = Asked()
    planned, _ = plan(task)
    assert {name: made.calls for name, made in planned.items()} == {
        names.get(name, name): 0 for name in ("m-1b", "m-7b")
    }
    report = collect(task, clients=asked)
    assert asked.calls == []
    assert [line.split()[0] for line in report.notes if "takes over" in line] == [
        repr(new) for new in names.values()
    ]
    found = {model for _, model in rows(task)}
    assert found == {names.get(name, name) for name in ("m-1b", "m-7b")}
