"""Reward models behind HTTP: the shapes of vLLM and of text-embeddings-inference, and what goes wrong on the way."""

import socket

import pytest

from crowdselect.errors import CallError, OptionError
from crowdselect.reward import served
from crowdselect.reward.protocol import Item
from crowdselect.reward.served import ServedOptions, ServedScorer
from crowdselect.reward.shapes import APIS, rewards
from crowdselect.reward.specs import parse_spec
from reward_server import VLLM, RewardServer, raw_reward

ANSWERS = ["short", "a longer answer", "x" * 100, "naïve 日本語", ""]
ITEMS = [
    Item([{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": a}])
    for n, a in enumerate(ANSWERS)
]


def outcomes(server, items=ITEMS, *, path="", part="", **options):
    made = ServedScorer(parse_spec(f"{server.url}{path}{part}"), ServedOptions(**options), wait=0.01)
    found = {at: outcome for some in made.score(items) for at, outcome in some}
    made.close()
    assert sorted(found) == list(range(len(items)))
    return [found[at] for at in range(len(items))], made


@pytest.mark.parametrize("path", VLLM)
@pytest.mark.parametrize("how", ["path", "api", "auto"])
def test_vllm(path, how):
    with RewardServer(path) as server:
        options = {"path": path} if how == "path" else {"api": path[1:]} if how == "api" else {}
        found, made = outcomes(server, part="#org/model", **options)
        assert [o.score for o in found] == pytest.approx([raw_reward(a) for a in ANSWERS])
        assert all(
            body["use_activation"] is False and body["model"] == "org/model" for body in server.posted(path)
        )
        assert made.notes == ([f"asked at {path}"] if how == "auto" else [])
        assert made.settings["model"] == "org/model"


@pytest.mark.parametrize("how", ["path", "auto"])
def test_text_embeddings_inference(how):
    with RewardServer("/predict") as server:
        found, _ = outcomes(server, path="/predict" if how == "path" else "")
        assert [o.score for o in found] == pytest.approx([raw_reward(a) for a in ANSWERS])
        (body,) = server.posted("/predict")
        assert body == {
            "inputs": [[f"Q{n}", a] for n, a in enumerate(ANSWERS)],
            "raw_scores": True,
            "truncate": True,
        }


def test_an_activation_that_stays_on_is_said():
    many = [Item([*ITEMS[0].messages[:1], {"role": "assistant", "content": "x" * n}]) for n in range(20)]
    with RewardServer("/score", always_active=True) as server:
        _, made = outcomes(server, many, path="/score")
        assert any(
            "all 20 scores are between 0 and 1 although raw ones were asked for" in n for n in made.notes
        )
        _, made = outcomes(server, many[:3], path="/score")
        assert made.notes == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_servers_are_asked_again(status):
    with RewardServer("/classify", faults={0: status, 2: status}) as server:
        found, _ = outcomes(server, path="/classify")
        assert [o.score for o in found] == pytest.approx([raw_reward(a) for a in ANSWERS])
        assert len(server.requests) == 7


def test_what_never_comes_is_missing_and_may_be_asked_again():
    with RewardServer("/classify", faults=dict.fromkeys(range(6), 503)) as server:
        found, _ = outcomes(server, path="/classify", concurrency=1)
        assert found[0].reason == "HTTP 503: busy"
        assert found[0].passing
        assert all(o.score is not None for o in found[1:])


def test_one_conversation_to_blame_in_a_batch():
    with RewardServer("/predict", faults={0: 413, 3: 422}) as server:
        found, _ = outcomes(server, path="/predict")
        assert [o.score is None for o in found] == [False, False, True, False, False]
        assert found[2].reason.startswith("HTTP 422: ")
        assert not found[2].passing


@pytest.mark.parametrize(("status", "said"), [(401, "the key is refused"), (404, "not found")])
def test_what_asking_again_would_not_mend(status, said):
    with RewardServer("/classify", faults={0: status}) as server, pytest.raises(CallError, match=said):
        outcomes(server, path="/classify")


def test_several_outputs():
    with (
        RewardServer("/classify", outputs=3) as server,
        pytest.raises(CallError, match="gives 3 numbers for one"),
    ):
        outcomes(server, path="/classify")


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        None,
        {"data": [{"index": 0, "probs": "x"}]},
        {"data": [{"index": 1, "probs": [1.0]}]},
        {"data": []},
        "x",
    ],
)
def test_answers_of_another_shape(answer):
    with pytest.raises(CallError) as caught:
        rewards(APIS["classify"], answer, 1)
    assert caught.value.verdict == "stop"
    with RewardServer("/classify", answer=answer) as server, pytest.raises(CallError):
        outcomes(server, path="/classify")


def test_null_is_no_score():
    with RewardServer("/classify", answer={"data": [{"index": 0, "probs": [None]}]}) as server:
        found, _ = outcomes(server, ITEMS[:1], path="/classify")
        assert found[0].reason == "the scorer gave NaN"


def test_server_that_knows_no_way_of_asking():
    with RewardServer() as server, pytest.raises(OptionError) as caught:
        outcomes(server)
    for part in (server.url, "/classify: HTTP 404", "/predict: HTTP 404", "name it with `api`"):
        assert part in str(caught.value)


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    made = ServedScorer(parse_spec(f"{url}/classify"), ServedOptions(), wait=0.001)
    (outcome,) = [o for some in made.score(ITEMS[:1]) for _, o in some]
    assert outcome.passing
    assert "cannot connect" in outcome.reason


def test_a_dead_server_ends_the_run(monkeypatch):
    monkeypatch.setattr(served, "_ATTEMPTS", 1)
    with RewardServer("/classify", faults=dict.fromkeys(range(1000), 503)) as server:
        with pytest.raises(CallError, match=r"32 requests in a row had no answer \(last: HTTP 503"):
            outcomes(server, ITEMS * 30, path="/classify", concurrency=2)
        assert len(server.requests) < 100


def test_keys(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-12345678")
    with RewardServer("/score") as server:
        outcomes(server, path="/score", api_key_env="MY_KEY")
        assert server.keys == ["Bearer sk-12345678"]
    with pytest.raises(OptionError, match="plain http goes to this machine only"):
        ServedScorer(parse_spec("http://example.org/score"), ServedOptions(api_key_env="MY_KEY"))
    with pytest.raises(OptionError, match="NO_KEY: the environment variable is not set"):
        ServedScorer(parse_spec("http://example.org/score"), ServedOptions(api_key_env="NO_KEY"))


@pytest.mark.extra
def test_conversations_written_on_this_side(tmp_path):
    pytest.importorskip("transformers")
    from tiny_rewards import TEMPLATE, reward_tokenizer

    tokenizer = reward_tokenizer("llama", template=TEMPLATE)
    tokenizer.save_pretrained(tmp_path / "t")
    items = ITEMS[:4]
    texts = [tokenizer.apply_chat_template(item.messages, tokenize=False) for item in items]
    ids = [tokenizer.apply_chat_template(item.messages, return_dict=False) for item in items]
    with RewardServer("/classify", "/predict") as server:
        outcomes(server, items, path="/classify", tokenizer=str(tmp_path / "t"))
        (body,) = server.posted("/classify")
        assert (body["input"], body["add_special_tokens"]) == (ids, False)
        outcomes(server, items, path="/predict", tokenizer=str(tmp_path / "t"))
        (body,) = server.posted("/predict")
        # The server's tokenizer writes the BOS: in the text it would be there twice.
        assert body["inputs"] == [[text.removeprefix("<|bos|>")] for text in texts]
        found, _ = outcomes(server, items, path="/classify", tokenizer=str(tmp_path / "t"), max_length=30)
        assert [o.truncated for o in found] == [len(one) > 30 for one in ids]
        assert max(map(len, server.posted("/classify")[-1]["input"])) == 30
