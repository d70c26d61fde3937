"""The page about a fine-tuned model, in the hub's form. Names from outside are data: they are escaped."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crowdselect.selection.folder import code
from crowdselect.train.planning import Plan

_METHODS = {
    "sft": "supervised fine-tuning, loss on the answer alone",
    "dpo": "direct preference optimisation (DPO)",
    "simpo": "simple preference optimisation (SimPO)",
    "orpo": "odds ratio preference optimisation (ORPO)",
}


def model_card(plan: Plan, manifest: Mapping[str, Any], selection: Mapping[str, Any] | None) -> str:
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


def _how(plan: Plan, manifest: Mapping[str, Any]) -> str:
    settings = plan.settings
    rows = settings.batch_size * settings.accumulation * plan.processes
    return (
        f"Made with crowdselect {manifest['version']} and TRL {manifest['versions']['trl']}: "
        f"{_METHODS[str(settings.objective)]}, {_what(plan)}, {plan.steps} steps of {rows} rows. {_use(plan)}"
    )


def _what(plan: Plan) -> str:
    if not plan.settings.lora:
        return "all weights"
    rank = f"LoRA of rank {plan.settings.lora_rank}"
    return f"{rank}, added to the weights" if plan.settings.merge else rank


def _use(plan: Plan) -> str:
    ends = f"An answer ends with {code(plan.stop)}. " if plan.stop else ""
    files = "`train_log.jsonl` has the losses, `manifest.json` everything about the training"
    return f"{ends}{files}."


def _data(plan: Plan, manifest: Mapping[str, Any], selection: Mapping[str, Any] | None) -> dict[str, Any]:
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
    rows = [
        f"| {code(str(key).replace('_', ' '))} | {code(_plain(value))} |" for key, value in values.items()
    ]
    return [f"## {title}", "", "| | |", "|---|---|", *rows, ""]


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)
