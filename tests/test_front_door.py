"""`import crowdselect`: its names are what it says they are, and it costs nothing until one is used."""

import inspect
import pickle
import subprocess
import sys

import pytest

import crowdselect
from crowdselect import errors

NAMES = [
    "METRICS",
    "Crowd",
    "CrowdselectError",
    "Options",
    "Pool",
    "Selection",
    "difficulty",
    "explore",
    "export",
    "load_selection",
    "open_pool",
    "random_control",
    "select",
    "separability",
    "stability",
    "status",
]


def test_the_names_are_these_and_resolve():
    """A name that is added or taken away is a decision: it shows here."""
    assert sorted(crowdselect.__all__) == sorted(set(crowdselect.__all__))
    assert set(NAMES) <= set(crowdselect.__all__)
    for name in crowdselect.__all__:
        found = getattr(crowdselect, name)
        if name != "METRICS":
            assert found.__name__ == name
            assert found.__module__.startswith("crowdselect.")
    assert set(crowdselect._HOMES) == set(crowdselect.__all__)


def test_no_module_bears_a_name_of_the_front_door():
    """`crowdselect.select` must mean one thing, whatever was imported before."""
    import pkgutil

    submodules = {module.name for module in pkgutil.iter_modules(crowdselect.__path__)}
    assert not submodules & set(crowdselect.__all__)


def test_an_unknown_name_lists_those_that_are_there():
    with pytest.raises(AttributeError, match=r"no attribute 'Select'; it has: METRICS, Crowd, .*stability"):
        crowdselect.Select  # noqa: B018


@pytest.mark.parametrize("name", crowdselect.__all__)
def test_every_name_is_explained(name):
    found = getattr(crowdselect, name)
    assert name == "METRICS" or inspect.getdoc(found)


def test_importing_loads_nothing():
    code = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import crowdselect\n"
        "assert crowdselect.__version__\n"
        "print([n for n in sorted(set(sys.modules) - before) if n.split('.')[0] not in sys.stdlib_module_names])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "['crowdselect']\n"


def test_star_import_gives_just_the_names():
    code = "from crowdselect import *\nprint(sorted(n for n in dir() if not n.startswith('__')))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == f"{sorted(crowdselect.__all__)}\n"


# Errors: one tree, each also the built-in that it stands for


ERRORS = [e for e in vars(errors).values() if inspect.isclass(e) and issubclass(e, Exception)]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_is_ours_a_builtin_and_picklable(error):
    assert issubclass(error, errors.CrowdselectError)
    assert error.__doc__
    assert f"{error.__name__}" in errors.__doc__ or error is errors.CrowdselectError
    builtin = (ValueError, OSError, ImportError, RuntimeError)
    assert error is errors.CrowdselectError or issubclass(error, builtin)
    again = pickle.loads(pickle.dumps(error("what came, what was wanted")))
    assert type(again) is error
    assert str(again) == "what came, what was wanted"
