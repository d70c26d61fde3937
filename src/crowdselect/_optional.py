"""The one gate to optional packages: an error about a missing one holds the command that installs it."""

import json
import re
import shlex
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from crowdselect.errors import MissingExtraError

_NAME = "crowdselect"


def optional(module: str, *, extra: str) -> Any:  # noqa: ANN401  (a module's attributes have any type)
    """Import an optional package.

    Args:
        module: Dotted name, for example `"sentence_transformers"`.
        extra: The extra of crowdselect that installs it.

    Returns:
        The module.

    Raises:
        MissingExtraError: It is not installed. Nothing else is used in its place.

    Example:
        >>> optional("math", extra="none").sqrt(4.0)
        2.0
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # installed, but one of its own dependencies is missing: that message is the useful one
        raise _missing(module, extra) from error


def check_optional(module: str, *, extra: str) -> None:
    """Check that an optional package is installed, without loading it.

    Args:
        module: Its name, without a dot.
        extra: The extra of crowdselect that installs it.

    Raises:
        MissingExtraError: It is not installed.

    Example:
        >>> check_optional("math", extra="none")
    """
    if find_spec(module) is None:
        raise _missing(module, extra)


def install_command(extra: str) -> str:
    """Return the command that installs an extra the way crowdselect itself was installed.

    A checkout or a wheel is installed from its path, a repository from its address. `crowdselect[extra]` is used only
    if crowdselect came from an index. If the path no longer exists, the packages of the extra are named instead.

    Args:
        extra: The name of an extra of crowdselect.

    Returns:
        A command that can be pasted into a shell.

    Example:
        >>> install_command("report").startswith("pip install ")
        True
    """
    try:
        found = distribution(_NAME)
    except PackageNotFoundError:  # run from its source tree, not installed
        return _from_path(Path(__file__).parents[2], extra, editable=True)
    text = found.read_text("direct_url.json")
    if text is None:  # PEP 610: it came from an index
        return _pip(f"{_NAME}[{extra}]")
    origin = json.loads(text)
    address = urlsplit(origin["url"])
    if address.scheme != "file":
        return _pip(f"{_NAME}[{extra}] @ {_remote(origin)}")
    path = Path(url2pathname(address.path))
    if path.exists():
        return _from_path(path, extra, editable=origin.get("dir_info", {}).get("editable", False))
    return _pip(*_packages(found, extra))


def _from_path(path: Path, extra: str, *, editable: bool) -> str:
    return _pip(*(["-e"] if editable else []), f"{path}[{extra}]")


def _remote(origin: dict[str, Any]) -> str:
    """Return the address of an archive or a repository, as pip takes it."""
    version_control = origin.get("vcs_info")
    if version_control is None:
        return str(origin["url"])
    return f"{version_control['vcs']}+{origin['url']}@{version_control['commit_id']}"


def _packages(found: Distribution, extra: str) -> list[str]:
    """Return what an extra requires, without the markers for platforms and Python versions."""
    named = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    split = (line.partition(";") for line in found.requires or [])
    return [requirement.strip() for requirement, _, marker in split if named.search(marker)]


def _pip(*words: str) -> str:
    return shlex.join(["pip", "install", *words])


def _missing(module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(f"{module} is not installed; run: {install_command(extra)}")
