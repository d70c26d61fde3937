"""Plans a run: steps, tokens, memory, warnings.

Memory is estimated part by part, without loading the model.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from crowdselect._optional import optional
from crowdselect.errors import InputError, OptionError
from crowdselect.progress import Progress
from crowdselect.reward.loading import one_line
from crowdselect.terminal import shown_path
from crowdselect.train.rows import Length, TrainRow, TrainRows, divide, lengths, read_rows, without_unheld
from crowdselect.train.settings import Objective, TrainSettings
from crowdselect.train.student import EXTRA, Student, read_student

_TILE = 4096  # tokens whose logits TRL's fused head computes at a time
_SLICE = 8192  # vocabulary entries that it computes at a time
_LONG_WARM_UP = 0.2  # of all steps
_RATE = 200e12  # operations per second of a large GPU, for a rough time
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of parameters of a model."""

    weights: int
    """All parameters, adapters included."""
    trained: int
    """Parameters that are trained."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Estimated peak memory of a step on one device, in bytes; fragmentation and the driver come on top."""

    weights: int
    """float32 if all are trained; with adapters the base in its computing dtype and the adapters in float32."""
    reference: int
    """The second copy that `dpo` compares with; not needed with adapters, which can be switched off."""
    gradients: int
    """float32, for trained parameters; doubled with several processes, for the exchange buffers."""
    optimizer: int
    """AdamW's two averages in float32, for trained parameters."""
    casts: int
    """A copy of the trained weights in bfloat16, during a pass."""
    activations: int
    """For a batch of the longest row."""
    head: int
    """Logits and values computed from them."""

    @property
    def total(self) -> int:
        """The sum, bytes."""
        return sum(asdict(self).values())


def count_parameters(student: Student, settings: TrainSettings) -> Sizes:
    """Count parameters exactly, on torch's meta device.

    Raises:
        OptionError: No layer has a name in `lora_targets`.
    """
    torch = optional("torch", extra=EXTRA)
    auto = optional("transformers", extra=EXTRA).AutoModelForCausalLM
    with torch.device("meta"):
        model = auto.from_config(student.config, trust_remote_code=settings.trust_remote_code)
    if settings.lora:
        peft = optional("peft", extra=EXTRA)
        try:
            model = peft.get_peft_model(model, lora_config(settings))
        except ValueError as error:
            raise OptionError(f"`lora_targets` is {settings.lora_targets!r}: {one_line(error)}") from error
    parameters = list(model.parameters())
    return Sizes(
        weights=sum(one.numel() for one in parameters),
        trained=sum(one.numel() for one in parameters if one.requires_grad),
    )


def lora_config(settings: TrainSettings) -> Any:  # noqa: ANN401  (of peft)
    """Return peft's configuration of the adapters."""
    named = settings.lora_targets.replace(",", " ").split()
    return optional("peft", extra=EXTRA).LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear" if named == ["all-linear"] else named,
        task_type="CAUSAL_LM",
    )


def memory(
    student: Student, settings: TrainSettings, sizes: Sizes, *, longest: int, processes: int
) -> Memory:
    """Estimate the memory of a step.

    Activations per token and layer, without checkpointing, that autograd stores for a layer of attention and
    gated MLP (h hidden, i intermediate): 40 h + 16 i bytes in float32, 34 h + 8 i with bfloat16. With
    checkpointing the input of each layer is stored, and one layer at a time with its gradients.

    Args:
        student: The base model.
        settings: With the objective's defaults filled in.
        sizes: The model's numbers of parameters.
        longest: Tokens of the longest conversation trained on, after truncation.
        processes: Number of processes that train together, each on its own device.

    Returns:
        The parts, in bytes.
    """
    config = student.config.get_text_config()
    is_half = student.dtype == "bfloat16"
    adapters = sizes.trained if settings.lora else 0
    weight_bytes = 2 if is_half and settings.lora else 4
    copies = 1 if settings.objective == "sft" else 2  # both answers of a pair go through together
    tokens = settings.batch_size * copies * longest
    hidden, layers = config.hidden_size, config.num_hidden_layers
    intermediate = getattr(config, "intermediate_size", None) or 4 * hidden
    layer = (34 * hidden + 8 * intermediate) if is_half else (40 * hidden + 16 * intermediate)
    activation_bytes = (
        layers * weight_bytes * hidden + 2 * layer if settings.gradient_checkpointing else layers * layer
    )
    vocabulary = config.vocab_size
    if settings.objective in {"sft", "dpo"}:
        head = min(tokens, _TILE) * min(vocabulary, _SLICE) * 4 * 2
    else:
        head = tokens * vocabulary * ((2 if is_half else 4) + 3 * 4)
    return Memory(
        weights=(sizes.weights - adapters) * weight_bytes + adapters * 4,
        reference=0 if settings.lora or settings.objective != "dpo" else sizes.weights * 4,
        gradients=sizes.trained * 4 * (2 if processes > 1 else 1),
        optimizer=sizes.trained * 8,
        casts=sizes.trained * 2 if is_half else 0,
        activations=tokens * activation_bytes,
        head=head,
    )


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """The plan of a run."""

    data: str
    """The file of the rows."""
    settings: TrainSettings
    """With the objective's defaults filled in."""
    model: str
    revision: str | None
    stop: str | None
    """The token that ends an answer; None if there is none."""
    device: str
    dtype: str
    processes: int
    """Number of processes that train together, one per GPU."""
    rows: int
    """Rows to train on."""
    held_out: int
    """Rows to evaluate on."""
    dropped: int
    """Rows skipped because nothing of their answer is within the limit."""
    cut: int
    """Rows longer than the limit, whose end is cut."""
    limit: int
    """Maximum tokens of a row."""
    longest: int
    """Tokens of the longest row before truncation."""
    steps: int
    """Optimiser steps."""
    steps_per_epoch: int
    warmup: int
    """Warm-up steps."""
    eval_steps: int
    save_steps: int | None
    """None: after each epoch."""
    tokens: int
    """Tokens processed in all epochs, without padding and evaluation."""
    answer_tokens: int
    """Those of `tokens` that the loss is on."""
    flop: float
    """Operations of all steps, per weight and token: 2 forwards, 4 backwards, 2 for recomputed activations."""
    sizes: Sizes
    memory: Memory
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        facts = {**asdict(self), "settings": self.settings.facts(), "warnings": list(self.warnings)}
        facts["memory"]["total"] = self.memory.total
        return facts

    def lines(self) -> dict[str, str]:
        """Return the main facts for people, by name."""
        s, m = self.settings, self.memory
        adapters = f" in adapters of rank {s.lora_rank}" if s.lora else ""
        held = f", {self.held_out:,} held out" if self.held_out else ""
        parts = ", ".join(f"{name} {_size(n)}" for name, n in asdict(m).items() if n)
        several = f" x {self.processes} processes" if self.processes > 1 else ""
        rows = s.batch_size * s.accumulation * self.processes
        return {
            "data": f"{self.data}: {self.rows:,} rows to train on{held}",
            "model": f"{shown_path(self.model)}: {_many(self.sizes.weights)} parameters, {_many(self.sizes.trained)} trained{adapters}",
            "objective": f"{s.objective}, learning rate {s.learning_rate:g}, {s.scheduler}, {self.warmup} warm-up steps",
            "steps": f"{self.steps:,} of {rows} rows ({s.batch_size} per device x {s.accumulation} passes{several}); "
            f"{self.steps_per_epoch:,} are an epoch",
            "tokens": f"{self.tokens:,} in all, {self.answer_tokens:,} of them answers; longest row {self.longest:,}, "
            f"limit {self.limit:,}: {self.cut:,} cut, {self.dropped:,} left out",
            "compute": f"about {self.flop:.2g} operations ({_minutes(self.flop / _RATE / self.processes)} at {_RATE / 1e12:g} TFLOP/s)",
            "memory": f"about {_size(m.total)} on {self.device} in {self.dtype}: {parts}",
        }


@dataclass(frozen=True, slots=True)
class TrainInputs:
    """Data, base model and settings, before any row is tokenized."""

    source: TrainRows
    student: Student
    settings: TrainSettings
    """With the objective's defaults filled in."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan and what it was made from."""

    plan: TrainPlan
    student: Student
    source: TrainRows
    train: list[TrainRow]
    held_out: list[TrainRow]


def gather(data: str, *, base: str, settings: TrainSettings, skip_invalid: bool = False) -> TrainInputs:
    """Read rows and base model; see `job.plan`."""
    source = read_rows(
        data, skip_invalid=skip_invalid
    )  # first: errors in it are reported before the libraries are loaded
    student = read_student(base, settings)
    filled = settings.filled(_objective(source, settings))
    source = without_unheld(source, student, objective=str(filled.objective), skip_invalid=skip_invalid)
    return TrainInputs(source, student, filled)


def prepare(gathered: TrainInputs, *, progress: Progress | None = None) -> Prepared:
    """Tokenize the rows and make the plan, without loading weights; see `job.plan`."""
    source, student, settings = gathered.source, gathered.student, gathered.settings
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    _check_devices(student, processes)
    limit = min(settings.max_length, student.longest or settings.max_length)
    rows, held_out = divide(source, share=settings.eval_share, seed=settings.seed)
    all_lengths = lengths(
        [*rows, *held_out], student, limit=limit, objective=str(settings.objective), progress=progress
    )
    training = [pair for pair in zip(rows, all_lengths[: len(rows)], strict=True) if not pair[1].is_lost]
    evaluated = [pair for pair in zip(held_out, all_lengths[len(rows) :], strict=True) if not pair[1].is_lost]
    if not training:
        raise InputError(
            f"{source.file}: the limit of {limit} tokens leaves no answer of any row to train on; give a larger `max_length`"
        )
    counted = _Counted([length for _, length in training], len(evaluated), all_lengths, limit)
    return Prepared(
        plan=_plan(source, settings, student, counted, processes),
        student=student,
        source=source,
        train=[row for row, _ in training],
        held_out=[row for row, _ in evaluated],
    )


@dataclass(frozen=True, slots=True)
class _Counted:
    train: list[Length]
    held_out: int
    all: list[Length]
    limit: int


def _plan(
    source: TrainRows, settings: TrainSettings, student: Student, counted: _Counted, processes: int
) -> TrainPlan:
    train = counted.train
    per_epoch = max(
        1, math.ceil(math.ceil(len(train) / (settings.batch_size * processes)) / settings.accumulation)
    )
    steps = settings.max_steps or math.ceil(settings.epochs * per_epoch)
    epochs = steps / per_epoch if settings.max_steps else settings.epochs
    warmup = (
        int(settings.warmup_steps) if settings.warmup_steps >= 1 else math.ceil(settings.warmup_steps * steps)
    )
    tokens = round(epochs * sum(length.kept for length in train))
    sizes = count_parameters(student, settings)
    longest = min(max(length.longest for length in train), counted.limit)
    plan = TrainPlan(
        data=str(source.file),
        settings=settings,
        model=student.name,
        revision=student.revision,
        stop=student.stop,
        device=student.device,
        dtype=student.dtype,
        processes=processes,
        rows=len(train),
        held_out=counted.held_out,
        dropped=sum(length.is_lost for length in counted.all),
        cut=sum(length.is_cut for length in counted.all),
        limit=counted.limit,
        longest=max(length.longest for length in counted.all),
        steps=steps,
        steps_per_epoch=per_epoch,
        warmup=warmup,
        eval_steps=settings.eval_steps or max(1, steps // 10),
        save_steps=settings.save_steps,
        tokens=tokens,
        answer_tokens=round(epochs * sum(length.answer for length in train)),
        flop=_per_token(settings) * sizes.weights * float(tokens),
        sizes=sizes,
        memory=memory(student, settings, sizes, longest=longest, processes=processes),
        warnings=(),
    )
    return replace(plan, warnings=(*source.notes, *_warnings(plan, counted.all)))


def _per_token(settings: TrainSettings) -> int:
    """Return operations per weight: 2 forwards; backwards 2 for activations and 2 for trained weights."""
    backwards = 2 if settings.lora else 4
    again = 2 if settings.gradient_checkpointing else 0
    return 2 + backwards + again + (2 if settings.objective == "dpo" else 0)


def _warnings(plan: TrainPlan, all_lengths: list[Length]) -> Iterator[str]:
    settings, rows = plan.settings, len(all_lengths)
    if plan.warmup > max(1, _LONG_WARM_UP * plan.steps):
        yield (
            f"the warm-up of {plan.warmup} steps is {_share(plan.warmup / plan.steps)} all {plan.steps}: the learning rate "
            f"{'never reaches its height' if plan.warmup >= plan.steps else 'rises for much of the training'}; a tenth would "
            f"be `warmup_steps={max(1, plan.steps // 10)}`"
        )
    if plan.cut:
        yield f"{plan.cut} of {rows} rows are longer than {plan.limit} tokens and lose their end; the longest has {plan.longest}"
    if plan.dropped:
        yield (
            f"{plan.dropped} of {rows} rows have nothing of their answer within {plan.limit} tokens and are left out "
            "(counted among those that are cut)"
        )
    if plan.limit < min(settings.max_length, plan.longest):
        yield f"the base model has positions for {plan.limit} tokens, so that is the limit, not {settings.max_length}"
    if plan.stop is None:
        yield (
            "the chat template ends an answer with no special token of this tokenizer: the student may not learn to stop; "
            "is it the template of another model?"
        )
    altered = sum(length.is_bent for length in all_lengths)
    if altered:
        yield (
            f"in {altered} of {rows} rows the chat template writes the prompt in another way when an answer follows; the loss "
            "begins where the two part"
        )
    room = _room(plan.device)
    if room is not None and plan.memory.total > room:
        yield f"the estimate of {_size(plan.memory.total)} is more than the {_size(room)} of this GPU"


def _objective(source: TrainRows, settings: TrainSettings) -> Objective:
    wanted: Objective = settings.objective or ("dpo" if source.has_pairs else "sft")
    if wanted != "sft" and not source.has_pairs:
        raise OptionError(
            f"`objective` {wanted} needs preference pairs, and {source.file} has no rejected answers; select again with "
            "`pairs='best-worst'`"
        )
    return wanted


def _check_devices(student: Student, processes: int) -> None:
    """Refuse several visible GPUs in one process: TRL needs one process per GPU."""
    visible = optional("torch", extra=EXTRA).cuda.device_count() if student.device == "cuda" else 1
    if processes == 1 and visible > 1:
        raise OptionError(
            f"{visible} GPUs are visible to one process; run `accelerate launch -m crowdselect train ...` to use them, "
            "or set CUDA_VISIBLE_DEVICES=0"
        )


def _room(device: str) -> int | None:
    """Return the GPU's memory in bytes; None on a CPU."""
    if device == "cpu":
        return None
    return int(optional("torch", extra=EXTRA).cuda.get_device_properties(0).total_memory)


def _share(share: float) -> str:
    return f"{share:.0%} of" if share < 1 else "as long as" if share == 1 else f"{share:.3g} times"


def _size(count: float) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / (1 << 20):.1f} MiB"


def _many(count: float) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"


def _minutes(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute"
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{round(seconds / 60)} min"
