"""One run of `evaluate harness`: lm-evaluation-harness in a process of its own, its samples kept and scored by document."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect import __version__
from crowdselect._optional import check_optional
from crowdselect.ask.endpoints import Endpoint, key, load_endpoints
from crowdselect.errors import CrowdselectError, InputError, OptionError
from crowdselect.evaluate.measured import Measured, local_model, read_measured
from crowdselect.evaluate.measures import HARNESS
from crowdselect.evaluate.outcome import scored
from crowdselect.evaluate.scores import LEVEL, ROUNDS, Cells
from crowdselect.evaluate.setup import is_named
from crowdselect.pool.files import fingerprint
from crowdselect.pool.lmeval import Log, logs_in, rows_in
from crowdselect.pool.rowfiles import Broken, rows_of
from crowdselect.progress import Stages
from crowdselect.repeats import is_current, made_by
from crowdselect.train.settings import TrainSettings
from crowdselect.writing import TOOL, check_output, new_folder, write_manifest

EXTRA = "harness"
_SAMPLES, _RESULT = "samples", "result.json"
_TYPES = """
import json, sys
from lm_eval.tasks import TaskManager, get_task_dict

def types(found):
    for name, task in found.items():
        if isinstance(task, dict):
            yield from types(task)
        else:
            yield str(name), task.OUTPUT_TYPE

names, folder = json.loads(sys.argv[1])
print(json.dumps(dict(types(get_task_dict(names, TaskManager(include_path=folder))))))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessOptions:
    """What the harness measures.

    Attributes:
        student: The model: a folder with a model or adapters, a name on the Hub, or `crowd.toml#NAME`.
        tasks: Names of the harness's tasks or groups.
        output: The folder of the result.
        include_path: A folder with tasks of one's own.
        chat: Write prompts with the model's chat template; an endpoint does so by itself.
        name: What the model is called in the result; None = its own name.
        set: Further settings of `lm_eval run`, each `NAME=VALUE`.
        seed: Seed of the resampling of the interval.
        overwrite: Replace another result.
    """

    student: str
    tasks: tuple[str, ...]
    output: str
    include_path: str | None = None
    chat: bool = False
    name: str | None = None
    set: tuple[str, ...] = ()
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        named = tuple(part for text in self.tasks for part in text.replace(",", " ").split())
        if not named:
            raise OptionError("say what to measure by: `tasks`, names of lm-evaluation-harness's tasks")
        object.__setattr__(self, "tasks", named)
        taken = _OURS & set(self.settings())
        if taken:
            raise OptionError(f"`set` {min(taken)} is decided by other options; leave it out")
        if self.seed < 0:
            raise OptionError(f"`seed` is {self.seed}; wanted at least 0")

    def settings(self) -> dict[str, Any]:
        """Parse `set`."""
        return TrainSettings(set=self.set).options()


_OURS = {"model", "model_args", "tasks", "include_path", "output_path", "log_samples", "apply_chat_template"}


def run_harness(options: HarnessOptions, *, stages: Stages | None = None) -> Measured:
    """Run tasks of lm-evaluation-harness and write the result.

    Args:
        options: What is measured.
        stages: Times the stages and may show them.

    Returns:
        The result; a folder that holds the same already is left as it is.

    Raises:
        InputError: The model cannot be used.
        OptionError: An option makes no sense, or a task compares likelihoods, which an endpoint does not give.
        OutputError: The place is refused, or holds another result.
        CrowdselectError: The harness failed; the message is its own.
        MissingExtraError: The extra `harness` is not installed.
    """
    stages = stages or Stages()
    check_optional("lm_eval", extra=EXTRA)
    endpoint = _endpoint(options.student)
    model = options.student if endpoint is not None else local_model(options.student)
    inputs = {
        "student": model if endpoint is None and Path(model).is_dir() else None,
        "include_path": options.include_path,
    }
    told = {
        "student": None if inputs["student"] else model,
        "endpoint": None if endpoint is None else json.loads(endpoint.settings()),
        "lm_eval": version("lm_eval"),
        **{name: getattr(options, name) for name in ("tasks", "chat", "name", "set", "seed")},
    }
    made = made_by("evaluate harness", told, inputs)
    if is_current(Path(options.output), made, overwrite=options.overwrite):
        return read_measured(Path(options.output))
    files = [Path(place) for place in inputs.values() if place is not None]
    folder = check_output(options.output, inputs=files, overwrite=options.overwrite, folder=True)
    if endpoint is not None:
        with stages("looking at the tasks"):
            _check_types(options)
    with new_folder(folder, overwrite=options.overwrite) as partial:
        with stages("running the harness"):
            _run(options, endpoint, model, partial)
        result, conditions = _result(options, partial / _SAMPLES)
        _write(partial, result, made=made, conditions=conditions)
    return Measured(folder, result)


def _endpoint(text: str) -> Endpoint | None:
    """Find the endpoint that is named; None if it is a model on this machine."""
    if not is_named(text) or Path(text).is_dir():
        return None
    file, _, name = text.rpartition("#")
    found = next((one for one in load_endpoints(file).answering if one.name == name), None)
    return None if found is None or found.local is not None else found


def _check_types(options: HarnessOptions) -> None:
    """Refuse tasks that an endpoint cannot do, before anything is sent."""
    asked = json.dumps([list(options.tasks), options.include_path])
    types = json.loads(_lines_of([sys.executable, "-c", _TYPES, asked])[-1])
    compared = sorted(name for name, kind in types.items() if kind != "generate_until")
    if compared:
        raise OptionError(
            f"`tasks`: {', '.join(compared)} compares likelihoods, and an endpoint says nothing of how likely a text is; "
            "leave it out, or name a model on this machine"
        )


def _lines_of(command: Sequence[str]) -> list[str]:
    """Run a command of ours that prints; an error of its is in one line."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  (our own command; no shell)
    if ran.returncode:
        raise CrowdselectError(f"lm-evaluation-harness: {_cause(ran.stderr)}")
    return ran.stdout.strip().splitlines()


def _run(options: HarnessOptions, endpoint: Endpoint | None, model: str, partial: Path) -> None:
    """Run the harness in a process of its own; what it prints goes to log.txt."""
    config = {
        "batch_size": 8 if endpoint is None else 1,
        **options.settings(),
        **(_of_endpoint(endpoint) if endpoint is not None else _of_model(model)),
        "tasks": list(options.tasks),
        "output_path": str(partial / _SAMPLES / "results.json"),
        "log_samples": True,
        "apply_chat_template": options.chat or endpoint is not None,
        **({} if options.include_path is None else {"include_path": options.include_path}),
    }
    (partial / "config.yaml").write_text(json.dumps(config, indent=2), encoding="utf-8")  # JSON is YAML, too
    environment = dict(os.environ)
    if endpoint is not None:
        environment["OPENAI_API_KEY"] = key(endpoint) or "none"
    with (partial / "log.txt").open("w", encoding="utf-8") as log:
        ran = subprocess.run(  # noqa: S603  (our own command; no shell)
            [sys.executable, "-m", "lm_eval", "run", "--config", str(partial / "config.yaml")],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    if ran.returncode:
        raise CrowdselectError(
            f"lm-evaluation-harness: {_cause((partial / 'log.txt').read_text(encoding='utf-8', errors='replace'))}"
        )
    (partial / "config.yaml").unlink()  # its paths are of this run


def _cause(log: str) -> str:
    """Find the line of a log that says why it ended: the last with an error, else the last."""
    lines = [line.strip() for line in log.replace("\r", "\n").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "ERROR" in line]
    return " ".join((errors or lines or ["it ended and says nothing"])[-1].split())[:300]


def _of_model(model: str) -> dict[str, Any]:
    """How the harness loads a model; adapters are put on their base."""
    adapter = Path(model) / "adapter_config.json"
    if not adapter.is_file():
        return {"model": "hf", "model_args": {"pretrained": model}}
    base = json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"]
    return {"model": "hf", "model_args": {"pretrained": base, "peft": model, "tokenizer": model}}


def _of_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    arguments = {
        "model": endpoint.model,
        "base_url": f"{str(endpoint.base_url).rstrip('/')}/chat/completions",
        "num_concurrent": endpoint.max_concurrency,
        "tokenized_requests": False,
        "tokenizer_backend": None,
    }
    return {"model": "local-chat-completions", "model_args": arguments}


def _result(options: HarnessOptions, samples: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Score every document by its first metric, by task; and what results have to share to be compared."""
    scores: dict[tuple[str, str], float | None] = {}
    for log in logs_in(samples):
        scores |= _scores(log)
    if not scores:
        raise InputError(f"{options.output}: the harness logged no document")
    ids = sorted(scores)
    values = np.array([np.nan if scores[at] is None else scores[at] for at in ids], dtype=np.float64)
    missing = np.isnan(values)
    cells = Cells(
        tuple(id_ for id_, _ in ids),
        tuple(task for _, task in ids),
        np.where(missing, 0.0, values)[:, None],
        (~missing).astype(np.float64)[:, None],
    )
    reasons = {"its first metric is of all documents together": int(missing.sum())} if missing.any() else {}
    facts = json.loads(next(samples.glob("results_*.json")).read_text(encoding="utf-8"))
    documents = json.dumps(facts.get("task_hashes") or {}, sort_keys=True)
    result = {
        "benchmark": "harness",
        "model": options.name or options.student.rpartition("#")[2].rstrip("/").rpartition("/")[2],
        "judge": None,
        "baseline": None,
        **scored(cells, HARNESS.scale, options.seed),
        "unit": HARNESS.unit,
        "resampling": {"of": "documents", "rounds": ROUNDS, "level": LEVEL, "seed": options.seed},
        "categories": {
            task: scored(
                cells.only(np.array([own == task for own in cells.categories])), HARNESS.scale, options.seed
            )
            for task in sorted(set(cells.categories))
        },
        "rows": {"wanted": len(ids), "missing": int(missing.sum()), "reasons": reasons, "cut": 0},
        "notes": [],
        "questions": [
            {"id": id_, "category": task, "sums": sums, "weights": weights}
            for id_, task, sums, weights in zip(
                cells.ids, cells.categories, cells.sums.tolist(), cells.weights.tolist(), strict=True
            )
        ],
    }
    return result, {
        "documents": hashlib.sha256(documents.encode()).hexdigest(),
        "settings": " ".join(sorted(options.set)),
    }


def _scores(log: Log) -> dict[tuple[str, str], float | None]:
    """Give each document's first metric, by (id, task); a task with several filters counts as several."""
    filters = list(
        dict.fromkeys(row.get("filter") for _, row in rows_of(log.file, "json") if isinstance(row, dict))
    )
    found: dict[tuple[str, str], float | None] = {}
    for chosen in filters:
        task = log.task if len(filters) == 1 else f"{log.task} ({chosen})"
        for _, row in rows_in(log, chosen=chosen, path=str(log.file)):
            if not isinstance(row, Broken) and row["sample"] == 0:
                number = row["id"].rpartition(":")[2]
                found[f"{task}:{number}", task] = row["score"]
    return found


def _write(
    partial: Path, result: Mapping[str, Any], *, made: Mapping[str, Any], conditions: Mapping[str, Any]
) -> None:
    text = json.dumps(result, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    (partial / _RESULT).write_text(text, encoding="utf-8")
    write_manifest(
        partial,
        {
            "tool": TOOL,
            "kind": "evaluation",
            "version": __version__,
            "python": platform.python_version(),
            **{name: result[name] for name in ("benchmark", "model", "judge", "baseline")},
            "prompts": None,
            "inputs": {},
            "conditions": conditions,
            "missing": result["rows"]["missing"],
            "made": made,
            "fingerprint": fingerprint([partial / _RESULT]),
        },
    )
