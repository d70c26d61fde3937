"""One run of `evaluate harness`: lm-evaluation-harness in a process of its own, its samples kept and scored by document."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crowdselect._optional import check_optional
from crowdselect.ask.endpoints import Endpoint, key, load_endpoints
from crowdselect.errors import CrowdselectError, InputError, OptionError
from crowdselect.evaluate.documents import read_documents
from crowdselect.evaluate.measured import local_model
from crowdselect.evaluate.result import Measured, measured, model_name, read_measured, write_measured
from crowdselect.evaluate.setup import is_named
from crowdselect.hubaccess import ask_for
from crowdselect.modelfolders import is_here
from crowdselect.progress import Stages
from crowdselect.repeats import is_current, made_by
from crowdselect.train.settings import TrainSettings
from crowdselect.writing import check_output, new_folder

EXTRA = "harness"
_SAMPLES = "samples"
_LOOK = """
import json, sys
import datasets
from lm_eval.evaluator_utils import get_sample_size
from lm_eval.tasks import TaskManager

names, folder, settings = json.loads(sys.argv[1])
load, absent = datasets.load_dataset, []

def recorded(path, *args, **options):
    try:
        return load(path, *args, **options)
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        if isinstance(error, ConnectionError) or not options.get("data_files"):
            absent.append(path)
        raise

datasets.load_dataset = recorded
manager = TaskManager(include_path=folder)
found = []
for name in [one for name in names for one in manager.match_tasks([name]) or [name]]:
    absent.clear()
    try:
        tasks = manager.load([name])["tasks"]
    except Exception:  # whatever the loader makes of a data set that is not here; anything else is raised again
        if not absent:
            raise
        found.append({"task": name, "data": absent[0], "asks": None, "documents": None, "requests": None})
        continue
    for own, task in tasks.items():
        limit = get_sample_size(task, settings.get("limit"))
        task.build_all_requests(limit=limit, samples=(settings.get("samples") or {}).get(own))
        asked = task.instances
        documents, requests = len({one.doc_id for one in asked}), sum(one.repeats for one in asked)
        found.append(
            {"task": own, "data": None, "asks": task.OUTPUT_TYPE, "documents": documents, "requests": requests}
        )
print(json.dumps(found))
"""
"""What the tasks are, in the harness's own words; a task whose data is not here names it instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessOptions:
    """What the harness measures.

    Attributes:
        student: The model: a folder with a model or adapters, a name on the Hub, or `crowd.toml#NAME`.
        tasks: Names of the harness's tasks or groups.
        output: The folder of the result; None is enough for a plan.
        include_path: A folder with tasks of one's own.
        chat: Write prompts with the model's chat template; an endpoint does so by itself.
        name: What the model is called in the result; None = its own name.
        set: Further settings of `lm_eval run`, each `NAME=VALUE`.
        seed: Seed of the resampling of the interval.
        overwrite: Replace another result.
    """

    student: str
    tasks: tuple[str, ...]
    output: str | None = None
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


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """One task that would be run.

    Attributes:
        task: Its name; of a group that cannot be looked into, the group's.
        data: The data set that is downloaded first; None = it is here.
        asks: `generate_until`: it asks a model to write; else it compares likelihoods. None = not known.
        documents: Number of documents; None = not known before the data is here.
        requests: Number of texts that the model reads or answers; None likewise.
    """

    task: str
    data: str | None
    asks: str | None
    documents: int | None
    requests: int | None


@dataclass(frozen=True, slots=True)
class HarnessPlan:
    """What would be run, and the models and data sets that are downloaded first."""

    model: str
    tasks: tuple[PlannedTask, ...]
    downloads: tuple[str, ...]
    unasked: str | None = None
    """Why it is not known whether the Hub has a model that is not here; None = it has it."""


def plan_harness(options: HarnessOptions) -> HarnessPlan:
    """Look at the tasks without a model; nothing is downloaded. The Hub is asked whether it has a model that is not here.

    Raises:
        InputError: The model cannot be used, or the Hub does not have it.
        OptionError: A task compares likelihoods, which an endpoint does not give.
        CrowdselectError: The harness refuses a task; the message is its own.
        MissingExtraError: The extra `harness` is not installed.
    """
    endpoint, model = _model(options)
    weights = None if endpoint is not None else _of_model(model)["model_args"]["pretrained"]
    absent = [] if weights is None or is_here(weights) else [weights]
    unasked = ask_for(absent[0], extra=EXTRA) if absent else None
    tasks = _look(options, endpoint, offline=True)
    absent += [task.data for task in tasks if task.data is not None]
    return HarnessPlan(
        options.name or model_name(options.student), tasks, tuple(dict.fromkeys(absent)), unasked
    )


def _look(options: HarnessOptions, endpoint: Endpoint | None, *, offline: bool) -> tuple[PlannedTask, ...]:
    """Ask the harness what the tasks are, and refuse those that an endpoint cannot do."""
    asked = json.dumps([list(options.tasks), options.include_path, options.settings()])
    switches = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"), "1") if offline else {}
    ran = subprocess.run(  # noqa: S603  (our own command; no shell)
        [sys.executable, "-c", _LOOK, asked],
        capture_output=True,
        text=True,
        env={**os.environ, **switches},
        check=False,
    )
    if ran.returncode:
        raise CrowdselectError(f"lm-evaluation-harness: {_cause(ran.stderr)}")
    tasks = tuple(PlannedTask(**one) for one in json.loads(ran.stdout.strip().splitlines()[-1]))
    compared = sorted(one.task for one in tasks if one.asks not in {"generate_until", None})
    if endpoint is not None and compared:
        verb = "compares" if len(compared) == 1 else "compare"
        raise OptionError(
            f"`tasks`: {', '.join(compared)} {verb} likelihoods, and an endpoint says nothing of how likely a text is; "
            "leave out what does, or name a model on this machine"
        )
    return tasks


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
    if options.output is None:
        raise OptionError("say where to write with `output`, or add `dry_run=True`")
    endpoint, model = _model(options)
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
            _look(options, endpoint, offline=False)
    with new_folder(folder, overwrite=options.overwrite) as partial:
        with stages("running the harness"):
            _run(options, endpoint, model, partial)
        result = _result(options, partial / _SAMPLES)
        write_measured(partial, result, made=made, conditions={})
    return Measured(folder, result)


def _model(options: HarnessOptions) -> tuple[Endpoint | None, str]:
    """Find the endpoint, or the model on this machine, before anything is loaded."""
    check_optional("lm_eval", extra=EXTRA)
    if options.include_path is not None and not Path(options.include_path).is_dir():
        raise InputError(f"{options.include_path}: no such folder; wanted one with tasks (.yaml)")
    endpoint = _endpoint(options.student)
    return endpoint, options.student if endpoint is not None else local_model(options.student)


def _endpoint(text: str) -> Endpoint | None:
    """Find the endpoint that is named; None if it is a model on this machine."""
    if not is_named(text) or Path(text).is_dir():
        return None
    file, _, name = text.rpartition("#")
    found = next((one for one in load_endpoints(file).answering if one.name == name), None)
    return None if found is None or found.local is not None else found


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


def _result(options: HarnessOptions, samples: Path) -> dict[str, Any]:
    """Score every document by its task's first metric."""
    found = read_documents(samples)
    if found is None:
        raise InputError(f"{options.output}: the harness logged no document")
    result = measured(
        "harness",
        options.name or model_name(options.student),
        found.cells,
        parts=found.parts,
        reasons=found.reasons,
        seed=options.seed,
    )
    return {**result, "tasks": found.tasks_as_dict()}
