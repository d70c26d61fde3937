"""Which client an endpoint is asked through."""

from crowdselect.ask.calls import Client
from crowdselect.ask.endpoints import Endpoint, key


def open_client(endpoint: Endpoint) -> Client:
    """Make the client for an endpoint: HTTP for a `base_url`, transformers for a `local` model.

    Raises:
        OptionError: The endpoint's key is not in the environment.
        MissingExtraError: The client's library is not installed.
    """
    if endpoint.local is not None:
        from crowdselect.ask.local_client import LocalClient

        return LocalClient(endpoint)
    from crowdselect.ask.http_client import HttpClient

    return HttpClient(endpoint, key=key(endpoint))
