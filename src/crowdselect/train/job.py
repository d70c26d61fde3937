"""The whole way of a training run: what is there, plan, train, go on after a stop, write the model and its page.

Names from outside are data: on the page they are escaped.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crowdselect import __version__
from crowdselect._optional import optional
from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.pool.files import fingerprint
from crowdselect.progress import Progress, Stages
from crowdselect.selection.folder import card_table, code
from crowdselect.train.diary import Entry, losses, read_log, write_curve, write_log
from crowdselect.train.planning import Prepared, TrainInputs, TrainPlan, gather, prepare
from crowdselect.train.settings import TrainSettings
from crowdselect.train.student import EXTRA, quiet
from crowdselect.train.trainers import Training, run_training
from crowdselect.train.workplace import LOG, Workplace, check_unfinished, differences, occupy, workplace
from crowdselect.writing import MANIFEST, TOOL, check_output, new_folder, read_manifest, write_manifest

_PACKAGES = ("accelerate", "peft", "torch", "transformers", "trl")
_KIND = "training"
_WRITES = (LOG, "loss.png", "README.md", "config.json", "tokenizer.json", MANIFEST)
"""What is written whatever the model; more depends on it."""
_METHODS = {
    "sft": "supervised fine-tuning, loss on the answer alone",
    "dpo": "direct preference optimisation (DPO)",
    "simpo": "simple preference optimisation (SimPO)",
    "orpo": "odds ratio preference optimisation (ORPO)",
}


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training."""

    folder: Path
    log: list[Entry]
    """Losses, in the order of their steps."""
    manifest: Mapping[str, Any]
    was_there: bool
    """It had been made before, by the same run, and was left as it is."""

    def facts(self) -> dict[str, Any]:
        """Give what came out, JSON-ready."""
        kept = ("losses", "plan", "seconds", "tokens_per_second", "peak_memory", "warnings")
        return {
            "written": str(self.folder),
            "was_there": self.was_there,
            **{n: self.manifest[n] for n in kept},
        }

    def lines(self) -> dict[str, str]:
        """Give what a person wants to see first, by name."""
        m, losses = self.manifest, self.manifest["losses"]
        held = ("before", losses["eval_loss_before"]), ("after", losses["eval_loss"])
        said = ", ".join(f"{value:.4f} {when}" for when, value in held if value is not None)
        peak = (
            f", at most {m['peak_memory'] / (1 << 30):.1f} GiB of the GPU's memory"
            if m["peak_memory"]
            else ""
        )
        found = {
            "loss": f"{losses['mean_loss']:.4f} on average, {losses['last_loss']:.4f} over the last tenth of the steps"
        }
        if said:
            found["held out"] = f"loss {said}"
        rate = f", {m['tokens_per_second']:,.0f} tokens a second" if m["tokens_per_second"] else ""
        return found | {"time": f"{m['seconds']:.0f} s{rate}{peak}"}


def plan(
    data: str | os.PathLike[str],
    *,
    base: str,
    settings: TrainSettings | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> TrainPlan:
    """Say what a run would do, and refuse what it would refuse; only configuration and tokenizer are loaded.

    Args:
        data: As for `train`.
        base: As for `train`.
        settings: As for `train`.
        output: As for `train`; None = nothing is said about the place.
        overwrite: As for `train`.
        progress: Told how many rows have been read as tokens.

    Returns:
        The plan; its steps are exactly those of `train`, its memory an estimate.

    Raises:
        CrowdselectError: As `train`.

    Example:
        >>> from crowdselect.train import plan
        >>> plan.__name__
        'plan'
    """
    if output is not None:
        _target(output, [Path(data)], overwrite=overwrite)
    gathered = gather(os.fspath(data), base=base, settings=settings or TrainSettings())
    if output is not None:
        key, target = _key(gathered), _target(output, _inputs(gathered), overwrite=overwrite)
        if not _is_finished(target, key, overwrite=overwrite) and not overwrite:
            check_unfinished(workplace(target), key)
    with quiet():
        return prepare(gathered, progress=progress).plan


def train(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    base: str,
    settings: TrainSettings | None = None,
    overwrite: bool = False,
    keep_checkpoints: bool = False,
    announce: Callable[[TrainPlan], None] | None = None,
    stages: Stages | None = None,
) -> Trained:
    """Fine-tune a model on chosen rows; go on where the same run was stopped.

    What makes two runs the same: see `workplace.differences`.

    Args:
        data: A folder that `select` wrote, or a training file in one of its formats.
        output: The folder to write: weights (or adapters), tokenizer, `train_log.jsonl`, `loss.png`, `README.md`,
            the selection's manifest as `selection.json`, and `manifest.json`, which is written last. One that holds
            the result of the same run is left as it is.
        base: The model to start from: its name on the hub, or a folder.
        settings: Of the run; None = the defaults.
        overwrite: Train all the same. The files of a former result are replaced once the new one is complete, all
            else in the folder stays; another run that was stopped is given up.
        keep_checkpoints: Keep every checkpoint, in OUTPUT.training, when all is done.
        announce: Given the plan before anything is loaded.
        stages: Times the stages and may draw them.

    Returns:
        What came out.

    Raises:
        InputError: The data or the base model cannot be trained on.
        OptionError: A setting does not fit them; or they need more memory than there is; or the place holds another
            run, finished or not: the message says in what it differs.
        OutputError: The place is refused.
        MissingExtraError: The extra `train` is not installed.

    Example:
        >>> from crowdselect.train import TrainSettings, train
        >>> TrainSettings(lora=True, eval_share=0.05).lora_rank
        16
    """
    stages = stages or Stages()
    _target(output, [Path(data)], overwrite=overwrite)  # said before the libraries are loaded
    gathered = gather(os.fspath(data), base=base, settings=settings or TrainSettings())
    key, target = _key(gathered), _target(output, _inputs(gathered), overwrite=overwrite)
    if _is_finished(target, key, overwrite=overwrite):
        return _read(target, was_there=True)
    place = workplace(target)
    with quiet():
        with stages("reading the rows as tokens") as progress:
            prepared = prepare(gathered, progress=progress)
        lock = occupy(place, key, overwrite=overwrite) if is_main() else nullcontext()
        with lock:
            _wait()  # the other processes of a launcher begin when the place is taken
            if announce is not None and is_main():
                announce(prepared.plan)
            try:
                run = run_training(prepared, place, stages, keep=keep_checkpoints)
            except CrowdselectError:
                if is_main():
                    place.leave(processes=prepared.plan.processes)
                raise
            if is_main():
                _write(prepared, place, target, key, run, overwrite=overwrite)
            _wait()
    if not is_main():
        return Trained(target, [], {}, was_there=False)
    if not keep_checkpoints:
        place.remove()
    return _read(target, was_there=False)


def is_main() -> bool:
    """Say whether this is the process that speaks and writes; launchers of several start one per GPU."""
    return os.environ.get("RANK", "0") == "0"


def _key(gathered: TrainInputs) -> dict[str, Any]:
    """Say what makes two runs the same one: data, base, settings."""
    student, settings = gathered.student, gathered.settings.facts()
    folder = Path(student.name)
    of_base = student.revision
    if folder.is_dir():
        of_base = fingerprint(
            sorted(file for file in folder.iterdir() if file.suffix in {".json", ".safetensors", ".jinja"})
        )
    for name in ("device", "chat_template"):  # the template's text counts, not its file
        settings.pop(name)
    return {
        "data": {"fingerprint": gathered.source.fingerprint()},
        "base": {
            "name": folder.name if folder.is_dir() else student.name,
            "content": of_base,
            "template": student.tokenizer.chat_template,
            "dtype": student.dtype,
        },
        "settings": settings,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def _target(output: str | os.PathLike[str], inputs: Sequence[Path], *, overwrite: bool) -> Path:
    """Refuse a place that cannot be written; one with a trained model is looked at when the run is known."""
    known = (read_manifest(Path(output)) or {}).get("kind") == _KIND
    return check_output(output, inputs=inputs, overwrite=overwrite or known, folder=True, writes=_WRITES)


def _is_finished(target: Path, key: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether a folder holds the result of this run, and it is to stay.

    Raises:
        OptionError: It holds that of another run.
    """
    manifest = read_manifest(target)
    if overwrite or manifest is None:
        return False
    other = differences(manifest.get("key", {}), key)
    if other:
        raise OptionError(
            f"{target}: holds a model that was trained otherwise: {other[0]}; choose another place, or replace it with "
            "`overwrite=True`"
        )
    return True


def _inputs(gathered: TrainInputs) -> list[Path]:
    base = Path(gathered.student.name)
    return [gathered.source.file, *([base] if base.is_dir() else [])]


def _wait() -> None:
    """Wait for the other processes of a launcher."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        optional("accelerate", extra=EXTRA).PartialState().wait_for_everyone()


def _write(
    prepared: Prepared,
    place: Workplace,
    target: Path,
    key: Mapping[str, Any],
    run: Training,
    *,
    overwrite: bool,
) -> None:
    """Write the folder: model, tokenizer, losses, the selection's manifest, the page, and last the manifest.

    Args:
        prepared: What was trained on.
        place: Of the unfinished run; its log is written anew, whole.
        target: The folder.
        key: What makes the run the same as another.
        run: What it left.
        overwrite: Replace the files of a former result once the new one is complete.
    """
    plan, selection = prepared.plan, prepared.source.manifest
    history = run.trainer.state.log_history
    write_log(place.folder / LOG, history)
    log = read_log(place.folder / LOG)
    manifest = _manifest(prepared, key, run, losses=losses(log))
    with new_folder(target, overwrite=overwrite) as folder:
        _save_model(prepared, run.trainer, folder)
        write_log(folder / LOG, history)
        write_curve(log, folder / "loss.png", title=f"{plan.settings.objective}, {plan.rows} rows")
        if selection is not None:
            (folder / "selection.json").write_text(json.dumps(selection, indent=2) + "\n", encoding="ascii")
        (folder / "README.md").write_text(model_card(plan, manifest, selection), encoding="utf-8")
        for file in folder.rglob("*"):  # weights are written for the owner's eyes only
            file.chmod((folder if file.is_dir() else folder / "README.md").stat().st_mode)
        write_manifest(folder, manifest)


def _save_model(prepared: Prepared, trainer: Any, folder: Path) -> None:  # noqa: ANN401  (of TRL)
    """Save weights in the base model's own number format, or adapters; and the tokenizer."""
    torch = optional("torch", extra=EXTRA)
    settings = prepared.plan.settings
    model = trainer.accelerator.unwrap_model(trainer.model)
    generation = model.generation_config
    if settings.merge:
        model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        model = model.merge_and_unload()
    if not settings.lora or settings.merge:
        own = str(getattr(prepared.student.config, "dtype", None) or "float32").removeprefix("torch.")
        model.to(getattr(torch, own))
    model.save_pretrained(folder)
    generation.save_pretrained(folder)  # beside adapters, too: it says where an answer ends
    prepared.student.tokenizer.save_pretrained(folder)


def _manifest(
    prepared: Prepared, key: Mapping[str, Any], run: Training, *, losses: Mapping[str, Any]
) -> dict[str, Any]:
    plan, source = prepared.plan, prepared.source
    made = run.steps / plan.steps if plan.steps else 0.0
    return {
        "tool": TOOL,
        "kind": _KIND,
        "version": __version__,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "key": key,
        "data": {
            "file": str(source.file),
            "rows": len(source.rows),
            "fingerprint": key["data"]["fingerprint"],
        },
        "plan": plan.facts(),
        "losses": dict(losses),
        "seconds": round(run.seconds, 3),
        "tokens_per_second": round(plan.tokens * made / run.seconds, 1) if run.steps else None,
        "peak_memory": run.peak,
        "warnings": list(plan.warnings),
    }


def _read(target: Path, *, was_there: bool) -> Trained:
    """Read a finished folder."""
    return Trained(target, read_log(target / LOG), read_manifest(target) or {}, was_there=was_there)


def model_card(plan: TrainPlan, manifest: Mapping[str, Any], selection: Mapping[str, Any] | None) -> str:
    """Write the card of a model.

    Args:
        plan: What was done.
        manifest: Of the training.
        selection: The selection's manifest; None where the rows came from a bare file.

    Returns:
        Markdown with YAML in front. Paths stand without the folders of the machine that it was made on.
    """
    settings = plan.settings
    adapters = settings.lora and not settings.merge
    head: dict[str, Any] = {
        "base_model": _name(plan.model),
        "library_name": "peft" if adapters else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["crowdselect", "trl", str(settings.objective), *(["lora"] if settings.lora else [])],
    }
    losses = {
        name.replace("_", " "): value for name, value in manifest["losses"].items() if value is not None
    }
    return "\n".join(
        [
            "---",
            *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
            "---",
            "",
            f"# {code(_name(plan.model))} fine-tuned on {plan.rows} chosen rows",
            "",
            _how(plan, manifest),
            "",
            "![Losses](loss.png)",
            "",
            *_table("Losses", losses),
            *_table("Data", _data(plan, manifest, selection)),
            *_table("Settings", {n: v for n, v in settings.facts().items() if v not in (None, [], False)}),
            *_table("Versions", manifest["versions"]),
            *(
                []
                if not plan.warnings
                else ["## Warnings", "", *(f"- {code(line)}" for line in plan.warnings), ""]
            ),
            "## Licence",
            "",
            "That of the base model, and those of the instructions and answers it was trained on.",
            "",
        ]
    )


def _how(plan: TrainPlan, manifest: Mapping[str, Any]) -> str:
    settings = plan.settings
    rows = settings.batch_size * settings.accumulation * plan.processes
    return (
        f"Made with crowdselect {manifest['version']} and TRL {manifest['versions']['trl']}: "
        f"{_METHODS[str(settings.objective)]}, {_what(plan)}, {plan.steps} steps of {rows} rows. {_use(plan)}"
    )


def _what(plan: TrainPlan) -> str:
    if not plan.settings.lora:
        return "all weights"
    rank = f"LoRA of rank {plan.settings.lora_rank}"
    return f"{rank}, added to the weights" if plan.settings.merge else rank


def _use(plan: TrainPlan) -> str:
    ends = f"An answer ends with {code(plan.stop)}. " if plan.stop else ""
    files = "`train_log.jsonl` has the losses, `manifest.json` everything about the training"
    return f"{ends}{files}."


def _data(
    plan: TrainPlan, manifest: Mapping[str, Any], selection: Mapping[str, Any] | None
) -> dict[str, Any]:
    found = {
        "rows to train on": plan.rows,
        "rows held out": plan.held_out,
        "rows cut at the limit": plan.cut,
        "rows left out": plan.dropped,
        "tokens in all epochs": plan.tokens,
        "fingerprint": manifest["data"]["fingerprint"],
    }
    if selection is None:
        return found | {"file": Path(plan.data).name}
    facts, options = selection.get("facts", {}), selection.get("options", {})
    chosen = {
        "chosen with crowdselect": selection.get("version"),
        "by": options.get("method"),
        "weights": options.get("weights"),
        "budget": options.get("budget"),
        "answers": options.get("answer"),
        "seed of the choice": options.get("seed"),
        "pool": _name(str(facts["pool"])) if facts.get("pool") else None,
        "pool's fingerprint": facts.get("fingerprint"),
        "reward": facts.get("reward"),
        "all about the choice": "selection.json",
    }
    return found | {name: value for name, value in chosen.items() if value is not None}


def _name(place: str) -> str:
    """Give a hub's name as it is, of a folder its last part."""
    return Path(place).name if Path(place).is_absolute() else place


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    return card_table(title, {name.replace("_", " "): _plain(value) for name, value in values.items()})


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
