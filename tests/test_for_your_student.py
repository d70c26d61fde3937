"""docs/for-your-student.md: its six commands, its crowd file and its recipe, run as they stand there against a local server."""

import hashlib
import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow.parquet as pq
import pytest

from crowdselect import load_selection
from crowdselect.reward.scoring import PAIRS

pytestmark = pytest.mark.extra
PAGE = (Path(__file__).parent.parent / "docs" / "for-your-student.md").read_text(encoding="utf-8")
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
N = 120
STUDENT = "qwen2.5-0.5b"
SKILLS = {
    "Qwen/Qwen2.5-7B-Instruct": 0.9,
    "llama3.2:3b": 0.75,
    "gpt-4o-mini": 0.95,
    "Qwen/Qwen2.5-0.5B-Instruct": 0.5,
}
"""The model that a server is asked for → how often it is right."""


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def share(*parts: str) -> float:
    """A number from 0 to 1 that looks random."""
    return int(hashlib.sha256(" ".join(parts).encode()).hexdigest()[:8], 16) / 2**32


def total(prompt: str) -> int | None:
    asked = re.search(r"What is (\d+) plus (\d+)\?", prompt)
    return None if asked is None else int(asked[1]) + int(asked[2])


def answered(model: str, prompt: str) -> str:
    """A model's answer: the harder the question, the more often it is wrong."""
    right = share(model, prompt) < SKILLS[model] - (share(prompt) - 0.5) / 2
    return f"It is {total(prompt) + (0 if right else 1)}."


def judged(prompt: str) -> str:
    """A judge that can add, and knows the good answers of the self-test."""
    answer = re.search(r"<answer-\w+>\n(.*?)\n</answer", prompt, re.DOTALL)[1]
    good = answer == f"It is {total(prompt)}." or answer in {good for _, good, _ in PAIRS}
    return f"Score: {10 if good else 1}"


class Handler(BaseHTTPRequestHandler):
    """All models and the judge, behind one address."""

    protocol_version = "HTTP/1.1"
    asked: Counter[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        self.asked[body["model"]] += 1
        said = judged(prompt) if body["model"] == "gpt-4o" else answered(body["model"], prompt)
        reply = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
        }
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[tuple[str, Counter[str]]]:
    """All servers of the page as one; give its base_url, and what was asked for."""
    asked: Counter[str] = Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Counting", (Handler,), {"asked": asked}))
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


def write_inputs(folder: Path, base_url: str) -> None:
    rows = [{"id": f"q{n}", "instruction": f"What is {n} plus {n * 7 % 50}?"} for n in range(N)]
    (folder / "instructions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    crowd, _ = blocks("toml")
    assert "[[student]]" in crowd
    (folder / "crowd.toml").write_text(re.sub(r'base_url = "[^"]*"', f'base_url = "{base_url}"', crowd))


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    for name in ("openai", "altair", "vl_convert", "budoux"):
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "a key that is long enough")


def test_the_six_commands_lead_to_a_choice_for_the_student(tmp_path, run):
    commands = re.findall(r"^\$ crowdselect (.*)$", "".join(blocks("console")), re.MULTILINE)
    commands = commands[
        : next(i for i, words in enumerate(commands) if "fits" in words)
    ]  # which needs a model
    assert len(commands) == 6
    with serving() as (base_url, asked):
        write_inputs(tmp_path, base_url)
        said = {}
        for command in commands:
            ran = run(*shlex.split(command))
            assert ran.code == 0, (command, ran)
            said[command.split()[0]] = ran.out
            if command.endswith("--dry-run"):
                assert not asked
        assert {asked[model] for model in SKILLS} == {N}
    assert f"{STUDENT} (judge" in said["inspect"]
    assert "What the crowd can and the student cannot" in said["select"]
    check_choice(tmp_path / "chosen")
    assert "The student" in (tmp_path / "chosen" / "report.html").read_text(encoding="utf-8")
    assert run("why", "chosen", "q1").code == 0


def check_choice(folder: Path) -> None:
    """A tenth of the rows, which the student gets wrong and someone of the crowd right, with the crowd's answers."""
    selection = load_selection(folder)
    assert len(selection.chosen) == N // 10
    assert selection.facts["student"]["name"] == STUDENT
    assert not any("ease stands for it" in line for line in selection.warnings)
    good = {
        (row["id"], row["model"]): row["judge"] > selection.facts["good"]["above"]
        for row in pq.read_table("rewards.parquet").to_pylist()
    }
    for row in selection.rows():
        assert row["model"] != STUDENT
        assert good[row["id"], row["model"]]
        assert not good[row["id"], STUDENT]


def test_the_readmes_five_lines_lead_to_an_adapter(tmp_path, run):
    """As they stand there, but for the model: a tiny one in the place of a gigabyte."""
    for name in ("torch", "transformers", "trl", "peft", "accelerate", "datasets"):
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    from tiny_models import build_model

    section = README.partition("## From instructions to a trained adapter")[2].partition("\n## ")[0]
    commands = re.findall(r"^crowdselect (.*)$", section, re.MULTILINE)
    assert len(commands) == 5
    assert run("init", ".").code == 0
    assert "[[student]]" in (tmp_path / "crowd.toml").read_text()
    tiny = str(build_model(tmp_path / "tiny", seed=7))
    with serving() as (base_url, asked):
        write_inputs(tmp_path, base_url)
        for command in commands:
            words = shlex.split(re.sub(r" +# .*", "", command))
            base = words.index("--base") + 1 if "--base" in words else None
            if base is not None:
                words[base] = tiny
            ran = run(*words)
            assert ran.code == 0, (command, ran)
        assert {asked[model] for model in SKILLS} == {N}
    check_choice(tmp_path / "chosen")
    assert (tmp_path / "student" / "adapter_model.safetensors").is_file() or (
        tmp_path / "student" / "adapter" / "adapter_model.safetensors"
    ).is_file()


def test_the_recipe_is_one_that_runs(tmp_path, run):
    for name in ("torch", "transformers", "trl", "peft", "accelerate", "datasets"):
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    with serving() as (base_url, asked):
        write_inputs(tmp_path, base_url)
        _, recipe = blocks("toml")
        (tmp_path / "recipe.toml").write_text(recipe)
        ran = run("run", "recipe.toml", "--dry-run")
        assert ran.code == 0, ran
        assert "is the student" not in ran.err
        (tmp_path / "recipe.toml").write_text(recipe.replace('method = "teachable"', 'method = "reward"'))
        ran = run("run", "recipe.toml", "--dry-run")
        assert ran.code == 0, ran
        assert f"the student '{STUDENT}' of crowd.toml" in ran.err
        assert not asked


def test_what_each_step_gets_and_costs_is_shown_before_anything_is_sent(tmp_path, run, monkeypatch):
    """The plan of `run` itself: the table is printed while no server has been asked for anything."""
    from crowdselect.recipe import running as steps

    def counted_first(graph, store, **options):
        asked_before.append(sum(asked.values()))
        return run_steps(graph, store, **options)

    run_steps, asked_before = steps.run_steps, []
    monkeypatch.setattr(steps, "run_steps", counted_first)
    with serving() as (base_url, asked):
        write_inputs(tmp_path, base_url)
        prices = "[defaults]\nprice_in = 1.0\nprice_out = 2.0\n"
        crowd = (tmp_path / "crowd.toml").read_text()
        (tmp_path / "crowd.toml").write_text(crowd.replace("[defaults]\n", prices))
        (tmp_path / "recipe.toml").write_text(blocks("toml")[1].partition("[train]")[0])
        first = run("run", "recipe.toml")
        assert (first.code, asked_before) == (0, [0]), first
        assert re.search(
            rf"collect +to do +{4 * N} requests +at most [\d.]+ \([\d,]+ tokens sent, ", first.out
        )
        assert re.search(rf"reward +waiting +at most {4 * N} answers to score\n", first.out)
        assert "Steps (cost in the currency of the prices)" in first.out
        assert "stops at" not in first.out
        assert "a cost is unknown" not in first.out
        assert "not counted: reward (known after collect)" in " ".join(first.out.split())
        assert re.search(r"teachable +waiting +10% of the rows\n", first.out)
        shutil.rmtree(next(tmp_path.glob("recipe/steps/reward-*")))
        (tmp_path / "recipe" / "ledgers" / "reward.ledger").unlink()
        again = run("run", "recipe.toml", "--dry-run")
        assert re.search(r"collect +done\n", again.out)
        assert re.search(
            r"reward +to do +judge: (\d+) answers to score +\1 requests to .* at most", again.out
        )
