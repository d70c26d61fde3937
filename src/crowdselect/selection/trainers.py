"""The trainers: what each reads, what it cannot hold, and the files that start it on a selection.

What was checked against which version: docs/trainers.md. Every file has the same hyper-parameters and the same limit of
tokens, truncates longer rows instead of dropping them, fine-tunes the whole model, and saves it beside the selection's
folder, not in it. What a run leaves there has a hash of the training file in its name: under one name LLaMA-Factory, verl and
open-instruct would resume from a checkpoint of other rows, and axolotl would train on rows that it prepared before.
"""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from crowdselect.selection.records import (
    FORMATS,
    MARKED,
    PAIR_OF_CONVERSATIONS,
    REJECTED_BESIDE_MESSAGES,
    RL,
    TAGGED,
    TRAINED,
    Form,
)

Stage = Literal["sft", "dpo", "grpo"]
MODEL = "meta-llama/Llama-3.2-3B-Instruct"
"""The model that files name, to be replaced by one's own."""
MAX_LENGTH = 2048
"""Tokens of a row, the longest; what is beyond is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a trainer's files are made of."""

    format: str
    """A key of `crowdselect.selection.records.FORMATS`."""
    train_file: str
    """The training file's name."""
    digest: str
    """A short hash of its bytes, for the names of all that a run leaves."""
    stage: Stage
    settings: Mapping[str, str]
    """Hyper-parameters by the names that TRL gives them."""
    steps: int
    """Steps that the rows make on one GPU."""
    note: str
    """The comment on the hyper-parameters, lines that begin with `#`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """What a trainer reads, and what it needs besides the training file."""

    title: str
    """Its name, in messages."""
    forms: Mapping[str, Form]
    """The formats that it reads, each as it reads it."""
    files: Callable[[Start], dict[str, str]]
    """Builds its files, text by name."""
    start: str
    """How those are started, as it is typed in a shell; {} stands for the selection's folder."""
    start_pairs: str | None = None
    """The same for pairs; None = the same."""
    in_turns: bool = False
    """It would silently skip or change a row whose turns do not alternate."""
    earlier: Mapping[str, str] = field(default_factory=dict)
    """Formats where it trains on earlier answers of a prompt too, not on the last message alone; what changes that, in words."""
    file_type: str | None = None
    """The only type of training file that it reads; None = any."""

    def earlier_line(self, name: str, earlier: int, rows: int) -> str:
        """Say how many rows it trains on otherwise than `crowdselect train`, on the last answer alone; empty where there are none.

        Args:
            name: The format.
            earlier: The rows with an earlier answer of the assistant.
            rows: All rows.

        Example:
            >>> TRAINERS["verl"].earlier_line("messages", 2, 9)
            '2 of 9 rows have earlier answers of the assistant, and verl trains on these too: no setting of it changes that'
        """
        if not earlier or name not in self.earlier:
            return ""
        have = "has" if earlier == 1 else "have"
        return f"{earlier:,} of {rows:,} rows {have} earlier answers of the assistant, and {self.title} trains on these too: {self.earlier[name]}"

    def command(self, folder: str, *, pairs: bool) -> str:
        """Write how it is started on a selection.

        Example:
            >>> TRAINERS["ms-swift"].command("my choice", pairs=True)
            "cd 'my choice' && swift rlhf swift.yaml"
        """
        line = self.start_pairs if pairs and self.start_pairs else self.start
        return line.format(shlex.quote(folder))


def _reads(*names: str, **own: Form) -> dict[str, Form]:
    """Formats as they are usually written, and those of which the trainer has a form of its own."""
    return {name: FORMATS[name] for name in names} | own


def _arguments(options: Mapping[str, str], *, named: str = "--{} {}") -> str:
    return " \\\n  ".join(named.format(key, value) for key, value in options.items())


def _script(command: str, start: Start, *, how: str) -> str:
    """A shell script that takes the model from MODEL, and more options of the trainer as they are given to it."""
    return (
        "#!/bin/sh\n"
        f"# {how}\n"
        f"{start.note}"
        f'MODEL="${{MODEL:-{MODEL}}}"\n'
        'HERE=$(cd "$(dirname "$0")" && pwd)\n'
        f'{command} "$@"\n'
    )


def _yaml(values: Mapping[str, str]) -> str:
    return "".join(f"{key}: {value}\n" for key, value in values.items())


def _model_beside(trainer: str, start: Start) -> str:
    """Where a trainer that is started in the selection's folder saves the model; scripts use the folder's name."""
    return f"../{trainer}-model-{start.digest}"


def _numbers(start: Start) -> dict[str, str]:
    """The hyper-parameters for YAML, which reads 1e-5 as text."""
    return {**start.settings, "learning_rate": start.settings["learning_rate"].replace("e", ".0e")}


# TRL, and unsloth, which speeds it up


def _trl(start: Start) -> dict[str, str]:
    options = {"model_name_or_path": '"$MODEL"', "dataset_name": '"$HERE"'}
    if start.stage == "grpo":  # the paper says nothing of reinforcement learning
        options["reward_funcs"] = "accuracy_reward"
    else:
        options |= {**start.settings, "max_length": str(MAX_LENGTH)}
    options["output_dir"] = f'"$HERE-model-{start.digest}"'
    command = f"trl {start.stage} {_arguments(options)}"
    return {"trl.sh": _script(command, start, how="Fine-tune with TRL: MODEL=NAME_OR_PATH sh trl.sh")}


def _unsloth(start: Start) -> dict[str, str]:
    name = start.stage.upper()
    kind = "parquet" if start.train_file.endswith(".parquet") else "json"
    settings = {
        **start.settings,
        "lr_scheduler_type": f'"{start.settings["lr_scheduler_type"]}"',
        "optim": '"adamw_torch"',  # unsloth's own defaults for these two are others than TRL's
        "weight_decay": "0.0",
        "max_length": str(MAX_LENGTH),
        "output_dir": f'f"{{here}}-model-{start.digest}"',
    }
    given = "".join(f"    {key}={value},\n" for key, value in settings.items())
    script = (
        "# Fine-tune with unsloth, on one GPU: MODEL=NAME_OR_PATH python unsloth_train.py\n"
        f"{start.note}"
        "import os\n"
        "from pathlib import Path\n\n"
        "from unsloth import FastLanguageModel  # before trl, which it changes\n"
        "from datasets import load_dataset\n"
        f"from trl import {name}Config, {name}Trainer\n\n"
        "here = Path(__file__).resolve().parent\n"
        f'name = os.environ.get("MODEL", "{MODEL}")\n'
        "model, tokenizer = FastLanguageModel.from_pretrained(\n"
        f"    name, max_seq_length={MAX_LENGTH}, load_in_4bit=False, full_finetuning=True\n"
        ")\n"
        f'rows = load_dataset("{kind}", data_files=str(here / "{start.train_file}"), split="train")\n'
        f"settings = {name}Config(\n{given})\n"
        f"trainer = {name}Trainer(model=model, processing_class=tokenizer, train_dataset=rows, args=settings)\n"
        "trainer.train()\n"
        "trainer.save_model()\n"
    )
    return {"unsloth_train.py": script}


# LLaMA-Factory

_ROLE_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
    "observation_tag": "observation",
    "function_tag": "function_call",
}
_LLAMAFACTORY: dict[str, dict[str, Any]] = {
    "messages": {
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "tools": "tools"},
        "tags": _ROLE_TAGS,
    },
    "sharegpt": {
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
    },
    "alpaca": {
        "formatting": "alpaca",
        "columns": {
            "prompt": "instruction",
            "query": "input",
            "response": "output",
            "system": "system",
            "history": "history",
        },
    },
    "dpo": {
        "formatting": "sharegpt",
        "ranking": True,
        "columns": {"messages": "prompt", "chosen": "chosen", "rejected": "rejected", "tools": "tools"},
        "tags": _ROLE_TAGS,
    },
}


def _llamafactory(start: Start) -> dict[str, str]:
    entry = {"crowdselect": {"file_name": start.train_file, **_LLAMAFACTORY[start.format]}}
    values = {
        "model_name_or_path": MODEL,
        "template": "llama3",
        "stage": start.stage,
        "do_train": "true",
        **({"mask_history": "true  # the loss is on the last answer alone"} if start.stage == "sft" else {}),
        "finetuning_type": "full",
        "dataset_dir": ".",
        "dataset": "crowdselect",
        "cutoff_len": str(MAX_LENGTH),
        **_numbers(start),
        "bf16": "true",
        "logging_steps": "10",
        "output_dir": _model_beside("llamafactory", start),
    }
    head = (
        "# Fine-tune with LLaMA-Factory, in this folder: llamafactory-cli train llamafactory.yaml\n"
        "# Set the model and its template to yours.\n"
    )
    return {
        "dataset_info.json": json.dumps(entry, indent=2) + "\n",
        "llamafactory.yaml": head + start.note + _yaml(values),
    }


# axolotl


def _axolotl(start: Start) -> dict[str, str]:
    """Pairs go through to TRL as they are, which writes them by the model's chat template.

    axolotl's own `chat_template.default` finds the answer in the written text by looking for its first occurrence: a short
    answer such as "4", or one whose spaces the template trims, would become another text.
    """
    numbers, model = _numbers(start), _model_beside("axolotl", start)
    pairs = start.stage == "dpo"
    how = "rl: dpo\nskip_prepare_dataset: true  # TRL itself applies the chat template to pairs\n"
    one_turn = (
        "    type: chat_template\n"
        f"    message_field_training: {TRAINED}  # the loss is on the messages that say so: the last answer alone\n"
    )
    prepared = (
        "# axolotl knows prepared rows by the settings alone, so a hash of the training file is in the folder's name.\n"
        "# Delete that folder if you edit the file.\n"
        f"dataset_prepared_path: {model}/prepared\n"
        "excess_length_strategy: truncate\n"
    )
    values = {
        "sequence_len": str(MAX_LENGTH),
        "learning_rate": numbers["learning_rate"],
        "num_epochs": numbers["num_train_epochs"],
        "micro_batch_size": numbers["per_device_train_batch_size"],
        "gradient_accumulation_steps": numbers["gradient_accumulation_steps"],
        "lr_scheduler": numbers["lr_scheduler_type"],
        "warmup_steps": numbers["warmup_steps"],
        "bf16": "true",
        "logging_steps": "10",
        "output_dir": model,
    }
    text = (
        "# Fine-tune with axolotl, in this folder: axolotl train axolotl.yaml\n"
        "# Set the model to yours; its chat template is used.\n"
        f"{start.note}"
        f"base_model: {MODEL}\n"
        "datasets:\n"
        f"  - path: {start.train_file}\n"
        "    split: train\n"
        f"{'' if pairs else one_turn}"
        f"{how if pairs else prepared}"
        f"{_yaml(values)}"
    )
    return {"axolotl.yaml": text}


# ms-swift


def _swift(start: Start) -> dict[str, str]:
    command = "rlhf" if start.stage == "dpo" else "sft"
    values = {
        "model": MODEL,
        "use_hf": "true",
        **({"rlhf_type": "dpo"} if start.stage == "dpo" else {}),
        "tuner_type": "full",
        "dataset": start.train_file,
        "strict": "true  # an error instead of a row left out",
        "max_length": str(MAX_LENGTH),
        "truncation_strategy": "right",
        "loss_scale": "last_round  # the loss is on the chosen answer alone",
        **_numbers(start),
        "weight_decay": "0.0  # as the other trainers",
        "torch_dtype": "bfloat16",
        "logging_steps": "10",
        "output_dir": _model_beside("ms-swift", start),
    }
    head = (
        f"# Fine-tune with ms-swift, in this folder: swift {command} swift.yaml\n# Set the model to yours.\n"
    )
    return {"swift.yaml": head + start.note + _yaml(values)}


# verl and open-instruct: fine-tuning here; reinforcement learning needs the data alone


def _verl(start: Start) -> dict[str, str]:
    if start.stage == "grpo":
        return {}
    settings = start.settings
    batch = int(settings["per_device_train_batch_size"]) * int(settings["gradient_accumulation_steps"])
    options = {
        "model.path": '"$MODEL"',
        "data.train_files": f"\"'$HERE/{start.train_file}'\"",
        "data.train_batch_size": str(batch),
        "data.max_length": str(MAX_LENGTH),
        "data.truncation": "right",
        "optim.lr": settings["learning_rate"],
        "optim.lr_scheduler_type": settings["lr_scheduler_type"],
        "optim.lr_warmup_steps": settings["warmup_steps"],
        "optim.weight_decay": "0.0",
        "trainer.total_epochs": settings["num_train_epochs"],
        "trainer.project_name": "crowdselect",
        "trainer.experiment_name": "sft",
        "trainer.logger": "'[console]'",
        "trainer.default_local_dir": f"\"'$HERE-model-{start.digest}'\"",
        "checkpoint.save_contents": "'[model,optimizer,extra,hf_model]'",
    }
    command = "torchrun --standalone --nproc_per_node=1 -m verl.trainer.sft_trainer " + _arguments(
        options, named="{}={}"
    )
    return {"verl.sh": _script(command, start, how="Fine-tune with verl: MODEL=NAME_OR_PATH sh verl.sh")}


def _open_instruct(start: Start) -> dict[str, str]:
    if start.stage == "grpo":
        return {}
    settings, pairs = start.settings, start.stage == "dpo"
    program = "dpo_tune_cache" if pairs else "finetune"
    dataset, epochs = ("", "num_epochs") if pairs else ("dataset_", "num_train_epochs")
    transform = (
        "preference_tulu_tokenize_and_truncate_v1 preference_tulu_filter_v1"
        if pairs
        else "last_turn_tulu_tokenize_and_truncate_v1 sft_tulu_filter_v1"
    )
    options = {
        "model_name_or_path": '"$MODEL"',
        f"{dataset}mixer_list": f'"$HERE/{start.train_file}" 1.0',
        f"{dataset}transform_fn": transform,
        f"{dataset}skip_cache": "true",  # which does not notice that the training file changed
        "max_seq_length": str(MAX_LENGTH),
        "learning_rate": settings["learning_rate"],
        epochs: settings["num_train_epochs"],
        "per_device_train_batch_size": settings["per_device_train_batch_size"],
        "gradient_accumulation_steps": settings["gradient_accumulation_steps"],
        "lr_scheduler_type": settings["lr_scheduler_type"],
        "warmup_ratio": f"{int(settings['warmup_steps']) / start.steps:.4g}" if start.steps else "0",
        "logging_steps": "10",
        "output_dir": f'"$HERE-model-{start.digest}"',
        "do_not_randomize_output_dir": "true",
        "push_to_hub": "false",
        "try_launch_beaker_eval_jobs": "false",
    }
    kept = f'REFERENCE_LOGPROBS_CACHE_PATH="$HERE-model-{start.digest}/reference" ' if pairs else ""
    program = f"accelerate launch --mixed_precision bf16 open_instruct/{program}.py"
    command = f'cd "${{OPEN_INSTRUCT:-.}}" && {kept}{program} {_arguments(options)}'
    how = "Fine-tune with open-instruct: OPEN_INSTRUCT=CHECKOUT MODEL=NAME_OR_PATH sh open-instruct.sh"
    return {"open-instruct.sh": _script(command, start, how=how)}


_TO_ONE = "the format prompt-completion makes it the last one alone"

TRAINERS: dict[str, Trainer] = {
    "trl": Trainer(
        title="TRL",
        forms=_reads("messages", "prompt-completion", "dpo", RL),
        files=_trl,
        earlier={"messages": _TO_ONE},
        start="sh {}/trl.sh",
    ),
    "llamafactory": Trainer(
        title="LLaMA-Factory",
        forms=_reads("messages", "sharegpt", "alpaca", **TAGGED),
        files=_llamafactory,
        start="cd {} && llamafactory-cli train llamafactory.yaml",
        in_turns=True,
    ),
    "axolotl": Trainer(
        title="axolotl",
        forms=_reads("dpo", messages=MARKED),
        files=_axolotl,
        start="cd {} && axolotl train axolotl.yaml",
    ),
    "ms-swift": Trainer(
        title="ms-swift",
        forms=_reads("messages", dpo=REJECTED_BESIDE_MESSAGES),
        files=_swift,
        start="cd {} && swift sft swift.yaml",
        start_pairs="cd {} && swift rlhf swift.yaml",
        in_turns=True,
    ),
    "unsloth": Trainer(
        title="unsloth",
        forms=_reads("messages", "prompt-completion", "dpo"),
        files=_unsloth,
        earlier={"messages": _TO_ONE},
        start="python {}/unsloth_train.py",
    ),
    "verl": Trainer(
        title="verl",
        forms=_reads("messages", RL),
        files=_verl,
        start="sh {}/verl.sh",
        earlier={"messages": "no setting of it changes that"},
        file_type="parquet",
    ),
    "open-instruct": Trainer(
        title="open-instruct",
        forms=_reads("messages", RL, dpo=PAIR_OF_CONVERSATIONS),
        files=_open_instruct,
        start="OPEN_INSTRUCT=open-instruct sh {}/open-instruct.sh",
    ),
}
"""The trainers by the names that commands and manifests use."""
