"""What a run would do, before it does it: steps, tokens, memory, and what should be known first.

Memory is counted part by part; nothing is loaded for it.
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
from crowdselect.train.rows import Length, TrainRow, TrainRows, divide, lengths, read_rows
from crowdselect.train.settings import Objective, TrainSettings
from crowdselect.train.student import EXTRA, Student, read_student

_TILE = 4096  # tokens whose logits TRL's fused head makes at a time
_SLICE = 8192  # entries of the vocabulary, likewise
_LONG_WARM_UP = 0.2  # of all steps
_RATE = 200e12  # operations per second that a large GPU does, to give an idea of the time
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many numbers a model has."""

    weights: int
    """All parameters, adapters included."""
    trained: int
    """Those that change."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device, at the highest point of a step. An estimate: fragments and the driver come on top."""

    weights: int
    """float32 where all are trained; with adapters the base as it computes and the adapters in float32."""
    reference: int
    """The second copy that `dpo` compares with; adapters need none, as they can be switched off."""
    gradients: int
    """float32, of what is trained; twice with several processes, which keep what they exchange."""
    optimizer: int
    """AdamW's two averages, float32, of what is trained."""
    casts: int
    """The weights once more as bfloat16, while a pass lasts."""
    activations: int
    """Of the longest row that there is, times the batch."""
    head: int
    """Logits and what is computed of them."""

    @property
    def total(self) -> int:
        """The sum, bytes."""
        return sum(asdict(self).values())


def count_parameters(student: Student, settings: TrainSettings) -> Sizes:
    """Count parameters exactly, on a device without storage.

    Raises:
        OptionError: No layer has a name of `lora_targets`.
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
    """Make peft's configuration of the adapters."""
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

    Activations per token and layer, without checkpointing, as autograd keeps them for a layer of attention and
    gated MLP (h hidden, i intermediate): 40 h + 16 i bytes in float32, 34 h + 8 i with bfloat16. With
    checkpointing the input of each layer stays, and one layer at a time is there with its gradients.

    Args:
        student: The base model.
        settings: Filled for the objective.
        sizes: Of the model.
        longest: Tokens of the longest conversation that is trained on, once cut.
        processes: That train together, each with a device of its own.

    Returns:
        The parts, in bytes.
    """
    config = student.config.get_text_config()
    is_half = student.dtype == "bfloat16"
    adapters = sizes.trained if settings.lora else 0
    wide = 2 if is_half and settings.lora else 4
    copies = 1 if settings.objective == "sft" else 2  # a pair goes through together
    tokens = settings.batch_size * copies * longest
    hidden, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    layer = (34 * hidden + 8 * inner) if is_half else (40 * hidden + 16 * inner)
    kept = layers * wide * hidden + 2 * layer if settings.gradient_checkpointing else layers * layer
    vocabulary = config.vocab_size
    if settings.objective in {"sft", "dpo"}:
        head = min(tokens, _TILE) * min(vocabulary, _SLICE) * 4 * 2
    else:
        head = tokens * vocabulary * ((2 if is_half else 4) + 3 * 4)
    return Memory(
        weights=(sizes.weights - adapters) * wide + adapters * 4,
        reference=0 if settings.lora or settings.objective != "dpo" else sizes.weights * 4,
        gradients=sizes.trained * 4 * (2 if processes > 1 else 1),
        optimizer=sizes.trained * 8,
        casts=sizes.trained * 2 if is_half else 0,
        activations=tokens * kept,
        head=head,
    )


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """What a run would do."""

    data: str
    """The file of the rows."""
    settings: TrainSettings
    """Filled for the objective."""
    model: str
    revision: str | None
    stop: str | None
    """The token that ends an answer."""
    device: str
    dtype: str
    processes: int
    """That train together, one per GPU."""
    rows: int
    """To train on."""
    held_out: int
    """To evaluate on."""
    dropped: int
    """Rows of which the limit leaves no answer; they are left out."""
    cut: int
    """Rows longer than the limit; they lose their end."""
    limit: int
    """Tokens."""
    longest: int
    """Tokens of the longest row before the cut."""
    steps: int
    """Of the optimiser."""
    steps_per_epoch: int
    warmup: int
    """Steps."""
    eval_steps: int
    save_steps: int | None
    """None: after each epoch."""
    tokens: int
    """That go through the model in all epochs, without padding and evaluation."""
    answer_tokens: int
    """Of them, those that the loss is on."""
    flop: float
    """Operations of all steps: 2 per weight and token forwards, 4 backwards, 2 for what is computed twice."""
    sizes: Sizes
    memory: Memory
    warnings: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Give everything, JSON-ready."""
        found = {**asdict(self), "settings": self.settings.facts(), "warnings": list(self.warnings)}
        found["memory"]["total"] = self.memory.total
        return found

    def lines(self) -> dict[str, str]:
        """Give what a person wants to see first, by name."""
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
    """Data, base model and settings, before any row is read as tokens."""

    source: TrainRows
    student: Student
    settings: TrainSettings
    """Filled for the objective."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan and what it was made from."""

    plan: TrainPlan
    student: Student
    source: TrainRows
    train: list[TrainRow]
    held_out: list[TrainRow]


def gather(data: str, *, base: str, settings: TrainSettings) -> TrainInputs:
    """Read rows and base model; see `job.plan`."""
    source = read_rows(data)  # first: what is wrong with it is said before the libraries are loaded
    student = read_student(base, settings)
    return TrainInputs(source, student, settings.filled(_objective(source, settings)))


def prepare(gathered: TrainInputs, *, progress: Progress | None = None) -> Prepared:
    """Do everything else that comes before the weights; see `job.plan`."""
    source, student, settings = gathered.source, gathered.student, gathered.settings
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    _check_devices(student, processes)
    limit = min(settings.max_length, student.longest or settings.max_length)
    rows, held = divide(source, share=settings.eval_share, seed=settings.seed)
    found = lengths(
        [*rows, *held], student, limit=limit, objective=str(settings.objective), progress=progress
    )
    training = [pair for pair in zip(rows, found[: len(rows)], strict=True) if not pair[1].is_lost]
    evaluated = [pair for pair in zip(held, found[len(rows) :], strict=True) if not pair[1].is_lost]
    if not training:
        raise InputError(
            f"{source.file}: the limit of {limit} tokens leaves no answer of any row to train on; give a larger `max_length`"
        )
    counted = _Counted([length for _, length in training], len(evaluated), found, limit)
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
    made = TrainPlan(
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
    return replace(made, warnings=tuple(_warnings(made, counted.all)))


def _per_token(settings: TrainSettings) -> int:
    """Operations per weight: forwards 2; backwards 2 for the activations and 2 for the weights that are trained."""
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
    bent = sum(length.is_bent for length in all_lengths)
    if bent:
        yield (
            f"in {bent} of {rows} rows the chat template writes the prompt in another way when an answer follows; the loss "
            "begins where the two part"
        )
    room = _room(plan.device)
    if room is not None and plan.memory.total > room:
        yield f"the estimate of {_size(plan.memory.total)} is more than the {_size(room)} of this GPU"


def _objective(source: TrainRows, settings: TrainSettings) -> Objective:
    wanted: Objective = settings.objective or ("dpo" if source.has_pairs else "sft")
    if wanted != "sft" and not source.has_pairs:
        raise OptionError(
            f"`objective` {wanted} needs preference pairs, and {source.file} has no rejected answers; `select` "
            "writes them with `pairs='best-worst'`"
        )
    return wanted


def _check_devices(student: Student, processes: int) -> None:
    """One process drives one GPU; TRL refuses several."""
    visible = optional("torch", extra=EXTRA).cuda.device_count() if student.device == "cuda" else 1
    if processes == 1 and visible > 1:
        raise OptionError(
            f"{visible} GPUs are visible to one process; run `accelerate launch -m crowdselect train ...` to use them, "
            "or set CUDA_VISIBLE_DEVICES=0"
        )


def _room(device: str) -> int | None:
    """Memory of the GPU, bytes."""
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
