"""What describes the project to others agrees with the project: citation, workflow, hooks, pages."""

import importlib.util
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import crowdselect
from crowdselect.methods import METHODS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def parsed(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_citation_is_of_this_version():
    citation = parsed("CITATION.cff")
    assert citation["version"] == crowdselect.__version__ == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [
        author["name"] for author in PROJECT["authors"]
    ]
    (paper,) = citation["references"]
    assert paper["url"] in (ROOT / "README.md").read_text(encoding="utf-8")


def test_workflow_runs_the_test_command_on_every_python_of_the_classifiers():
    workflow = parsed(".github/workflows/test.yml")
    job = workflow["jobs"]["test"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert job["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert job["steps"][-1]["run"] == "make test PYTHON=python3"
    assert workflow["permissions"] == {"contents": "read"}
    for step in job["steps"]:
        assert "run" in step or re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])


def test_hooks_check_what_make_lint_checks():
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        command = " ".join(word for word in hook["entry"].split()[:2] if not word.startswith("-"))
        assert command.replace(".venv/bin", "$(BIN)") in lint


def test_navigation_names_every_page_once():
    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        return [
            page for part in (entry if isinstance(entry, list) else entry.values()) for page in pages(part)
        ]

    named = pages(parsed("mkdocs.yml")["nav"])
    own = sorted(page for page in named if not page.startswith("proving-ground/"))
    assert own == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_every_name_of_the_python_page_exists():
    named = re.findall(r"(?m)^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    assert set(named) >= {f"crowdselect.{name}" for name in ("Options", "open_pool", "select", "export")}
    for name in named:
        home, last = name.rsplit(".", 1)
        if not hasattr(import_module(home), last):
            import_module(name)


def test_the_pages_of_commands_and_methods_are_current():
    maker = ROOT / "docs" / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", maker)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    current = (
        module.PAGE.read_text(encoding="utf-8") == module.reference()
    )  # no long diff: the next line says what to do
    assert current, "docs/cli.md is not what the commands say: run `python docs/make_reference.py`"
    page = module.METHODS_PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}" in page for name in METHODS)
    current = page == module.with_methods(page)
    assert current, "docs/methods.md is not what the methods say: run `python docs/make_reference.py`"
    for command in ("select", "collect", "evaluate mt-bench"):
        assert f"\n## crowdselect {command}\n" in module.reference()


@pytest.mark.parametrize(
    "page", [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md"], ids=lambda p: p.name
)
def test_links_to_files_are_of_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith("proving-ground/"):  # pages of the site alone: docs/proving_ground.py
            assert (page.parent / target).exists(), target
