"""One training run: plan, train or resume, write the model with its card.

Names from outside are untrusted: on the card they are escaped.
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
"""Files written for every model; further ones depend on the model."""
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
    """Whether the same run had finished before, and the folder was left unchanged."""

    def facts(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        kept = ("losses", "plan", "seconds", "tokens_per_second", "peak_memory", "warnings")
        return {
            "written": str(self.folder),
            "was_there": self.was_there,
            **{n: self.manifest[n] for n in kept},
        }

    def lines(self) -> dict[str, str]:
        """Return the main results for people, by name."""
        m, losses = self.manifest, self.manifest["losses"]
        held = ("before", losses["eval_loss_before"]), ("after", losses["eval_loss"])
        held_out = ", ".join(f"{value:.4f} {when}" for when, value in held if value is not None)
        peak = (
            f", at most {m['peak_memory'] / (1 << 30):.1f} GiB of the GPU's memory"
            if m["peak_memory"]
            else ""
        )
        shown = {
            "loss": f"{losses['mean_loss']:.4f} on average, {losses['last_loss']:.4f} over the last tenth of the steps"
        }
        if held_out:
            shown["held out"] = f"loss {held_out}"
        rate = f", {m['tokens_per_second']:,.0f} tokens a second" if m["tokens_per_second"] else ""
        return shown | {"time": f"{m['seconds']:.0f} s{rate}{peak}"}


def plan(
    data: str | os.PathLike[str],
    *,
    base: str,
    settings: TrainSettings | None = None,
    output: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    skip_invalid: bool = False,
    progress: Progress | None = None,
) -> TrainPlan:
    """Plan a run, and refuse what it would refuse; only configuration and tokenizer are loaded.

    Args:
        data: As for `train`.
        base: As for `train`.
        settings: As for `train`.
        output: As for `train`; None = the output is not checked.
        overwrite: As for `train`.
        skip_invalid: As for `train`.
        progress: Called with the number of rows tokenized.

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
    settings = settings or TrainSettings()
    gathered = gather(os.fspath(data), base=base, settings=settings, skip_invalid=skip_invalid)
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
    skip_invalid: bool = False,
    announce: Callable[[TrainPlan], None] | None = None,
    stages: Stages | None = None,
) -> Trained:
    """Fine-tune a model on chosen rows; resume if the same run was stopped.

    For when two runs are the same, see `workplace.differences`.

    Args:
        data: A folder that `select` wrote, or a training file in one of its formats.
        output: The folder to write: weights (or adapters), tokenizer, `train_log.jsonl`, `loss.png`, `README.md`,
            the selection's manifest as `selection.json`, and `manifest.json`, which is written last. A folder with
            the result of the same run is left unchanged.
        base: The model to start from: its name on the hub, or a folder.
        settings: Settings of the run; None = the defaults.
        overwrite: Train even if there is a result. Its files are replaced once the new ones are complete, other
            files in the folder stay; the checkpoints of another unfinished run are removed.
        keep_checkpoints: Keep every checkpoint, in OUTPUT.training, after the run.
        skip_invalid: Leave malformed rows of `data` out, counted, instead of stopping at them.
        announce: Called with the plan before anything is loaded.
        stages: Times the stages and may show them.

    Returns:
        The finished training.

    Raises:
        InputError: The data or the base model cannot be trained on.
        OptionError: A setting does not fit them; or they need more memory than there is; or the output has another
            run, finished or not: the message says how it differs.
        OutputError: The output cannot be written or is refused.
        MissingExtraError: The extra `train` is not installed.

    Example:
        >>> from crowdselect.train import TrainSettings, train
        >>> TrainSettings(lora=True, eval_share=0.05).lora_rank
        16
    """
    stages = stages or Stages()
    _target(output, [Path(data)], overwrite=overwrite)  # checked before the libraries are loaded
    settings = settings or TrainSettings()
    gathered = gather(os.fspath(data), base=base, settings=settings, skip_invalid=skip_invalid)
    key, target = _key(gathered), _target(output, _inputs(gathered), overwrite=overwrite)
    if _is_finished(target, key, overwrite=overwrite):
        return _read(target, was_there=True)
    place = workplace(target)
    with quiet():
        with stages("reading the rows as tokens") as progress:
            prepared = prepare(gathered, progress=progress)
        lock = occupy(place, key, overwrite=overwrite) if is_main() else nullcontext()
        with lock:
            _wait()  # the launcher's other processes start once the folder is locked
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
    """Return whether this process prints and writes; launchers start one process per GPU."""
    return os.environ.get("RANK", "0") == "0"


def _key(gathered: TrainInputs) -> dict[str, Any]:
    """Return what identifies a run: data, base model, settings, number of processes."""
    student, settings = gathered.student, gathered.settings.facts()
    folder = Path(student.name)
    content = student.revision
    if folder.is_dir():
        content = fingerprint(
            sorted(file for file in folder.iterdir() if file.suffix in {".json", ".safetensors", ".jinja"})
        )
    for name in ("device", "chat_template"):  # the template's text counts, not its file
        settings.pop(name)
    return {
        "data": {"fingerprint": gathered.source.fingerprint()},
        "base": {
            "name": folder.name if folder.is_dir() else student.name,
            "content": content,
            "template": student.tokenizer.chat_template,
            "dtype": student.dtype,
        },
        "settings": settings,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def _target(output: str | os.PathLike[str], inputs: Sequence[Path], *, overwrite: bool) -> Path:
    """Refuse an output that cannot be written; a trained model there is checked once the run's key is known."""
    known = (read_manifest(Path(output)) or {}).get("kind") == _KIND
    return check_output(output, inputs=inputs, overwrite=overwrite or known, folder=True, writes=_WRITES)


def _is_finished(target: Path, key: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Return whether a folder has the result of this run, and is not to be overwritten.

    Raises:
        OptionError: It has the result of another run.
    """
    manifest = read_manifest(target)
    if overwrite or manifest is None:
        return False
    changed = differences(manifest.get("key", {}), key)
    if changed:
        raise OptionError(
            f"{target}: holds a model that was trained otherwise: {changed[0]}; choose another place, or replace it with "
            "`overwrite=True`"
        )
    return True


def _inputs(gathered: TrainInputs) -> list[Path]:
    base = Path(gathered.student.name)
    return [gathered.source.file, *([base] if base.is_dir() else [])]


def _wait() -> None:
    """Wait for the launcher's other processes."""
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
    """Write the folder: model, tokenizer, losses, the selection's manifest, the card, and last the manifest.

    Args:
        prepared: The plan and its rows.
        place: The unfinished run's folder; its log is rewritten from the full history.
        target: The folder to write.
        key: Identifies the run.
        run: The finished training.
        overwrite: Replace the files of an earlier result once the new ones are complete.
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
        for file in folder.rglob("*"):  # weights are written readable by the owner only
            file.chmod((folder if file.is_dir() else folder / "README.md").stat().st_mode)
        write_manifest(folder, manifest)


def _save_model(prepared: Prepared, trainer: Any, folder: Path) -> None:  # noqa: ANN401  (of TRL)
    """Save weights in the base model's own number format, or adapters; and the tokenizer."""
    torch = optional("torch", extra=EXTRA)
    settings = prepared.plan.settings
    model = trainer.accelerator.unwrap_model(trainer.model)
    generation = model.generation_config
    if settings.lora:
        for config in model.peft_config.values():  # a set, which peft would write in another order each time
            config.target_modules = sorted(config.target_modules)
    if settings.merge:
        model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        model = model.merge_and_unload()
    if not settings.lora or settings.merge:
        own = str(getattr(prepared.student.config, "dtype", None) or "float32").removeprefix("torch.")
        model.to(getattr(torch, own))
    model.save_pretrained(folder)
    generation.save_pretrained(folder)  # also beside adapters: it has the end-of-answer tokens
    prepared.student.tokenizer.save_pretrained(folder)


def _manifest(
    prepared: Prepared, key: Mapping[str, Any], run: Training, *, losses: Mapping[str, Any]
) -> dict[str, Any]:
    plan, source = prepared.plan, prepared.source
    share_done = run.steps / plan.steps if plan.steps else 0.0
    return {
        "tool": TOOL,
        "kind": _KIND,
        "version": __version__,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "key": key,
        "data": {
            "file": str(source.file),
            "rows": len(source.rows),
            "malformed": source.malformed,
            "fingerprint": key["data"]["fingerprint"],
        },
        "plan": plan.facts(),
        "losses": dict(losses),
        "seconds": round(run.seconds, 3),
        "tokens_per_second": round(plan.tokens * share_done / run.seconds, 1) if run.steps else None,
        "peak_memory": run.peak,
        "warnings": list(plan.warnings),
    }


def _read(target: Path, *, was_there: bool) -> Trained:
    """Read a finished folder."""
    return Trained(target, read_log(target / LOG), read_manifest(target) or {}, was_there=was_there)


def model_card(plan: TrainPlan, manifest: Mapping[str, Any], selection: Mapping[str, Any] | None) -> str:
    """Write a model card.

    Args:
        plan: The plan of the run.
        manifest: The training's manifest.
        selection: The selection's manifest; None if the rows came from a bare file.

    Returns:
        Markdown with YAML front matter. Absolute paths are reduced to their last part.
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
    values = {
        "rows to train on": plan.rows,
        "rows held out": plan.held_out,
        "rows cut at the limit": plan.cut,
        "rows left out": plan.dropped,
        "tokens in all epochs": plan.tokens,
        "fingerprint": manifest["data"]["fingerprint"],
    }
    if selection is None:
        return values | {"file": Path(plan.data).name}
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
    return values | {name: value for name, value in chosen.items() if value is not None}


def _name(place: str) -> str:
    """Return a hub's name unchanged, and the last part of a folder's path."""
    return Path(place).name if Path(place).is_absolute() else place


def _table(title: str, values: Mapping[str, Any]) -> list[str]:
    return card_table(title, {name.replace("_", " "): _plain(value) for name, value in values.items()})


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
