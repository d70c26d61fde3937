"""crowd.toml: what it may hold, what is refused and how the refusal is worded; keys and where they go."""

import pytest

from crowdselect.ask.endpoints import Endpoint, check_reachable, key, load_endpoints
from crowdselect.ask.redact import Redactor
from crowdselect.crowd import Crowd
from crowdselect.errors import InputError, OptionError

FILE = """
[defaults]
base_url = "https://api.example.com/v1/"
api_key_env = "SOME_KEY"
temperature = 0.7
max_tokens = 100
extra_body = { top_k = 5 }

[[model]]
name = "oak-7b"
family = "oak"
size_b = 7
model = "oak-7b-instruct"
temperature = 1
extra_body = { min_p = 0.1 }
price_in = 0
price_out = 2.5

[[model]]
name = "here"
local = "some/folder"

[[judge]]
name = "judge"
max_tokens = 5
"""


def write(folder, text):
    path = folder / "crowd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_holds_models_judges_and_defaults(tmp_path):
    path = write(tmp_path, FILE)
    found = load_endpoints(path)
    oak, here = found.models
    assert (oak.name, oak.role, oak.model, oak.base_url) == (
        "oak-7b",
        "model",
        "oak-7b-instruct",
        "https://api.example.com/v1",
    )
    assert (oak.temperature, oak.max_tokens, oak.extra_body) == (1.0, 100, {"top_k": 5, "min_p": 0.1})
    assert (oak.price_in, oak.price_out) == (0.0, 2.5)
    assert (here.base_url, here.local, here.model) == (None, "some/folder", "some/folder")
    (judge,) = found.judges
    assert (judge.name, judge.role, judge.max_tokens, judge.temperature) == ("judge", "judge", 5, 0.7)
    assert [m.name for m in Crowd.from_file(path).members] == [
        "oak-7b",
        "here",
    ]  # `select --crowd` takes the same


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[[model]]\nname = 'a'\nmax_tokns = 5",
            "model 'a': unknown key 'max_tokns'; did you mean 'max_tokens'?",
        ),
        ("[default]\nseed = 1", "unknown key 'default'; did you mean 'defaults'?"),
        ("[defaults]\nnam = 'x'", "[defaults]: unknown key 'nam'"),
        ("[[model]]\nname = 'a'\napi_key = 'sk-secret'", "'api_key' looks like a secret"),
        (
            "[[model]]\nname = 'a'\nextra_body = { x = { Authorization = 'sk-secret' } }",
            "'Authorization' looks like a secret",
        ),
        ("[[model]]\nname = 'a'\napi_key_env = 'sk-sec-ret'", "must be the name of an environment variable"),
        ("[[model]]\nname = 'a'\nbase_url = 'ftp://host/v1'", "must begin with http:// or https://"),
        ("[[model]]\nname = 'a'\nbase_url = 'https:///v1'", "name a host"),
        ("[[model]]\nname = 'a'\nbase_url = 'https://host:x/v1'", "is not a URL"),
        ("[[model]]\nname = 'a'\nbase_url = 'https://sk-secret@host/v1'", "holds user information"),
        ("[[model]]\nname = 'a'\nbase_url = 'https://host/v1?key=sk-secret'", "query or fragment"),
        ("[[model]]\nname = 'a'\nbase_url = 'https://host/v1#sk-secret'", "query or fragment"),
        (
            "[[model]]\nname = 'a'\nbase_url = 'http://example.com/v1'\napi_key_env = 'K'",
            "not to 'example.com'",
        ),
        (
            "[[model]]\nname = 'a'\nbase_url = 'http://localhost.example.com/v1'\napi_key_env = 'K'",
            "not to 'localhost.example.com'",
        ),
        ("[[model]]\nname = 'a'\nbase_url = 'http://h/v1'\nlocal = 'x'", "both base_url and local"),
        (
            "[[model]]\nname = 'a'\ntemperature = 'hot'",
            "temperature must be a number of at least 0, got 'hot'",
        ),
        ("[[model]]\nname = 'a'\ntop_p = 1.5", "top_p must be a number above 0 and at most 1, got 1.5"),
        ("[[model]]\nname = 'a'\nmax_tokens = 0", "max_tokens must be a whole number of at least 1, got 0"),
        (
            "[[model]]\nname = 'a'\nmax_tokens = 1.5",
            "max_tokens must be a whole number of at least 1, got 1.5",
        ),
        ("[[model]]\nname = 'a'\nmax_tokens = true", "got True"),
        ("[[model]]\nname = 'a'\nprice_in = -1", "price_in must be a number of at least 0, got -1"),
        ("[[model]]\nname = 'a'\nprice_in = nan", "price_in must be a number of at least 0, got nan"),
        ("[[model]]\nname = 'a'\ntimeout = inf", "timeout must be a number above 0, got inf"),
        ("[[model]]\nname = 'a'\nsystem = 3", "system must be text, got 3"),
        ("[[model]]\nname = 'a'\nextra_body = 3", "extra_body must be a table, got 3"),
        (
            "[[model]]\nname = 'a'\ntop_p = 'default'",
            "top_p must be a number above 0 and at most 1, got 'default'",
        ),
        ("[[model]]\nname = 'a'\nlogprobs = false", "unknown key 'logprobs'"),
        ("[[judge]]\nname = 'a'\nlogprobs = 'no'", "logprobs must be true or false, got 'no'"),
        ("[[model]]\nname = 'a'\nextra_body = { n = 3 }", "extra_body cannot hold 'n'"),
        ("[[model]]\nname = 'a'\nextra_body = { t = 2020-01-01 }", "cannot be sent as JSON"),
        ("[[model]]\nname = 'a'\n[[model]]\nname = 'a'", "model 'a' appears twice"),
        ("[[model]]\nbase_url = 'http://h'", "[[model]] number 1 needs a name as text, got None"),
        ("model = 3", "'model' is not a list of tables"),
        ("defaults = 3", "'defaults' is not a table"),
        ("[[model]\n", "broken TOML"),
    ],
)
def test_what_makes_no_sense_is_refused_with_file_table_and_key(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_endpoints(path)
    said = str(caught.value)
    assert words in said
    assert str(path) in said
    assert "sk-secret" not in said
    assert "sk-sec-ret" not in said
    assert "\n" not in said


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no such crowd file"):
        load_endpoints(tmp_path / "none.toml")
    with pytest.raises(InputError, match="wanted a TOML file"):
        load_endpoints(tmp_path / "crowd.json")
    (tmp_path / "bad.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(InputError, match="byte 9 is not UTF-8"):
        load_endpoints(tmp_path / "bad.toml")


def test_a_model_must_be_reachable_and_its_key_at_hand(tmp_path, monkeypatch):
    path = write(tmp_path, "[[model]]\nname = 'a'")
    with pytest.raises(InputError, match="model 'a' has neither base_url nor local"):
        check_reachable(load_endpoints(path), path=path)
    path = write(tmp_path, "[[judge]]\nname = 'a'")
    with pytest.raises(InputError, match="no \\[\\[model\\]\\] table"):
        check_reachable(load_endpoints(path), path=path)
    path = write(tmp_path, "[[model]]\nname = 'a'\nbase_url = 'https://h/v1'\napi_key_env = 'CROWD_TEST_KEY'")
    monkeypatch.delenv("CROWD_TEST_KEY", raising=False)
    with pytest.raises(OptionError, match="model 'a': the environment variable CROWD_TEST_KEY is not set"):
        check_reachable(load_endpoints(path), path=path)
    monkeypatch.setenv("CROWD_TEST_KEY", "sk-\u00e9")
    with pytest.raises(OptionError, match="characters that no key has"):
        check_reachable(load_endpoints(path), path=path)
    monkeypatch.setenv("CROWD_TEST_KEY", " sk-1234\n")
    check_reachable(load_endpoints(path), path=path)
    assert key(load_endpoints(path).models[0]) == "sk-1234"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_a_key_over_plain_http_goes_to_this_machine(tmp_path, host):
    text = f"[[model]]\nname = 'a'\nbase_url = 'http://{host}:8000/v1'\napi_key_env = 'K'"
    (endpoint,) = load_endpoints(write(tmp_path, text)).models
    assert endpoint.is_loopback
    assert endpoint.host == f"http://{host}:8000"


def test_the_digest_is_of_what_changes_answers():
    base = {"name": "a", "model": "m", "base_url": "http://one/v1"}
    same = [
        {"base_url": "http://two/v1"},
        {"timeout": 3.0},
        {"price_in": 1.0},
        {"max_concurrency": 2},
        {"api_key_env": "K"},
    ]
    other = [
        {"name": "b"},
        {"model": "n"},
        {"system": "s"},
        {"temperature": 0.0},
        {"top_p": 0.5},
        {"max_tokens": 3},
        {"seed": 0},
    ]
    digest = Endpoint(**base).digest
    assert all(Endpoint(**{**base, **change}).digest == digest for change in same)
    digests = {
        digest,
        *(Endpoint(**{**base, **change}).digest for change in [*other, {"extra_body": {"x": 1}}]),
    }
    assert len(digests) == len(other) + 2


def test_unknown_is_not_nothing():
    assert Endpoint("a", price_in=1.0, price_out=2.0).cost(1_000_000, 500_000) == 2.0
    assert Endpoint("a", price_in=1.0).cost(10, 10) is None
    assert Endpoint("a", price_in=1.0, price_out=1.0).cost(None, 10) is None
    assert Endpoint("a", price_in=0.0, price_out=0.0).cost(None, None) == 0.0


def test_what_answers_in_this_process_costs_nothing_unless_the_file_says_so():
    assert Endpoint("a", local="models/a").cost(10, None) == 0.0
    assert Endpoint("a", local="models/a", price_out=2.0).cost(0, 1_000_000) == 2.0
    assert Endpoint("a").most_tokens is None
    assert Endpoint("a", max_tokens=5, extra_body={"max_completion_tokens": 9}).most_tokens == 9


def test_keys_are_replaced_and_short_ones_only_in_errors():
    redact = Redactor({"LONG": "sk-0123456789", "LONGER": "sk-0123456789abc", "SHORT": "ollama"})
    assert redact.text("sk-0123456789abc, sk-0123456789, ollama") == "[LONGER], [LONG], ollama"
    assert redact.error("bad key ollama") == "bad key [SHORT]"


def test_the_servers_own_temperature(tmp_path):
    """`"default"` in a table wins over a number in `[defaults]`, and the other way round; none is sent."""
    text = "[defaults]\ntemperature = 0.5\n[[model]]\nname = 'a'\ntemperature = 'default'\n[[model]]\nname = 'b'\n"
    one, other = load_endpoints(write(tmp_path, text)).models
    assert (one.temperature, one.default_temperature, one.fields()) == (None, True, {})
    assert (other.temperature, other.default_temperature) == (0.5, False)
    text = "[defaults]\ntemperature = 'default'\n[[judge]]\nname = 'j'\ntemperature = 0.2\nlogprobs = false\n"
    (judge,) = load_endpoints(write(tmp_path, text)).judges
    assert (judge.temperature, judge.default_temperature, judge.logprobs) == (0.2, False, False)
