"""What one training step needs of a device's memory, counted part by part; nothing is loaded for it."""

from dataclasses import asdict, dataclass
from typing import Any

from crowdselect._optional import optional
from crowdselect.errors import OptionError
from crowdselect.train.settings import TrainSettings
from crowdselect.train.student import EXTRA, Student, one_line

_TILE = 4096  # tokens whose logits TRL's fused head makes at a time
_SLICE = 8192  # entries of the vocabulary, likewise


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
        OptionError: No layer has a name of `--lora-targets`.
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
            raise OptionError(f"--lora-targets {settings.lora_targets!r}: {one_line(error)}") from error
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
