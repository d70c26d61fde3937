"""Fixtures shared by all tests: the real pools, and a cache folder of the test's own."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("crowdselect", deadline=None)  # machines differ; a slow example is no failure
settings.load_profile("crowdselect")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of the real pools; without CROWDSELECT_DATA the tests that need it are skipped and counted."""
    folder = os.environ.get("CROWDSELECT_DATA")
    if not folder:
        pytest.skip("CROWDSELECT_DATA is not set: the real pools are not here")
    return Path(folder).resolve(strict=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are cached in a folder of this test, never in the user's."""
    monkeypatch.setenv("CROWDSELECT_CACHE", str(tmp_path_factory.mktemp("cache")))
