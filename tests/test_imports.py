"""Imports run one way, in the order that docs/architecture.md states; heavy and optional packages keep their place."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "crowdselect"
DOCS = ROOT / "docs" / "architecture.md"
PACKAGES = {"scikit-learn": "sklearn"}  # whose import has another name


def modules() -> dict[str, ast.Module]:
    """Every module by its dotted name inside the package; the front door is left out, as it imports lazily."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__":
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.AST) -> set[str]:
    """Dotted names that a module imports, anywhere in it; `from crowdselect import x` gives `crowdselect.x`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            if node.module == "crowdselect":
                names.update(f"crowdselect.{alias.name}" for alias in node.names)
            else:
                names.add(str(node.module))
    return names


def own(tree: ast.AST) -> set[str]:
    return {n.removeprefix("crowdselect.") for n in imported(tree) if n.startswith("crowdselect.")} - {
        "__version__"
    }


def foreign(tree: ast.AST) -> set[str]:
    """Top-level packages that come with neither Python nor us; what only type checkers read does not count."""
    checked = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    unread = {id(inner) for node in checked for inner in ast.walk(node)}
    kept = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) and id(n) not in unread]
    names = {name.partition(".")[0] for node in kept for name in imported(node)}
    return names - set(sys.stdlib_module_names) - {"crowdselect"}


def gated(tree: ast.AST) -> set[str]:
    """Packages that a module passes through the gate: `optional("package", extra=...)`."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    named = [c.args[0] for c in calls if c.func.id == "optional" and c.args]
    return {str(a.value).partition(".")[0] for a in named if isinstance(a, ast.Constant)}


def order() -> list[str]:
    """The packages in the order in which they may import, as docs/architecture.md states it."""
    said = DOCS.read_text(encoding="utf-8").split("(a test holds it)")[1].split("\n## ")[0]
    line = next(line for line in said.split("\n") if line.startswith("`base`"))
    return re.findall(r"`([a-z]+)`", line)


def room(name: str) -> str:
    """The package of a module; what lies at the top is the base."""
    return name.partition(".")[0] if name.partition(".")[0] in ORDER else "base"


MODULES = modules()
ORDER = order()
GATED = set().union(*(gated(tree) for tree in MODULES.values()))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAMES = [re.match(r"[\w-]+", dependency)[0] for dependency in PROJECT["dependencies"]]
ALWAYS = {PACKAGES.get(name, name) for name in NAMES}


def test_the_order_names_every_package_and_no_other():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert len(ORDER) == len(set(ORDER))
    assert set(ORDER) == {"base", *packages}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_its_package_may(name):
    allowed = set(ORDER[: ORDER.index(room(name)) + 1])
    upwards = sorted(n for n in own(MODULES[name]) if room(n) not in allowed)
    front = {"__main__": ["cli.main"]}
    assert upwards == front.get(name, []), f"{name} imports {upwards}: later in docs/architecture.md"


def test_no_module_imports_itself_by_a_detour():
    known = {name: {n for n in own(tree) if n in MODULES} for name, tree in MODULES.items()}
    TopologicalSorter(known).prepare()  # raises CycleError, which names the modules


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("numeric.")])
def test_the_numeric_core_sees_arrays_only(name):
    outside = {n for n in own(MODULES[name]) if not n.startswith("numeric")}
    assert outside <= {"errors", "seeding", "types"}
    assert foreign(MODULES[name]) <= {"numpy", "scipy", "sklearn", "threadpoolctl"}


@pytest.mark.parametrize("name", MODULES)
def test_only_dependencies_are_imported_by_name(name):
    """Everything else is optional: it passes the one gate, which names the extra, before a function imports it."""
    assert foreign(MODULES[name]) <= ALWAYS | GATED
    at_start = [node for node in MODULES[name].body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert set().union(*(foreign(node) for node in at_start)) <= ALWAYS


def test_the_dependencies_are_few_and_all_used():
    assert len(NAMES) <= 13  # scipy, threadpoolctl and markupsafe come with others anyway
    assert set().union(*(foreign(tree) for tree in MODULES.values())) >= ALWAYS


def test_a_selection_loads_no_optional_package(sim, tmp_path):
    code = (
        "import sys\n"
        "from crowdselect import Options, export, open_pool, select\n"
        f"with open_pool({str(sim)!r}) as pool:\n"
        f"    export(select(pool, Options(budget=5, clusters=2)), pool, {str(tmp_path / 'out')!r})\n"
        "optional = {'torch', 'transformers', 'sentence_transformers', 'datasets', 'trl', 'huggingface_hub',\n"
        "            'matplotlib', 'ray', 'httpx', 'openai'}\n"
        "print(sorted(optional & set(sys.modules)))\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_cycles_and_upward_imports_would_be_seen():
    """The checks above, on code that breaks the rule."""
    assert own(ast.parse("def f():\n    from crowdselect.cli import main\n")) == {"cli"}
    assert own(ast.parse("from crowdselect import errors as known, __version__")) == {"errors"}
    assert foreign(ast.parse("import torch.nn, os\nimport numpy as np")) == {"torch", "numpy"}
    assert gated(ast.parse("optional('altair.vegalite', extra='report')\nimport altair")) == {"altair"}
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
    assert foreign(ast.parse(typed)) == set()
