"""Parameters that a server refuses: left out or sent under another name from then on, or the line to write instead."""

from dataclasses import replace

from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Ledger

REFUSED = "refused"
"""The ledger's note of what servers refuse: name and model of an endpoint, parameter."""
_LOGPROBS = ("logprobs", "top_logprobs")
_LINES = {
    "temperature": 'write `temperature = "default"` in its table of the crowd file',
    **dict.fromkeys(_LOGPROBS, "write `logprobs = false` in its table of the crowd file"),
}


def without(endpoint: Endpoint, parameter: str) -> Endpoint | None:
    """Return the endpoint as it is asked where its server refuses a parameter.

    `max_tokens` becomes `max_completion_tokens`; what a command added by itself (`Endpoint.waived`) is left out.

    Args:
        endpoint: The endpoint.
        parameter: A field of its requests.

    Returns:
        The endpoint with other settings, as if the user had written them; None if nothing may take the place of
        what was written, or the field is not sent.

    Example:
        >>> without(Endpoint("m", max_tokens=16), "max_tokens").fields()
        {'max_completion_tokens': 16}
        >>> without(Endpoint("m", temperature=0.5), "temperature") is None
        True
    """
    fields, extra = endpoint.fields(), dict(endpoint.extra_body)
    if parameter not in fields:
        return None
    if parameter == "max_tokens":
        extra.pop("max_tokens", None)
        limit = {"max_completion_tokens": fields["max_tokens"]}
        return replace(endpoint, max_tokens=None, extra_body=limit | extra)
    if parameter not in endpoint.waived:
        return None
    if parameter in _LOGPROBS:
        return replace(
            endpoint, extra_body={name: value for name, value in extra.items() if name not in _LOGPROBS}
        )
    return replace(endpoint, temperature=None)


def accepted(ledger: Ledger, endpoint: Endpoint) -> Endpoint:
    """Return an endpoint as its server takes it, by what the ledger knows; its answers are there under these settings."""
    for name, model, parameter in ledger.noted(REFUSED) or ():
        if (name, model) == (endpoint.name, endpoint.model):
            endpoint = without(endpoint, parameter) or endpoint
    return endpoint


def keep_refusal(ledger: Ledger, endpoint: Endpoint, parameter: str) -> None:
    """Record that an endpoint's server refuses a parameter, so that no later request has it.

    Raises:
        LedgerError: It cannot be written.
    """
    known = ledger.noted(REFUSED) or []
    ledger.note(REFUSED, [*known, [endpoint.name, endpoint.model, parameter]])
    ledger.flush()


def renamed_refusals(ledger: Ledger, before: str, name: str) -> list[list[str]]:
    """Return what servers refuse, with an endpoint under its new name."""
    return [
        [name if known == before else known, model, parameter]
        for known, model, parameter in ledger.noted(REFUSED) or ()
    ]


def line_to_write(endpoint: Endpoint, parameter: str) -> str:
    """Say what to write in the crowd file instead of a parameter that the server refuses.

    Example:
        >>> line_to_write(Endpoint("m", top_p=0.5), "top_p")
        "leave 'top_p' out of its table of the crowd file"
        >>> line_to_write(Endpoint("m", extra_body={"top_k": 1}), "top_k")
        "leave 'top_k' out of its extra_body in the crowd file"
    """
    if parameter in endpoint.extra_body and not (parameter in _LOGPROBS and endpoint.logprobs):
        return f"leave {parameter!r} out of its extra_body in the crowd file"
    return _LINES.get(parameter, f"leave {parameter!r} out of its table of the crowd file")


def said(endpoint: Endpoint, parameter: str) -> str:
    """Say which parameter a server refuses, and what is done about it."""
    instead = (
        "'max_completion_tokens' is sent instead" if parameter == "max_tokens" else "it is no longer sent"
    )
    return f"{endpoint.name}: the server refuses {parameter!r}; {instead}"
