"""Builds and runs a TRL trainer: one per objective, with the loss on the answer alone."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from crowdselect._optional import optional
from crowdselect.errors import OptionError
from crowdselect.progress import Stages
from crowdselect.reward.loading import one_line
from crowdselect.train.diary import diary
from crowdselect.train.planning import Prepared, TrainPlan, lora_config
from crowdselect.train.rows import TrainRow
from crowdselect.train.student import EXTRA, load_student
from crowdselect.train.workplace import LOG, Workplace

_CLASSES = {  # objective → module, trainer, configuration
    "sft": ("trl", "SFTTrainer", "SFTConfig"),
    "dpo": ("trl", "DPOTrainer", "DPOConfig"),
    "simpo": ("trl.experimental.cpo", "CPOTrainer", "CPOConfig"),
    "orpo": ("trl.experimental.orpo", "ORPOTrainer", "ORPOConfig"),
}
_OWN = {  # set by us: TRL's name → our option
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "accumulation",
    "lr_scheduler_type": "scheduler",
    "logging_steps": "log_steps",
    "simpo_gamma": "gamma",
    "bf16": "dtype",
    "fp16": "dtype",
    "use_cpu": "device",
    "output_dir": "output",
    "resume_from_checkpoint": "output",
    "save_total_limit": "keep_checkpoints",
}
_REFUSED = ("hub_", "push_to_hub", "trackio_")  # would upload the model, or hold a secret


@dataclass(frozen=True, slots=True)
class Training:
    """A finished run."""

    trainer: Any
    seconds: float
    """Seconds of this run, without earlier ones that it resumed."""
    steps: int
    """Steps of this run."""
    peak: int | None
    """Peak GPU memory in bytes; None without a GPU."""


def run_training(prepared: Prepared, place: Workplace, stages: Stages, *, keep: bool) -> Training:
    """Train, from the last checkpoint if there is one.

    Args:
        prepared: From `prepare`.
        place: Where checkpoints and the log go.
        stages: Times the stages and may show them.
        keep: Keep all checkpoints, not only the last.

    Raises:
        OptionError: The trainer does not have a setting, or refuses it; or the GPU's memory is full.
    """
    torch, transformers = (optional(name, extra=EXTRA) for name in ("torch", "transformers"))
    plan = prepared.plan
    checkpoint = place.checkpoint(processes=plan.processes)
    done = place.step(processes=plan.processes)
    with stages("loading the model"):
        trainer = build_trainer(prepared, place.folder, keep=keep, fresh=checkpoint is None)
    with stages("training") as progress:
        trainer.add_callback(diary(place.folder / LOG, progress))
        start = time.perf_counter()
        try:
            if (
                checkpoint is not None and done >= plan.steps
            ):  # only writing is left; `train` would do one more step
                trainer.state = transformers.TrainerState.load_from_json(
                    str(checkpoint / "trainer_state.json")
                )
                trainer._load_from_checkpoint(str(checkpoint))  # noqa: SLF001  (what `train` does before its first step)
            else:
                trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        except torch.OutOfMemoryError as error:
            raise OptionError(
                f"the GPU's memory is full ({' '.join(str(error).split())[:120]}); try `lora=True`, a smaller `max_length` or "
                "`batch_size=1` with more `accumulation`; the plan says what needs how much"
            ) from error
    return Training(
        trainer=trainer,
        seconds=time.perf_counter() - start,
        steps=trainer.state.global_step - done,
        peak=int(torch.cuda.max_memory_allocated()) if plan.device == "cuda" else None,
    )


def build_trainer(prepared: Prepared, folder: Path, *, keep: bool, fresh: bool) -> Any:  # noqa: ANN401  (of TRL)
    """Load the weights and create the trainer.

    Args:
        prepared: From `prepare`.
        folder: Where checkpoints go.
        keep: Keep all checkpoints, not only the last.
        fresh: Nothing was trained yet, so the held-out rows are evaluated once before.

    Returns:
        The trainer.

    Raises:
        OptionError: The trainer does not have a setting, or refuses it.
    """
    plan, settings = prepared.plan, prepared.plan.settings
    kind, config = _classes(str(settings.objective))
    wanted = arguments(plan, folder, keep=keep, fresh=fresh)
    _check_more(settings.options(), wanted, {one.name for one in fields(config)}, config.__name__)
    try:
        args = config(**wanted, **settings.options())
    except (TypeError, ValueError) as error:
        raise OptionError(f"TRL refuses the settings: {one_line(error)}") from error
    model = load_student(prepared.student, settings)
    trainer = kind(
        model=model,
        args=args,
        train_dataset=_dataset(prepared.train, plan),
        eval_dataset=_dataset(prepared.held_out, plan) if prepared.held_out else None,
        processing_class=prepared.student.tokenizer,
        peft_config=lora_config(settings) if settings.lora else None,
    )
    printer = optional("transformers", extra=EXTRA).PrinterCallback
    trainer.remove_callback(printer)  # we show progress and losses
    return trainer


def records(rows: Sequence[TrainRow], plan: TrainPlan) -> list[dict[str, Any]]:
    """Convert rows for TRL: prompt and completion separately, so that the loss is on the completion alone."""
    if plan.settings.objective == "sft":
        return [{"prompt": row.prompt, "completion": _assistant(row.answer)} | _tools(row) for row in rows]
    return [
        {"prompt": row.prompt, "chosen": _assistant(row.answer), "rejected": _assistant(row.rejected or "")}
        | _tools(row)
        for row in rows
    ]


def _tools(row: TrainRow) -> dict[str, str]:
    return {} if row.tools is None else {"tools": row.tools}


def _dataset(rows: Sequence[TrainRow], plan: TrainPlan) -> Any:  # noqa: ANN401  (of datasets)
    """Make a data set. Calls of tools have no common type: their messages go as JSON, or Arrow would add what others have."""
    datasets = optional("datasets", extra=EXTRA)
    found = records(rows, plan)
    if not any(row.tool_names for row in rows):
        return datasets.Dataset.from_list(found)
    kinds = {name: datasets.Json() for name in found[0]} | {"tools": datasets.Value("string")}
    return datasets.Dataset.from_list(
        [{"tools": None} | each for each in found], features=datasets.Features(kinds)
    )


def arguments(plan: TrainPlan, folder: Path, *, keep: bool, fresh: bool) -> dict[str, Any]:
    """Return the arguments of the trainer's configuration that we set; see `build_trainer`."""
    settings = plan.settings
    given = {
        "output_dir": str(folder),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "lr_scheduler_type": settings.scheduler,
        "warmup_steps": plan.warmup,
        "weight_decay": settings.weight_decay,
        "max_length": plan.limit,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "bf16": plan.dtype == "bfloat16",
        "fp16": False,
        "use_cpu": plan.device == "cpu",
        "dataloader_pin_memory": plan.device != "cpu",
        "seed": settings.seed,
        "logging_strategy": "steps",
        "logging_steps": settings.log_steps,
        "eval_strategy": "steps" if plan.held_out else "no",
        "eval_steps": plan.eval_steps,
        "eval_on_start": fresh and plan.held_out > 0,
        "save_strategy": "steps" if plan.save_steps else "epoch",
        "save_total_limit": None if keep else 1,
        "disable_tqdm": True,
    }
    if plan.save_steps:
        given["save_steps"] = plan.save_steps
    if "report_to" not in settings.options():
        given["report_to"] = "none"  # nothing leaves this machine by default
    return given | _of_objective(plan)


def _of_objective(plan: TrainPlan) -> dict[str, Any]:
    settings = plan.settings
    if settings.objective == "sft":
        return {"completion_only_loss": True}
    if settings.objective == "simpo":  # pure SimPO: no supervised term on the chosen answer
        return {
            "loss_type": "simpo",
            "cpo_alpha": 0.0,
            "beta": settings.beta,
            "simpo_gamma": settings.gamma,
            "remove_unused_columns": False,
        }
    return {"beta": settings.beta} | (
        {"remove_unused_columns": False} if settings.objective == "orpo" else {}
    )


def _classes(objective: str) -> tuple[Any, Any]:
    module, trainer, config = _CLASSES[objective]
    if module != "trl":  # mentioned in our docs; TRL would warn on every run
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    optional("trl", extra=EXTRA)
    found = optional(module, extra=EXTRA)
    return getattr(found, trainer), getattr(found, config)


def _check_more(more: dict[str, Any], ours: dict[str, Any], known: set[str], config: str) -> None:
    for name in more:
        if name.startswith(_REFUSED):
            raise OptionError(
                f"`set` {name}: models are not sent anywhere from here; publish the folder when it is done"
            )
        if name in ours or name in _OWN:
            option = _OWN.get(name, name)
            raise OptionError(
                f"`set` {name}: this is set by crowdselect itself; use `{option}` where there is such an option"
            )
        if name not in known:
            raise OptionError(f"`set` {name}: TRL's {config} has no such setting; see its documentation")


def _assistant(answer: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": answer}]
