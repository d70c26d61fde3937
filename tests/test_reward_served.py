"""Reward models behind HTTP: the shapes of vLLM and of text-embeddings-inference, and what goes wrong on the way."""

import json
import socket
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from collecting import wait_for
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
    for part in (
        server.url,
        "HTTP 404",
        "at /classify, /pooling, /score, /predict",
        "name the way with `api`",
    ):
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


SGLANG = ("/classify", "/v1/classify")


@pytest.mark.extra
@pytest.mark.parametrize(
    ("how", "path"), [("auto", ""), ("auto", "/v1"), ("sglang", ""), ("sglang", "/classify")]
)
def test_sglang_gets_texts_in_the_models_own_template(how, path, tmp_path):
    pytest.importorskip("transformers")
    from tiny_rewards import TEMPLATE, reward_tokenizer

    tokenizer = reward_tokenizer("llama", template=TEMPLATE)
    tokenizer.save_pretrained(tmp_path / "t")
    texts = [
        tokenizer.apply_chat_template(item.messages, tokenize=False).removeprefix("<|bos|>") for item in ITEMS
    ]
    with RewardServer(*SGLANG, sglang=True) as server:
        found, made = outcomes(server, path=path, api=how, tokenizer=str(tmp_path / "t"))
        assert [o.score for o in found] == pytest.approx([raw_reward(text) for text in texts])
        assert server.posted("/classify")[-1] == {"text": texts}
        assert not server.posted("/v1/classify")
        assert made.notes == (["asked at /classify of SGLang"] if how == "auto" else [])


@pytest.mark.parametrize("how", ["auto", "sglang"])
def test_sglang_needs_the_models_tokenizer(how):
    with RewardServer(*SGLANG, sglang=True) as server:
        with pytest.raises(OptionError, match=r"SGLang's /classify applies no chat template.*`tokenizer`"):
            outcomes(server, api=how)
        with pytest.raises(OptionError, match=r"this /classify is SGLang's; pass `api=sglang`"):
            outcomes(server, path="/classify")
        with pytest.raises(OptionError, match=f"a softmax over the labels.*name the server, {server.url}$"):
            outcomes(server, path="/v1/classify")


def test_a_rerank_server_is_refused():
    answer = {"results": [{"index": 0, "relevance_score": 1.5}]}
    with RewardServer("/v1/rerank", answer=answer) as server:
        for path in ("", "/v1", "/rerank", "/v1/rerank", "/reranking"):
            with pytest.raises(OptionError, match=r"a rerank server .* no reward of a conversation"):
                outcomes(server, path=path)
        assert len(server.requests) == 2 * 6  # five ways to ask, and the rerank


def test_a_classifier_of_several_labels_is_no_reward():
    answer = {"data": [{"index": 0, "label": "LABEL_1", "probs": [0.2, 0.8], "num_classes": 2}]}
    with (
        RewardServer("/classify", answer=answer) as server,
        pytest.raises(OptionError, match="/classify gives 2 numbers for one conversation"),
    ):
        outcomes(server)


def is_up(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.extra
def test_every_path_of_the_reward_server_of_the_cases(cases, run, tmp_path):
    """As the README of the cases wants it; its port is replaced."""
    pytest.importorskip("transformers")
    from tiny_rewards import TEMPLATE, reward_tokenizer

    reward_tokenizer("llama", template=TEMPLATE).save_pretrained(tmp_path / "t")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = tmp_path / "server.py"
    script.write_text((cases / "reward_server.py").read_text().replace("18322", str(port)))
    pool = cases / "32_served_sglang" / "pool.jsonl"

    def reward(path, *more):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        given = (pool, "--with", f"http://127.0.0.1:{port}{path}", "--name", "r", "-o", out, "--no-self-test")
        ran = run("reward", *given, *more)
        return ran, pq.read_table(out)["r"].to_pylist() if out.exists() else None

    tokenizer = ("--tokenizer", tmp_path / "t")
    with subprocess.Popen([sys.executable, str(script)]) as process:
        try:
            wait_for(lambda: is_up(port))
            for more in ((), ("--api", "sglang")):
                ran, scores = reward("/sglang", *tokenizer, *more)
                assert ran.code == 0, ran
                assert len(scores) == 6
                assert all(isinstance(score, float) for score in scores)
                ran, _ = reward("/sglang", *more)
                ran.refuses("SGLang's /classify applies no chat template", "--tokenizer")
            for path in ("/llamacpp", "/llamacpp/rerank", "/llamacpp/v1/rerank", "/llamacpp/reranking"):
                ran, _ = reward(path)
                ran.refuses("a rerank server")
            ran, _ = reward("/vllm2")
            ran.refuses("/classify gives 2 numbers for one conversation")
            ran, _ = reward("/nothing")
            ran.refuses(
                "no way of asking for a reward works (HTTP 404: {} (not found), at /classify, /pooling, /score, /predict)",
                "check the address and that the server is up, or name the way with --api",
            )
        finally:
            process.kill()


# Scores that are all one.


def same_score(body):
    count = len(body.get("input", [0]))
    return {"data": [{"index": at, "probs": [1.0], "num_classes": 1} for at in range(count)]}


def test_one_score_for_twenty_different_answers_ends_the_run(run, tmp_path):
    rows = [{"id": f"q{n}", "instruction": "Q", "model": "m", "response": f"Answer {n}"} for n in range(60)]
    pool = tmp_path / "p.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with RewardServer("/classify", answer=same_score) as server:
        command = ("reward", pool, "--with", f"{server.url}/classify", "--name", "r", "--no-self-test")
        command += ("--concurrency", 1, "-o", tmp_path / "r.parquet")
        ran = run(*command)
        assert ran.code == 2
        assert "r: the first 20 different answers all have the score 1" in ran.err
        assert "--keep-going scores on" in ran.err
        assert not (tmp_path / "r.parquet").exists()
        assert len(server.requests) < 30
        asked = len(server.requests)
        ran = run(*command, "--keep-going")
        assert (ran.code, len(server.requests) <= asked + 41) == (0, True)
        assert pq.read_table(tmp_path / "r.parquet")["r"].to_pylist() == [1.0] * 60


def test_few_different_answers_may_have_one_score(run, tmp_path):
    rows = [{"id": f"q{n}", "instruction": f"Q{n}", "model": "m", "response": f"{n % 4}"} for n in range(60)]
    pool = tmp_path / "p.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with RewardServer("/classify", answer=same_score) as server:
        url = f"{server.url}/classify"
        ran = run(
            "reward", pool, "--with", url, "--name", "r", "--no-self-test", "-o", tmp_path / "r.parquet"
        )
    assert ran.code == 0, ran


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
