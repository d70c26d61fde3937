"""Which client an endpoint is asked through."""

from crowdselect.collect.calls import Client
from crowdselect.collect.endpoints import Endpoint, key


def open_client(endpoint: Endpoint) -> Client:
    """Make the client for an endpoint: HTTP for a `base_url`, transformers for a `local` model.

    Raises:
        OptionError: The endpoint's key is not in the environment.
        MissingExtraError: The client's library is not installed.
    """
    if endpoint.local is not None:
        from crowdselect.collect.local_client import LocalClient

        return LocalClient(endpoint)
    from crowdselect.collect.http_client import HttpClient

    return HttpClient(endpoint, key=key(endpoint))
