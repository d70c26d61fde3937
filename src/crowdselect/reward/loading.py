"""Loads a reward model in the hub's format: configuration, tokenizer, weights; with checks of each."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crowdselect._optional import optional
from crowdselect.errors import InputError, OptionError
from crowdselect.modelfolders import check_model_folder, quiet_hub
from crowdselect.pool.files import fingerprint
from crowdselect.reward.specs import Spec

DTYPES = ("auto", "float32", "bfloat16", "float16")
SIDES = ("auto", "left", "right")
PAIR = "pair"
"""A `chat_template` that passes the conversation and the answer as a pair of texts, as cross-encoders expect."""

_KIND = "reward model"
_AUTO = "AutoModelForSequenceClassification"
_LARGE = 2 << 20  # bytes
_NO_LIMIT = 1_000_000_000  # tokenizers without a maximum length report a far larger number


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """How a model on this machine is run.

    Attributes:
        device: A torch device name; `auto`: a GPU if there is one.
        dtype: `auto`: float32 on a CPU, the model's own on a GPU.
        max_length: Maximum tokens of a conversation; None = the model's limit.
        truncation_side: The side on which a longer one is cut; `auto`: the tokenizer's setting.
        batch_tokens: Maximum tokens of a batch, padding included.
        chat_template: A file with a Jinja template, or `PAIR`; None = the model's own.
        trust_remote_code: Allow code that comes with the model to run.
    """

    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None
    truncation_side: str = "auto"
    batch_tokens: int = 8192
    chat_template: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("dtype", self.dtype, DTYPES),
            ("truncation_side", self.truncation_side, SIDES),
        ):
            if value not in known:
                raise OptionError(f"`{name}` {value!r} is unknown; choose one of: {', '.join(known)}")
        for name, number in (("max_length", self.max_length), ("batch_tokens", self.batch_tokens)):
            if number is not None and number < 8:
                raise OptionError(f"`{name}` {number} is too small; wanted at least 8 tokens")


@dataclass(frozen=True, slots=True)
class Card:
    """A model's configuration and tokenizer, read without its weights; options resolved.

    Attributes:
        config: The configuration, of transformers.
        tokenizer: The tokenizer, of transformers, with the chat template in use.
        options: With `device`, `dtype`, `max_length` and `truncation_side` resolved, no longer `auto`.
        revision: The commit on the hub, or a fingerprint of the folder.
    """

    config: Any
    tokenizer: Any
    options: LocalOptions
    revision: str


def read_card(spec: Spec, options: LocalOptions) -> Card:
    """Read a model's configuration and tokenizer.

    Raises:
        InputError: It is not a model, not a reward model, or has no chat template.
        OptionError: It needs its own code, one of several outputs must be chosen, or an option does not fit.
        MissingExtraError: The extra `reward` is not installed.
    """
    torch = optional("torch", extra="reward")
    transformers = optional("transformers", extra="reward")
    check_model_folder(spec.target)
    trust = options.trust_remote_code
    config = loaded(
        spec.target,
        lambda: transformers.AutoConfig.from_pretrained(**_where(spec), trust_remote_code=trust),
        revision=spec.revision,
        kind=_KIND,
    )
    _check_code(spec, config, trust=trust)
    _check_outputs(spec, config)
    tokenizer = loaded(
        spec.target,
        lambda: transformers.AutoTokenizer.from_pretrained(**_where(spec), trust_remote_code=trust),
        revision=spec.revision,
        kind=_KIND,
    )
    if options.chat_template != PAIR:
        what = f"the one its card names, or {PAIR!r} for a cross-encoder that takes question and answer"
        set_template(spec.target, tokenizer, options.chat_template, such_as=what)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    filled = replace(
        options,
        device=device,
        dtype=_dtype(options.dtype, config, device),
        max_length=options.max_length or _longest(config, tokenizer),
        truncation_side=tokenizer.truncation_side
        if options.truncation_side == "auto"
        else options.truncation_side,
    )
    return Card(config, tokenizer, filled, _revision(spec, config))


def load_model(spec: Spec, card: Card) -> Any:  # noqa: ANN401  (a model of transformers, or of the hub's own code)
    """Load the weights, ready to score.

    Raises:
        InputError: Weights are missing or have other shapes: the scores would be random.
        OptionError: The device cannot be used.
    """
    torch = optional("torch", extra="reward")
    transformers = optional("transformers", extra="reward")
    auto = getattr(transformers, _AUTO)
    trust = card.options.trust_remote_code
    model, report = loaded(
        spec.target,
        lambda: auto.from_pretrained(
            **_where(spec),
            config=card.config,
            dtype=getattr(torch, card.options.dtype),
            trust_remote_code=trust,
            output_loading_info=True,
        ),
        revision=spec.revision,
        kind=_KIND,
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            f"{spec.target}: not a reward model: the weights {', '.join(missing[:3])} are not in it, so its scores "
            "would be random; wanted a sequence classifier with its head"
        )
    try:
        model.to(card.options.device)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"`device` {card.options.device!r} cannot be used: {one_line(error)}") from error
    return model.eval()


def one_line(error: BaseException) -> str:
    """Return an error's message on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _where(spec: Spec) -> dict[str, Any]:
    where = {"pretrained_model_name_or_path": spec.target}
    return where if spec.revision is None else where | {"revision": spec.revision}


def loaded(model: str, load: Callable[[], Any], *, revision: str | None, kind: str) -> Any:  # noqa: ANN401  (whatever is loaded)
    """Load a part of a model, and turn errors of transformers into one line that names the model.

    Args:
        model: Its folder, or its name on the hub.
        load: Loads the part.
        revision: That was asked for; None = the Hub's main one.
        kind: The kind of model wanted, for messages.

    Raises:
        OptionError: The model needs its own code.
        InputError: It does not exist, needs another package, or is not of this kind.
    """
    try:
        with quiet_hub(model):
            return load()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        text = one_line(error)
        if "trust_remote_code" in text:
            raise _needs_code(model) from error
        if isinstance(error, ImportError):
            raise InputError(f"{model}: needs another package: {text}") from error
        if isinstance(error, ConnectionError):
            raise InputError(f"{model}: {text}") from error
        if isinstance(error, OSError) and not Path(model).expanduser().is_dir():
            raise InputError(
                f"{model}: there is no such folder here, and the Hub did not give its revision {revision or 'main'}: {text}"
            ) from error
        raise InputError(f"{model}: cannot be loaded as a {kind}: {text}") from error


def _check_code(spec: Spec, config: Any, *, trust: bool) -> None:  # noqa: ANN401  (of transformers)
    """Refuse a model that needs its own code unless it is trusted; without that code its head would be random."""
    if _AUTO in (getattr(config, "auto_map", None) or {}) and not trust:
        raise _needs_code(spec.target)


def _needs_code(model: str) -> OptionError:
    return OptionError(
        f"{model}: this model needs code that comes with it; read that code, then add `trust_remote_code=True`"
    )


def _check_outputs(spec: Spec, config: Any) -> None:  # noqa: ANN401  (of transformers)
    if spec.part is None and config.num_labels > 1 and _AUTO not in (getattr(config, "auto_map", None) or {}):
        raise OptionError(
            f"{spec.target}: has {config.num_labels} outputs ({names_of(config)}), and a reward is one number; name the "
            f"output as in hf:{spec.target}#{config.id2label[0]}"
        )


def names_of(config: Any) -> str:  # noqa: ANN401  (of transformers)
    """List a model's outputs, for messages."""
    labels = [str(config.id2label[at]) for at in sorted(config.id2label)]
    return ", ".join(labels[:8] + (["..."] if len(labels) > 8 else []))


def set_template(model: str, tokenizer: Any, file: str | None, *, such_as: str) -> None:  # noqa: ANN401  (of transformers)
    """Set a tokenizer's chat template from a file, or check that it has its own.

    Args:
        model: The model's name, for messages.
        tokenizer: The tokenizer, of transformers; it is modified.
        file: A file with a Jinja template; None = the tokenizer's own.
        such_as: A template that would do, for the message that there is none.

    Raises:
        OptionError: The file cannot be read.
        InputError: There is no template.
    """
    if file is not None:
        try:
            tokenizer.chat_template = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"`chat_template` {file}: cannot be read: {one_line(error)}") from error
    elif not tokenizer.chat_template:
        raise InputError(
            f"{model}: its tokenizer has no chat template, so how a conversation is written is unknown; give "
            f"`chat_template`, a file with a Jinja template: {such_as}"
        )


def _dtype(wanted: str, config: Any, device: str) -> str:  # noqa: ANN401  (of transformers)
    if wanted != "auto":
        return wanted
    model_dtype = str(getattr(config, "dtype", None) or "torch.float32").removeprefix("torch.")
    return "float32" if device == "cpu" or model_dtype not in DTYPES else model_dtype


def _longest(config: Any, tokenizer: Any) -> int | None:  # noqa: ANN401  (of transformers)
    known = [tokenizer.model_max_length, getattr(config.get_text_config(), "max_position_embeddings", None)]
    usable = [int(value) for value in known if value is not None and 0 < value < _NO_LIMIT]
    return min(usable, default=None)


def _revision(spec: Spec, config: Any) -> str:  # noqa: ANN401  (of transformers)
    folder = Path(spec.target)
    if not folder.is_dir():
        return str(getattr(config, "_commit_hash", None) or spec.revision or "unknown")
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    # The fingerprint reads both ends of a file: for large files the time shows whether the middle was changed.
    names = "\n".join(
        f"{file.relative_to(folder)} {file.stat().st_mtime_ns if file.stat().st_size > _LARGE else ''}"
        for file in files
    )
    return hashlib.sha256(f"{names}\n{fingerprint(files)}".encode()).hexdigest()
