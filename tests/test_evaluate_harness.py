"""`evaluate harness`: lm-evaluation-harness on tasks of a folder, with tiny models and a server of this machine."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crowdselect.errors import OptionError
from crowdselect.evaluate.harness import HarnessOptions
from crowdselect.evaluate.outcome import load_result
from tiny_models import build_model

DAYS = ("one", "two", "three")
COMMON = """
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
doc_to_text: "{{question}}"
"""
CHOOSE = """
task: local_choose
output_type: multiple_choice
doc_to_choice: "{{choices}}"
doc_to_target: "{{label}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
WRITE = """
task: local_write
output_type: generate_until
doc_to_target: "{{choices[label]}}"
generation_kwargs: {max_gen_toks: 8, do_sample: false, until: ["\\n"]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")


@pytest.fixture
def tasks(tmp_path):
    pytest.importorskip("lm_eval")
    folder = tmp_path / "tasks"
    folder.mkdir()
    file = folder / "days.jsonl"
    rows = [{"question": f"How many days, {n}?", "choices": DAYS, "label": n % 3} for n in range(6)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("choose", CHOOSE), ("write", WRITE)):
        (folder / f"{name}.yaml").write_text(text + COMMON.replace("FILE", str(file)))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    pytest.importorskip("lm_eval")
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("oak", "ash")):
        build_model(folder / name, seed=seed)
    return folder


def results(folder):
    (file,) = Path(folder, "samples").glob("results_*.json")
    return json.loads(file.read_text())["results"]


@pytest.mark.extra
def test_scores_are_those_of_the_harness_and_compare_pairs_documents(run, tasks, models):
    line = ("--tasks", "local_choose,local_write", "--include-path", tasks)
    for name in ("oak", "ash"):
        made = run("evaluate", "harness", models / name, *line, "-o", f"h-{name}")
        assert made.code == 0, made
        found = json.loads(Path(f"h-{name}/result.json").read_text())
        truth = results(f"h-{name}")
        assert found["categories"]["local_choose"]["score"] == pytest.approx(
            truth["local_choose"]["acc,none"]
        )
        assert found["categories"]["local_write"]["score"] == pytest.approx(
            truth["local_write"]["exact_match,none"]
        )
        assert found["questions_scored"] == 12
        assert len(list(Path(f"h-{name}/samples").glob("samples_*.jsonl"))) == 2
    assert "up to date: h-oak" in run("evaluate", "harness", models / "oak", *line, "-o", "h-oak").out
    run("evaluate", "harness", models / "oak", "--tasks", "local_choose", "-o", "h-oak").refuses(
        "--overwrite"
    )
    compared = json.loads(run("evaluate", "compare", "h-oak", "h-ash", "--json").out)
    (difference,) = compared["differences"]
    means = [float(load_result(f"h-{name}").cells.sums.mean()) for name in ("oak", "ash")]
    assert difference["difference"] == pytest.approx(means[0] - means[1])
    assert difference["questions"] == 12
    assert not any("compare with care" in note for note in compared["notes"])


@pytest.mark.extra
def test_settings_of_the_harness_are_passed_on_and_its_errors_are_one_line(run, tasks, models):
    line = ("--include-path", tasks, "-o", "out")
    made = run("evaluate", "harness", models / "oak", "--tasks", "local_choose", *line, "--set", "limit=2")
    assert made.code == 0, made
    assert json.loads(Path("out/result.json").read_text())["questions_scored"] == 2
    run("evaluate", "harness", models / "oak", "--tasks", "no_such_task", "-o", "none").refuses(
        "no_such_task"
    )
    assert not Path("none").exists()


@pytest.mark.extra
@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")
def test_adapters_are_put_on_their_base(run, tasks, models):
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(models / "oak", dtype=torch.float32)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    peft.get_peft_model(base, config).save_pretrained("adapter")
    for file in models.joinpath("oak").glob("*token*"):
        shutil.copy(file, "adapter")
    made = run(
        "evaluate", "harness", "adapter", "--tasks", "local_choose", "--include-path", tasks, "-o", "out"
    )
    assert made.code == 0, made
    (file,) = Path("out/samples").glob("results_*.json")
    assert json.loads(file.read_text())["config"]["model_args"]["peft"] == "adapter"


class Says(BaseHTTPRequestHandler):
    """A chat server that always says the same."""

    asked: list[str] = []  # noqa: RUF012  (emptied by the test)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body["messages"][-1]["content"])
        reply = {
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "two"}, "finish_reason": "stop"}
            ]
        }
        content = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.extra
def test_an_endpoint_writes_and_compares_no_likelihoods(run, tasks):
    pytest.importorskip("tenacity")
    Says.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Says) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        Path("crowd.toml").write_text(f'[[model]]\nname = "far"\nbase_url = "{url}"\nmax_tokens = 8\n')
        line = ("--include-path", tasks, "-o", "out")
        run("evaluate", "harness", "crowd.toml#far", "--tasks", "local_choose,local_write", *line).refuses(
            "local_choose compares likelihoods, and an endpoint says nothing of how likely a text is"
        )
        assert Says.asked == []
        made = run("evaluate", "harness", "crowd.toml#far", "--tasks", "local_write", *line)
        server.shutdown()
    assert made.code == 0, made
    assert sorted(Says.asked) == [f"How many days, {n}?" for n in range(6)]
    found = json.loads(Path("out/result.json").read_text())
    assert (found["model"], found["score"]) == ("far", pytest.approx(1 / 3))  # two of six are "two"


def test_options_of_the_harness():
    assert HarnessOptions(student="m", tasks=("a,b", "c"), output="o").tasks == ("a", "b", "c")
    with pytest.raises(OptionError, match="say what to measure by"):
        HarnessOptions(student="m", tasks=(" ",), output="o")
    with pytest.raises(OptionError, match="`set` tasks is decided by other options"):
        HarnessOptions(student="m", tasks=("a",), output="o", set=("tasks=b",))
    with pytest.raises(OptionError, match="not of the form NAME=VALUE"):
        HarnessOptions(student="m", tasks=("a",), output="o", set=("limit",))
    assert HarnessOptions(student="m", tasks=("a",), output="o", set=("limit=2",)).settings() == {"limit": 2}


@pytest.mark.extra
def test_a_plan_counts_documents_and_requests_without_a_model(run, tasks):
    line = ("--tasks", "local_choose,local_write", "--include-path", tasks, "--dry-run")
    made = run("evaluate", "harness", "org/model", *line, "--set", "limit=4", "--json")
    assert made.code == 0, made
    found = json.loads(made.out)
    assert [(one["task"], one["documents"], one["requests"]) for one in found["tasks"]] == [
        ("local_choose", 4, 12),
        ("local_write", 4, 4),
    ]
    assert found["downloads"] == ["org/model"]
    (tasks / "far.yaml").write_text(
        CHOOSE.replace("local_choose", "far")
        + COMMON.replace("path: json", "path: org/far").replace(
            "dataset_kwargs: {data_files: {test: FILE}}", ""
        )
    )
    made = run("evaluate", "harness", "org/model", "--tasks", "far", "--include-path", tasks, "--dry-run")
    assert made.code == 0, made
    assert "downloaded first: org/model, org/far" in made.out
    run("evaluate", "harness", "org/model", "--tasks", "none", "--dry-run").refuses("none")
    run("evaluate", "harness", "org/model", "--tasks", "a", "--include-path", "gone", "--dry-run").refuses(
        "gone: no such folder; wanted one with tasks (.yaml)"
    )
    run("evaluate", "harness", "org/model", "--tasks", "a").refuses(
        "say where to write with --output, or add --dry-run"
    )
