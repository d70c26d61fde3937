"""A base model in the hub's format: configuration, tokenizer with chat template, end-of-answer token, weights."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crowdselect._optional import optional
from crowdselect.errors import InputError, OptionError
from crowdselect.reward.loading import loaded, one_line, set_template
from crowdselect.train.settings import TrainSettings

EXTRA = "train"
MODULES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "jinja2", "vl_convert")
"""Modules that a run imports, from the first step to the plot of its losses."""
_KIND = "causal language model"
_ANSWER = "Fourteen."  # a test answer; no template contains it


@dataclass(frozen=True, slots=True)
class Student:
    """A base model, read without its weights."""

    name: str
    """Name on the hub, or the absolute path of a folder."""
    config: Any
    """The configuration, of transformers."""
    tokenizer: Any
    """The tokenizer, of transformers, with the chat template in use and a padding token."""
    revision: str | None
    """The commit on the hub; None for a folder."""
    stop: str | None
    """The special token with which the template ends an answer; None if it writes none."""
    longest: int | None
    """Maximum tokens by the model's positions; None if the configuration has none."""
    dtype: str
    """The dtype of the computation."""
    device: str
    """cpu or cuda."""


def read_student(base: str, settings: TrainSettings) -> Student:
    """Read a base model's configuration and tokenizer.

    Args:
        base: Name on the hub, or a folder that `save_pretrained` wrote.
        settings: The settings of the run.

    Returns:
        The base model without its weights.

    Raises:
        InputError: It is not a model, or has no chat template.
        OptionError: It needs its own code, a template cannot be read, or this device does not support the dtype.
        MissingExtraError: The extra `train` is not installed.
    """
    name = _located(base)
    for module in MODULES:  # report a missing one now, not after hours
        optional(module, extra=EXTRA)
    transformers = optional("transformers", extra=EXTRA)
    trust = {"trust_remote_code": settings.trust_remote_code}
    where = trust | ({"revision": settings.revision} if settings.revision else {})
    config = loaded(
        base,
        lambda: transformers.AutoConfig.from_pretrained(name, **where),
        revision=settings.revision,
        kind=_KIND,
    )
    tokenizer = loaded(
        base,
        lambda: transformers.AutoTokenizer.from_pretrained(name, **where),
        revision=settings.revision,
        kind=_KIND,
    )
    set_template(
        base, tokenizer, settings.chat_template, such_as="that of the model's instruction-tuned sibling"
    )
    stop = _stop(base, tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or stop
    if stop is not None:  # else a server would generate past the end that the student learns
        tokenizer.eos_token = stop
    if tokenizer.pad_token is None:
        raise InputError(
            f"{base}: its tokenizer knows no token that pads or ends a text; wanted one of the two"
        )
    device, dtype = _machine(settings)
    return Student(
        name=name,
        config=config,
        tokenizer=tokenizer,
        revision=getattr(config, "_commit_hash", None),
        stop=stop,
        longest=getattr(config.get_text_config(), "max_position_embeddings", None),
        dtype=dtype,
        device=device,
    )


def load_student(student: Student, settings: TrainSettings) -> Any:  # noqa: ANN401  (a model of transformers)
    """Load the weights.

    All weights are trained in float32 (computing in bfloat16 if so set): an update of a thousandth would be
    lost in bfloat16. With adapters the base does not change, so it stays in the computing dtype.

    Args:
        student: The base model.
        settings: The settings of the run.

    Returns:
        The model.

    Raises:
        InputError: Weights are missing, so that parts of it would be random.
    """
    torch = optional("torch", extra=EXTRA)
    auto = optional("transformers", extra=EXTRA).AutoModelForCausalLM
    dtype = student.dtype if settings.lora else "float32"
    model, report = loaded(
        student.name,
        lambda: auto.from_pretrained(
            student.name,
            dtype=getattr(torch, dtype),
            trust_remote_code=settings.trust_remote_code,
            output_loading_info=True,
            **({"revision": settings.revision} if settings.revision else {}),
        ),
        revision=settings.revision,
        kind=_KIND,
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{student.name}: the weights {', '.join(missing[:3])} are not in it, so it would begin with random ones; "
            "wanted a causal language model"
        )
    if student.stop is not None:
        _end_with(model, student.tokenizer.eos_token_id)
    return model


def _end_with(model: Any, stop: int) -> None:  # noqa: ANN401  (of transformers)
    """Add the token that the student learns to end with to the model's end tokens."""
    before = model.generation_config.eos_token_id
    earlier = before if isinstance(before, list) else [] if before is None else [before]
    model.generation_config.eos_token_id = [stop, *(token for token in earlier if token != stop)]
    model.config.get_text_config().eos_token_id = stop


def _located(base: str) -> str:
    """Return a folder's absolute path, so that adapters find their base from anywhere; a hub's name unchanged."""
    folder = Path(base).expanduser()
    if folder.is_file():
        raise InputError(f"{base}: this is a file; wanted a model's folder, or its name on the hub")
    if not folder.is_dir():
        if base.startswith((".", "/", "~")) or base.count("/") > 1:
            raise InputError(f"{base}: no such folder; wanted a model's folder, or its name on the hub")
        return base
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{base}: these are adapters, not a model; train them with `merge=True`, and name that folder"
        )
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{base}: not a model: there is no config.json in this folder; wanted one that save_pretrained wrote"
        )
    return str(folder.resolve())


def _stop(base: str, tokenizer: Any) -> str | None:  # noqa: ANN401  (of transformers)
    """Return the special token that the template writes after an answer; None if there is none."""
    jinja = optional("jinja2", extra=EXTRA)
    conversation = [{"role": "user", "content": "How many days?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False)
    except jinja.TemplateError as error:
        raise InputError(
            f"{base}: the chat template fails on a plain conversation: {one_line(error)}"
        ) from error
    before, found, tail = text.rpartition(_ANSWER)
    if not found or not before.strip():
        raise InputError(
            f"{base}: the chat template does not write the question and the answer; give another one"
        )
    special = set(tokenizer.all_special_ids) | {
        id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    ids = tokenizer(tail, add_special_tokens=False)["input_ids"]
    return next((str(tokenizer.convert_ids_to_tokens(id_)) for id_ in ids if id_ in special), None)


def _machine(settings: TrainSettings) -> tuple[str, str]:
    torch = optional("torch", extra=EXTRA)
    device = "cuda" if settings.device == "auto" and torch.cuda.is_available() else "cpu"
    has_bfloat16 = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if settings.dtype == "auto":
        return device, "bfloat16" if has_bfloat16 else "float32"
    if settings.dtype == "bfloat16" and device == "cuda" and not has_bfloat16:
        raise OptionError("`dtype` is bfloat16, which this GPU does not have; leave it out for float32")
    return device, settings.dtype


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries except for errors, and hide their progress bars."""
    datasets = optional("datasets", extra=EXTRA)
    logs = optional("transformers.utils.logging", extra=EXTRA)
    before, bars, drawn = (
        logs.get_verbosity(),
        logs.is_progress_bar_enabled(),
        datasets.are_progress_bars_disabled(),
    )
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():  # raised by one library about another
            warnings.filterwarnings("ignore", ".* is deprecated and will be removed in", FutureWarning)
            yield
    finally:
        logs.set_verbosity(before)
        if bars:
            logs.enable_progress_bar()
        if not drawn:
            datasets.enable_progress_bars()
