"""The settings of a training run: checked once; defaults per objective; the paper's values."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from crowdselect.errors import OptionError

Objective = Literal["sft", "dpo", "simpo", "orpo"]
Dtype = Literal["auto", "float32", "bfloat16"]
Device = Literal["auto", "cpu"]

PAPER: Mapping[str, Any] = {
    "epochs": 3.0,
    "batch_size": 1,
    "accumulation": 2,
    "scheduler": "cosine",
    "warmup_steps": 150.0,
    "max_length": 2048,
}
"""The paper's table 6 except the learning rate, which it states for `sft` only (1e-5). The optimiser is AdamW."""
SCHEDULERS = ("cosine", "linear", "constant", "constant_with_warmup", "inverse_sqrt", "polynomial")

_RATES = {"sft": 1e-5, "dpo": 1e-6, "simpo": 1e-6, "orpo": 1e-6}
_LORA_RATE = 10.0  # adapters need about ten times the rate of full fine-tuning
_BETAS = {"dpo": 0.1, "simpo": 2.0, "orpo": 0.1}
_GAMMA = 1.0  # SimPO's margin: half its beta, its authors' recommended start


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How to train. Every field has the name of its command-line option and goes into the manifest.

    Raises:
        OptionError: A value is invalid, or does not go with another.

    Example:
        >>> TrainSettings(lora=True).filled("sft").learning_rate
        0.0001
    """

    objective: Objective | None = None
    """What is minimised; None: `sft`, and `dpo` for preference pairs."""
    preset: str | None = None
    """"paper" where its table 6 was asked for; `with_preset` fills the fields."""
    epochs: float = 3.0
    """How often every row is seen."""
    max_steps: int | None = None
    """Number of optimiser steps; None: as many as `epochs` take."""
    learning_rate: float | None = None
    """The highest rate; None: 1e-5 for `sft` and 1e-6 for preferences, ten times that with LoRA."""
    batch_size: int = 1
    """Rows per device and pass."""
    accumulation: int = 2
    """Passes per optimiser step."""
    scheduler: str = "cosine"
    """How the rate falls after the warm-up."""
    warmup_steps: float = 0.1
    """Optimiser steps until the highest rate; below 1: a share of all steps."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    max_length: int = 2048
    """Maximum tokens of a row; the end of longer ones is cut."""
    lora: bool = False
    """Train low-rank adapters instead of all weights."""
    lora_rank: int = 16
    """Rank of the adapters."""
    lora_alpha: float = 32.0
    """Their scale: alpha / rank."""
    lora_dropout: float = 0.0
    """Dropout before them, 0 to 1."""
    lora_targets: str = "all-linear"
    """Layers with an adapter, comma-separated; all-linear: every linear layer except the head."""
    merge: bool = False
    """Write the base model with the adapters merged into it; the adapters are saved beside it."""
    beta: float | None = None
    """Strength of the preference term; None: 0.1 for `dpo` and `orpo`, 2.0 for `simpo`."""
    gamma: float | None = None
    """SimPO's margin; None: 1.0."""
    eval_share: float = 0.0
    """Share of the rows held out for evaluation, 0 to 1, drawn by a seeded hash of the ids."""
    eval_steps: int | None = None
    """Steps between evaluations; None: ten evaluations in total."""
    save_steps: int | None = None
    """Steps between checkpoints; None: one after each epoch."""
    log_steps: int = 1
    """Steps between logged losses."""
    dtype: Dtype = "auto"
    """The dtype of the computation; auto: bfloat16 on a GPU that supports it, else float32."""
    device: Device = "auto"
    """cpu: do not use a GPU."""
    gradient_checkpointing: bool = True
    """Recompute activations instead of storing them: less memory, about a fifth more time."""
    chat_template: str | None = None
    """File with a Jinja template; None: the base model's own."""
    revision: str | None = None
    """Commit, tag or branch of a base model on the hub."""
    trust_remote_code: bool = False
    """Allow code that comes with the base model to run."""
    seed: int = 0
    """Seed of the order of the rows, the held-out rows, the adapters' initial weights, and dropout."""
    set: tuple[str, ...] = ()
    """Further settings of TRL's trainer, each `NAME=VALUE`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "set", tuple(self.set))
        for name, value, known in (
            ("objective", self.objective, (None, *get_args(Objective))),
            ("preset", self.preset, (None, "paper")),
            ("scheduler", self.scheduler, SCHEDULERS),
            ("dtype", self.dtype, get_args(Dtype)),
            ("device", self.device, get_args(Device)),
        ):
            if value not in known:
                listed = ", ".join(str(one) for one in known if one is not None)
                raise OptionError(f"`{name}` {value!r} is unknown; choose one of: {listed}")
        self._check_counts()
        self._check_numbers()
        if self.merge and not self.lora:
            raise OptionError("`merge` adds adapters to the base model, and there are none without `lora`")
        if self.gamma is not None and self.objective not in {None, "simpo"}:
            raise OptionError(f"`gamma` is SimPO's margin; {self.objective} has none")
        if self.beta is not None and self.objective == "sft":
            raise OptionError("`beta` weighs preferences; sft has none")
        if not self.lora_targets.replace(",", " ").split():
            raise OptionError("`lora_targets` is empty; wanted all-linear, or names of layers")
        self.options()

    def filled(self, objective: Objective) -> "TrainSettings":
        """Fill in defaults that depend on the objective.

        Args:
            objective: What is minimised.

        Returns:
            Settings without None in `objective`, `learning_rate`, and, if the objective uses them, `beta` and `gamma`.
        """
        as_paper = self.preset == "paper" and objective == "sft"  # its 1e-5 holds with adapters, too
        rate = _RATES[objective] * (_LORA_RATE if self.lora and not as_paper else 1.0)
        return replace(
            self,
            objective=objective,
            learning_rate=rate if self.learning_rate is None else self.learning_rate,
            beta=_BETAS.get(objective) if self.beta is None else self.beta,
            gamma=(_GAMMA if self.gamma is None else self.gamma) if objective == "simpo" else self.gamma,
        )

    def options(self) -> dict[str, Any]:
        """Parse `set`.

        Returns:
            Name → value: parsed if it is JSON, else text.

        Raises:
            OptionError: One has no `=`, or is given twice.
        """
        values: dict[str, Any] = {}
        for written in self.set:
            name, sign, text = written.partition("=")
            name = name.strip()
            if not sign or not name:
                raise OptionError(f"`set` {written!r} is not of the form NAME=VALUE")
            if name in values:
                raise OptionError(f"`set` {name} is given twice; keep one")
            try:
                values[name] = json.loads(text)
            except ValueError:
                values[name] = text
        return values

    def facts(self) -> dict[str, Any]:
        """Return every field as a JSON value, for the manifest."""
        return {**asdict(self), "set": list(self.set)}

    def _check_counts(self) -> None:
        for name in (
            "max_steps",
            "batch_size",
            "accumulation",
            "lora_rank",
            "eval_steps",
            "save_steps",
            "log_steps",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"`{name}` is {value}; wanted at least 1")
        if self.max_length < 8:
            raise OptionError(f"`max_length` is {self.max_length}; wanted at least 8 tokens")
        if not 0 <= self.seed < 1 << 32:
            raise OptionError(f"`seed` is {self.seed}; wanted 0 to {(1 << 32) - 1}")

    def _check_numbers(self) -> None:
        for name in ("epochs", "learning_rate", "lora_alpha", "beta"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise OptionError(f"`{name}` is {value}; wanted more than 0")
        for name in ("warmup_steps", "weight_decay", "gamma"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise OptionError(f"`{name}` is {value}; wanted 0 or more")
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            raise OptionError(
                f"`warmup_steps` is {self.warmup_steps}; wanted a whole number, or a share below 1"
            )
        for name in ("eval_share", "lora_dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise OptionError(f"`{name}` is {value}; wanted 0 or more and below 1")


def with_preset(given: Mapping[str, Any]) -> TrainSettings:
    """Make settings: given fields override the preset, and the preset overrides the defaults.

    Args:
        given: Fields of `TrainSettings`; None = not given.

    Returns:
        The settings.

    Raises:
        OptionError: See `TrainSettings`; or a setting of adapters is given without `lora`.

    Example:
        >>> with_preset({"preset": "paper", "epochs": 1.0}).warmup_steps
        150.0
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen.get("lora"):
        for name in chosen:
            if name.startswith("lora_"):
                raise OptionError(f"`{name}` is of adapters, and there are none without `lora`")
    preset = dict(PAPER) if chosen.get("preset") == "paper" else {}
    return TrainSettings(**{**preset, **chosen})
