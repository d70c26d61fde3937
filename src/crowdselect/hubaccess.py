"""The Hub: whether it can be reached, asked once, and what its library's errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from time import monotonic, sleep
from typing import Any

from crowdselect._optional import optional
from crowdselect.errors import InputError, MissingExtraError

_UNREACHABLE = frozenset({"ConnectError", "ConnectTimeout", "ProxyError"})
"""Kinds of errors of HTTP by which no connection comes about; all others mean that something answers."""
_PAUSE = 1.0  # seconds before the second try: the look-up of a name may fail once
_COUNTS = (
    300.0  # seconds that an answer counts: as long as a command plans; a notebook lives longer than an outage
)
_LONGEST = 100  # characters of what the system says
_FAILURES = {
    "GatedRepoError": "it is gated; accept its terms on its page, then log in with `hf auth login`",
    "RepositoryNotFoundError": "there is none of this name, or it is private; check the name, or log in with `hf auth login`",
    "RevisionNotFoundError": "it has no such revision; check what follows the @",
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set, and it is not on this machine yet",
    "ConnectError": "the Hub cannot be reached, and it is not on this machine yet; check the connection",
    "TimeoutException": "the Hub did not answer in time, and it is not on this machine yet; try again",
}
"""Kind of error of huggingface_hub, or of HTTP below it → what to tell."""
_REFUSALS = frozenset({"GatedRepoError", "RepositoryNotFoundError"})
_ABSENT = frozenset({"LocalEntryNotFoundError", "OfflineModeIsEnabled"})
"""Kinds of errors of huggingface_hub about what is not in its cache."""


def hub_trouble(*, extra: str) -> str | None:
    """Say why the Hub cannot be asked, in a second where names are not known or connections refused.

    Without this its library tries six times for every file. A Hub that is slow to answer can be asked: the connection has
    as long as the library gives it (`HF_HUB_ETAG_TIMEOUT`, 10 seconds unless set).

    Args:
        extra: The extra of crowdselect that needs huggingface_hub.

    Returns:
        What is in the way, to be put into a sentence; None = the Hub can be asked.

    Raises:
        MissingExtraError: huggingface_hub is not installed.

    Example:
        >>> hub_trouble.__name__
        'hub_trouble'
    """
    hub = optional("huggingface_hub", extra=extra)
    if hub.constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return _trouble(hub, hub.constants.ENDPOINT, int(monotonic() // _COUNTS))


@lru_cache(maxsize=1)
def _trouble(hub: Any, address: str, _when: int) -> str | None:  # noqa: ANN401  (a module)
    """Ask for the first page by the library's own client, which knows of proxies and certificates."""
    client, said = hub.get_session(), ""
    for pause in (0.0, _PAUSE):
        sleep(pause)
        try:
            client.head(address, timeout=hub.constants.HF_HUB_ETAG_TIMEOUT, follow_redirects=False)
        except Exception as error:  # of httpx or httpx2, as the library has it; others are raised again
            kinds = kinds_of(error)
            if "HTTPError" not in kinds:
                raise
            if not kinds & _UNREACHABLE:
                return None
            said = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
            if "ConnectTimeout" in kinds:  # it had its time
                break
        else:
            return None
    return f"the Hub cannot be reached at {address} ({said}); check the connection"


def ask_for(model: str, *, extra: str) -> str | None:
    """Ask the Hub whether it has a model, without fetching it.

    Args:
        model: Its name on the Hub.
        extra: As for `hub_trouble`.

    Returns:
        Why that is not known, to be put into a sentence, as where huggingface_hub is not installed: a plan is made
        without it; None = it has the model.

    Raises:
        InputError: There is none of this name, or it is gated.

    Example:
        >>> ask_for.__name__
        'ask_for'
    """
    try:
        hub = optional("huggingface_hub", extra=extra)
    except MissingExtraError as error:
        return str(error)
    trouble = hub_trouble(extra=extra)
    if trouble is not None:
        return trouble
    try:
        hub.get_hf_file_metadata(hub.hf_hub_url(model, "config.json"))
    except Exception as error:  # of httpx or httpx2, as the library has it; others are raised again
        kinds = kinds_of(error)
        if kinds & _REFUSALS:
            raise InputError(f"{model}: the Hub does not give this model: {hub_failure(error)}") from error
        if "EntryNotFoundError" in kinds:  # adapters, or vectors, whose description is another file
            return None
        if "HTTPError" not in kinds:
            raise
        return f"the Hub gave no answer ({' '.join(str(error).split())[:_LONGEST] or type(error).__name__})"
    return None


def first_fetched(unasked: str | None) -> str:
    """Say that a model that is not on this machine is fetched first.

    Args:
        unasked: From `ask_for`.

    Example:
        >>> first_fetched(None), first_fetched("HF_HUB_OFFLINE is set")
        ('the model is fetched from the Hub first', 'the model is not on this machine, and whether the Hub has it was not asked: HF_HUB_OFFLINE is set')
    """
    if unasked is None:
        return "the model is fetched from the Hub first"
    return f"the model is not on this machine, and whether the Hub has it was not asked: {unasked}"


@contextmanager
def cache_alone(*, extra: str) -> Iterator[None]:
    """Keep the Hub's library, and what builds on it, to what is on this machine.

    Args:
        extra: As for `hub_trouble`.
    """
    constants = optional("huggingface_hub", extra=extra).constants
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def hub_failure(error: BaseException) -> str | None:
    """Say what failed at the Hub, by its library's kinds of errors: one may say no more than that nothing is cached.

    Args:
        error: As it was caught; what caused it counts first.

    Returns:
        What to tell; None where the Hub's library is not what failed.

    Example:
        >>> hub_failure(ValueError("no JSON"))
    """
    kinds = [kind.__name__ for each in chain_of(error)[::-1] for kind in type(each).__mro__]
    return next((_FAILURES[kind] for kind in kinds if kind in _FAILURES), None)


def is_absent(error: BaseException) -> bool:
    """Say whether an error is about what is not in the cache of the Hub's library.

    Example:
        >>> is_absent(ValueError("no JSON"))
        False
    """
    return any(kinds_of(each) & _ABSENT for each in chain_of(error))


def kinds_of(error: BaseException) -> set[str]:
    """The names of an error's class and of those it inherits."""
    return {kind.__name__ for kind in type(error).__mro__}


def chain_of(error: BaseException) -> list[BaseException]:
    """An error and what caused it, the cause last."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain
