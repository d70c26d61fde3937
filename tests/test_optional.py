"""How an extra is installed: as crowdselect itself was."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from crowdselect import _optional
from crowdselect._optional import install_command, optional
from crowdselect.errors import MissingExtraError

ROOT = Path(__file__).resolve().parent.parent


class Installed:
    """A distribution as `importlib.metadata` finds it."""

    requires = (
        "numpy>=2.0",
        "altair>=5.5; extra == 'report'",
        'budoux; python_version >= "3.11" and extra == "report"',
        "torch>=2.4; extra == 'reward'",
    )

    def __init__(self, **origin) -> None:
        self._origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return json.dumps(self._origin) if self._origin else None


@pytest.fixture
def installed(monkeypatch):
    """Say how crowdselect was installed."""

    def said(**origin):
        monkeypatch.setattr(_optional, "distribution", lambda name: Installed(**origin))

    return said


def test_from_an_index(installed):
    installed()
    assert install_command("report") == "pip install 'crowdselect[report]'"


@pytest.mark.parametrize(("editable", "option"), [(True, "-e "), (False, "")])
def test_from_a_checkout(installed, tmp_path, editable, option):
    place = tmp_path / "my crowdselect's"
    place.mkdir()
    installed(url=place.as_uri(), dir_info={"editable": editable} if editable else {})
    quoted = str(place).replace("'", "'\"'\"'")
    assert install_command("report") == f"pip install {option}'{quoted}[report]'"


def test_from_a_wheel_that_is_there_and_one_that_is_gone(installed, tmp_path):
    wheel = tmp_path / "crowdselect-0.1.0-py3-none-any.whl"
    installed(url=wheel.as_uri(), archive_info={})
    assert install_command("report") == "pip install 'altair>=5.5' budoux"
    wheel.touch()
    assert install_command("report") == f"pip install '{wheel}[report]'"


def test_from_an_address(installed):
    url = "https://example.org/crowdselect"
    installed(url=url, vcs_info={"vcs": "git", "commit_id": "1a2b"})
    assert install_command("report") == f"pip install 'crowdselect[report] @ git+{url}@1a2b'"
    installed(url=f"{url}.whl", archive_info={})
    assert install_command("report") == f"pip install 'crowdselect[report] @ {url}.whl'"


def test_from_a_source_tree_that_is_not_installed(monkeypatch):
    def none(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_optional, "distribution", none)
    assert install_command("report") == f"pip install -e '{ROOT}[report]'"


def test_an_error_holds_the_command(installed):
    installed()
    with pytest.raises(MissingExtraError, match=r"run: pip install 'crowdselect\[ray\]'"):
        optional("no_such_package", extra="ray")
