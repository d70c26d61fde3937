"""`crowdselect evaluate` over real HTTP: what is sent, what is read, what is written; stops, kills, hostile judges."""

import base64
import json
import os
import re
import signal
import sqlite3
import subprocess
import time

import pytest

from commands import COMMAND, manifest
from crowdselect import _optional
from judging import CHAT, Bench, answered, between, compared, graded, read_jsonl, serve, write_jsonl

pytest.importorskip("openai")
pytestmark = pytest.mark.extra


def by_judge(server) -> list[dict]:
    return [body for body in server.posted(CHAT) if body["model"] == "judge"]


def result(folder) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_mt_bench_from_questions_to_a_score(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        ran = run(*bench.mt_bench())
        assert (ran.code, "5 to" in ran.err) == (0, False), ran
        assert "student: up to 16 requests" in ran.err
        assert "judge: up to 48 requests" in ran.err  # if none of 16 verdicts can be read
        asked = [body for body in server.posted(CHAT) if body["model"] == "student"]
        again = len(server.requests)
        assert run(*bench.mt_bench(), "--json").code == 0
        assert len(server.requests) == again  # everything is known
    said = {}
    for number in range(8):
        first = [{"role": "user", "content": f"First {number}?"}]
        one = answered("student", first)
        second = [
            *first,
            {"role": "assistant", "content": one},
            {"role": "user", "content": f"Second {number}?"},
        ]
        said[81 + number] = (one, answered("student", second))
    rows = read_jsonl(tmp_path / "out" / "answers.jsonl")
    assert {row["question_id"]: tuple(row["choices"][0]["turns"]) for row in rows} == said
    assert {(body["temperature"], body["max_tokens"]) for body in asked} == {
        (0.7, 1024),
        (0.0, 1024),
        (0.1, 1024),
    }
    maths = [body for body in asked if body["messages"][0]["content"] == "First 1?"]
    assert [body["temperature"] for body in maths] == [0.0, 0.0]
    grades = {id_: [graded(text) for text in turns] for id_, turns in said.items()}
    found = result(tmp_path / "out")
    assert found["score"] == pytest.approx(sum(map(sum, grades.values())) / 16)
    assert found["turns"]["2"]["score"] == pytest.approx(sum(one[1] for one in grades.values()) / 8)
    assert found["categories"]["math"]["score"] == pytest.approx((sum(grades[82]) + sum(grades[86])) / 4)
    assert found["interval"][0] < found["score"] < found["interval"][1]
    assert found["lengths"]["mean_characters"] == pytest.approx(
        sum(len(text) for turns in said.values() for text in turns) / 16
    )
    assert found["lengths"]["mean_tokens"] == 7
    judged = read_jsonl(tmp_path / "out" / "judgments.jsonl")
    assert {(row["question_id"], row["turn"]): row["score"] for row in judged} == {
        (id_, turn + 1): grade for id_, one in grades.items() for turn, grade in enumerate(one)
    }
    with_reference = {row["question_id"] for row in judged if "R1" in row["user_prompt"]}
    assert with_reference == {82, 84, 86, 88}  # math and coding
    assert manifest(tmp_path / "out")["settings"]["judge"][0]["temperature"] == 0.0


def test_arena_hard_asks_in_both_orders_and_scores_by_the_weights(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url, questions=12)
        assert run(*bench.arena_hard()).code == 0
        assert {body["max_tokens"] for body in server.posted(CHAT)} == {4096}
    wins = weights = 0
    for number in range(12):
        messages = [{"role": "user", "content": f"Hard {number}?"}]
        label = compared(answered("student", messages), answered("other", messages))
        weight = 3 if ">>" in label else 1
        share = 0.5 if label == "A=B" else float(label.startswith("A"))
        wins, weights = wins + 2 * weight * share, weights + 2 * weight
    found = result(tmp_path / "out")
    assert found["score"] == pytest.approx(100 * wins / weights)
    assert found["bradley_terry"]["score"] == pytest.approx(found["score"])
    assert found["baseline_score"] == 50
    assert found["self_check"]["position"] == {"pairs": 12, "flipped": 0, "changed": 0, "first_wins": 0.5}
    assert found["self_check"]["length"]["spearman"] > 0.8  # the judge's rule is length
    row = read_jsonl(tmp_path / "out" / "judgments.jsonl")[0]
    own, other = (answered(name, [{"role": "user", "content": "Hard 0?"}]) for name in ("student", "other"))
    first, second = (game["prompt"][-1]["content"] for game in row["games"])
    assert (between(first, "answer-A"), between(first, "answer-B")) == (other, own)
    assert (between(second, "answer-A"), between(second, "answer-B")) == (own, other)


def test_a_judge_that_looks_at_the_order_is_found_out_and_its_scores_are_even(run, tmp_path):
    with serve(lambda body: "[[A>B]]" if body["model"] == "judge" else None) as server:
        assert run(*Bench(tmp_path, server.url).arena_hard()).code == 0
    found = result(tmp_path / "out")
    assert found["self_check"]["position"] == {"pairs": 8, "flipped": 1, "changed": 1, "first_wins": 1}
    assert found["score"] == 50


HOSTILE = {
    "First 0?": "I like it.",
    "First 1?": "[[3]] no, [[9]]",
    "First 2?": "x" * 100_000,
    "First 3?": "<script>alert('[[7]]')</script>",
    "First 4?": "[[0]] \x1b[31m \u202e",
    "First 5?": "",
}


def test_hostile_replies_are_asked_again_then_missing_and_never_a_default(run, tmp_path):
    def say(body):
        if body["model"] == "judge":
            prompt = body["messages"][-1]["content"]
            return next(
                (text for name, text in HOSTILE.items() if name in prompt and "Second" not in prompt), None
            )
        return None

    with serve(say) as server:
        ran = run(*Bench(tmp_path, server.url).mt_bench(), "--judge-retries", "1")
        asked = len(by_judge(server))
    assert ran.code == 3
    found = result(tmp_path / "out")
    assert found["verdicts"]["missing"] == 5  # the script holds one verdict, and is text
    assert asked == 16 + 5
    assert found["turns"]["1"]["questions_scored"] == 3
    assert found["questions"][0]["weights"] == [0, 1]
    scores = {
        (r["question_id"], r["turn"]): r["score"] for r in read_jsonl(tmp_path / "out" / "judgments.jsonl")
    }
    assert scores[81, 1] == -1
    assert scores[84, 1] == 7
    for reason in ("the judge gives 2 verdicts: 3, 9", "the judge says 0, which is outside 1 to 10"):
        assert reason in found["verdicts"]["reasons"]
    assert "\x1b" not in ran.out + ran.err
    # Read back, the file gives the same scores, and those missing stay so.
    bench = Bench(tmp_path, "http://127.0.0.1:9")
    again = tmp_path / "again"
    file = tmp_path / "out" / "judgments.jsonl"
    assert run("evaluate", "mt-bench", "--questions", bench.mt, "--judgments", file, "-o", again).code == 3
    assert result(again)["questions"] == found["questions"]
    assert (again / "judgments.jsonl").read_bytes() == file.read_bytes()


def test_a_second_reply_with_a_verdict_counts(run, tmp_path):
    seen: set[str] = set()

    def say(body):
        prompt = body["messages"][-1]["content"]
        if body["model"] != "judge" or prompt in seen:
            return None
        seen.add(prompt)
        return "Let me think about that."

    with serve(say) as server:
        ran = run(*Bench(tmp_path, server.url).mt_bench())
        assert len(by_judge(server)) == 32
    assert ran.code == 0
    assert result(tmp_path / "out")["verdicts"]["missing"] == 0
    assert "16 replies of the judge had no verdict" in ran.err


def test_kill_in_the_middle_of_judging_pays_for_nothing_twice(tmp_path):
    def say(body):
        if body["model"] == "judge":
            time.sleep(0.02)

    with serve(say) as server:
        bench = Bench(tmp_path, server.url, questions=40)
        command = [*COMMAND, *map(str, bench.mt_bench())]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while len(by_judge(server)) < 25 and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.1)  # what was in flight has ended
        assert not (tmp_path / "out" / "result.json").exists()
        ledger = tmp_path / "out" / "ledger.sqlite"
        with sqlite3.connect(ledger) as opened:
            [known] = opened.execute("SELECT count(*) FROM answers WHERE model = 'judge'").fetchone()
        opened.close()
        before = len(server.requests)
        assert 0 < known < 80
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done
        assert len(server.requests) - before == 80 - known
    assert result(tmp_path / "out")["verdicts"] == {"wanted": 80, "missing": 0, "reasons": {}}


def test_plan_sends_and_writes_nothing_and_says_what_is_unknown(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url, price_in=10.0, price_out=30.0)
        found = json.loads(run(*bench.mt_bench(), "--dry-run", "--json").out)
        assert server.requests == []
    assert not (tmp_path / "out").exists()
    student, judge = found["plan"]["answers student"], found["plan"]["judge judge"]
    assert (student["calls"], student["answer_tokens"], student["cost"]) == (16, 16 * 1024, None)
    assert (judge["calls"], judge["answer_tokens"]) == (16, 16 * 2048)
    # Turn 1 shows one answer of at most 1,024 tokens, turn 2 both.
    assert 8 * 3 * 1024 < judge["prompt_tokens"] < 8 * 3 * 1024 + 16 * 600
    assert judge["cost"] == pytest.approx(judge["prompt_tokens"] * 1e-5 + 16 * 2048 * 3e-5)
    assert any("up to 3 times as many calls" in note for note in found["notes"])


def test_a_renamed_judge_and_a_renamed_model_are_asked_nothing_again(run, tmp_path):
    ledger = ("--ledger", tmp_path / "shared.ledger")
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        text = bench.crowd.read_text()
        old = text.replace('"student"', '"pupil"\nmodel = "student"').replace(
            '"judge"', '"grader"\nmodel = "judge"'
        )
        bench.crowd.write_text(old)
        assert run(*bench.mt_bench("pupil", judge="grader"), *ledger).code == 0
        asked = len(server.requests)
        bench.crowd.write_text(text)
        again = [*bench.mt_bench(out="again"), *ledger]
        plan = json.loads(run(*again, "--dry-run", "--json").out)["plan"]
        assert {name: made["calls"] for name, made in plan.items()} == {
            "answers student": 0,
            "judge judge": 0,
        }
        assert plan["answers student"]["renamed"].startswith("'student' takes over 16 answers of 'pupil'")
        ran = run(*again)
        assert ran.code == 0
        assert len(server.requests) == asked
    assert "note: 'student' takes over 16 answers of 'pupil'" in ran.err
    assert "note: 'judge' takes over 16 answers of 'grader'" in ran.err
    assert result(tmp_path / "again")["score"] == result(tmp_path / "out")["score"]


def test_a_result_is_written_again_under_the_new_names(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        text = bench.crowd.read_text()
        old = text.replace('"student"', '"pupil"\nmodel = "student"').replace(
            '"judge"', '"grader"\nmodel = "judge"'
        )
        bench.crowd.write_text(old)
        assert run(*bench.mt_bench("pupil", judge="grader")).code == 0
        asked = len(server.requests)
        bench.crowd.write_text(text)
        assert run(*bench.mt_bench(), "--dry-run").code == 0
        for _ in range(2):
            assert run(*bench.mt_bench()).code == 0
            assert len(server.requests) == asked
        run(*bench.mt_bench("other")).refuses("holds another result", "'student'")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["model"], manifest["judge"]) == ("student", "judge")


def test_a_cap_stops_and_what_is_there_is_scored_and_goes_on_later(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        ran = run(*bench.mt_bench(), "--max-requests", "24")
        assert ran.code == 3
        assert len(server.requests) == 24
        assert "--max-requests is used up" in ran.err
        assert result(tmp_path / "out")["verdicts"]["reasons"] == {"not asked": 8}
        assert run(*bench.mt_bench()).code == 0
        assert len(server.requests) == 32


def test_another_result_is_never_written_over(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        assert run(*bench.mt_bench()).code == 0
        run(*bench.mt_bench("other")).refuses("holds another result", "'student'", "choose another place")
        run(*bench.arena_hard()).refuses("holds another result")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("mine")
    run(*bench.mt_bench(out="own")).refuses("holds no evaluation of ours")


def test_answers_made_elsewhere_are_judged_and_stay_as_they_are(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        assert run(*bench.mt_bench()).code == 0
        rows = read_jsonl(tmp_path / "out" / "answers.jsonl")
        file = write_jsonl(tmp_path / "elsewhere.jsonl", [{**row, "extra": [1, None]} for row in rows[:-1]])
        common = (
            "--judge",
            f"{bench.crowd}#judge",
            "--questions",
            bench.mt,
            "--references",
            bench.references,
        )
        ran = run("evaluate", "mt-bench", "--answers", file, *common, "-o", tmp_path / "two")
    assert ran.code == 3
    assert (tmp_path / "two" / "answers.jsonl").read_bytes() == file.read_bytes()
    one, two = (result(tmp_path / name)["questions"] for name in ("out", "two"))
    assert one[:-1] == two[:-1]
    assert two[-1]["weights"] == [0, 0]
    # Compared on the common questions, which is said.
    ran = run("evaluate", "compare", "a=" + str(tmp_path / "out"), "b=" + str(tmp_path / "two"))
    assert ran.code == 0
    assert "a and b share 7 questions; 1 that only one of them has" in ran.err
    assert "not shown to differ" in ran.out
    assert "better" not in ran.out


def test_prompts_of_fastchat_are_sent_as_they_are(run, tmp_path):
    names = ("single-v1", "single-math-v1", "single-v1-multi-turn", "single-math-v1-multi-turn")
    texts = (
        "<answer-0>\n{answer}\n</answer-0> {question}",
        "<answer-0>\n{answer}\n</answer-0> {question} {ref_answer_1}",
        "<answer-0>\n{answer_2}\n</answer-0> {question_1} {answer_1} {question_2}",
        "<answer-0>\n{answer_2}\n</answer-0> {question_1} {answer_1} {question_2} {ref_answer_1} {ref_answer_2}",
    )
    rows = [
        {"name": name, "type": "single", "system_prompt": f"Be {name}.", "prompt_template": text}
        for name, text in zip(names, texts, strict=True)
    ]
    file = write_jsonl(tmp_path / "prompts.jsonl", rows)
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        assert run(*bench.mt_bench(), "--judge-prompt", file).code == 0
        systems = {body["messages"][0]["content"] for body in by_judge(server)}
    assert systems == {f"Be {name}." for name in names}
    write_jsonl(file, [{**row, "prompt_template": row["prompt_template"] + "{style}"} for row in rows])
    run(*bench.mt_bench(out="x"), "--judge-prompt", file).refuses("prompts.jsonl:1", "{style}")


def test_compare_writes_a_page_that_runs_nothing(run, tmp_path):
    pytest.importorskip("altair")
    pytest.importorskip("vl_convert")
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        for name in ("student", "other"):
            assert run(*bench.mt_bench(name, out=name)).code == 0
    page = tmp_path / "page.html"
    hostile = "<script>alert(1)</script>"
    ran = run("evaluate", "compare", f"{hostile}={tmp_path / 'student'}", tmp_path / "other", "-o", page)
    assert ran.code == 0, ran
    text = page.read_text(encoding="utf-8")
    assert "correct" not in ran.out + text  # there is one difference
    assert "<script" not in text
    drawn = re.findall(r'<img[^>]* src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert text.count("src=") == len(drawn) == 2  # light and dark
    for one in drawn:
        assert base64.b64decode(one).startswith(b"<svg")
    run("evaluate", "compare", tmp_path / "student", tmp_path / "other", "-o", page).refuses("--overwrite")


@pytest.mark.real
def test_the_real_files_pass_through(run, tmp_path, data):
    folder = data / "eval"
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        for name in ("gpt-3.5-turbo-0125", "gpt-4-0613"):
            file = folder / f"arena_hard_v0.1_answer_{name}.jsonl"
            base = folder / "arena_hard_v0.1_answer_gpt-4-0314.jsonl"
            made = (
                "--answers",
                file,
                "--baseline",
                base,
                "--questions",
                folder / "arena_hard_v0.1_question.jsonl",
            )
            ran = run(
                "evaluate", "arena-hard", *made, "--judge", f"{bench.crowd}#judge", "-o", tmp_path / name
            )
            assert ran.code == 0, ran
            assert (tmp_path / name / "answers.jsonl").read_bytes() == file.read_bytes()
            own, other = (
                {row["uid"]: row["messages"][-1]["content"]["answer"] for row in read_jsonl(path)}
                for path in (file, base)
            )
            labels = [compared(own[uid], other[uid]) for uid in own]
            weights = [3 if ">>" in label else 1 for label in labels]
            shares = [0.5 if label == "A=B" else float(label[0] == "A") for label in labels]
            truth = sum(w * s for w, s in zip(weights, shares, strict=True)) / sum(weights)
            assert result(tmp_path / name)["score"] == pytest.approx(100 * truth)
        mt = ("--questions", folder / "mt_bench_question.jsonl")
        mt = (*mt, "--references", folder / "mt_bench_reference_gpt-4.jsonl")
        args = ("--model", f"{bench.crowd}#student", "--judge", f"{bench.crowd}#judge")
        assert run("evaluate", "mt-bench", *args, *mt, "-o", tmp_path / "mt").code == 0
    found = result(tmp_path / "mt")
    assert found["verdicts"] == {"wanted": 160, "missing": 0, "reasons": {}}
    assert {name: part["questions_scored"] for name, part in found["categories"].items()} == dict.fromkeys(
        ("coding", "extraction", "humanities", "math", "reasoning", "roleplay", "stem", "writing"), 10
    )


def test_the_folder_keeps_what_is_not_ours(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        assert run(*bench.mt_bench()).code == 0
        out = tmp_path / "out"
        written = manifest(out)["written"]
        assert written == sorted(
            {file.name for file in out.iterdir()} - {"ledger.sqlite"}
        )  # that is paid for
        (out / "notes.md").write_text("mine")
        assert run(*bench.mt_bench()).code == 0
        assert (out / "notes.md").read_text() == "mine"
        (out / "manifest.json").unlink()  # as of a run that was stopped, and a person's file under our name
        run(*bench.mt_bench()).refuses("out/answers.jsonl: was not written by crowdselect")


def test_a_refused_evaluation_leaves_no_folder(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        before = sorted(tmp_path.iterdir())
        run(*bench.mt_bench(out="x"), "--ledger", bench.mt).refuses("mt.jsonl")
        assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_needs_no_place_and_refuses_what_the_run_would(run, tmp_path, monkeypatch):
    bench = Bench(tmp_path, "http://127.0.0.1:9")
    *given, _, _ = bench.mt_bench()
    assert given[-2:] == ["--references", bench.references]
    run(*given).refuses("say where the result goes")
    assert run(*given, "--dry-run").code == 0
    assert run(*given, "--plan").code == 0  # as 0.1.0 called it
    with monkeypatch.context() as patched:
        patched.setattr(_optional, "find_spec", lambda name: None if name == "openai" else name)
        run(*given, "--dry-run").refuses("openai is not installed")
    bench.crowd.write_text(
        bench.crowd.read_text().replace("[[judge]]", '[[judge]]\napi_key_env = "NO_SUCH_KEY"')
    )
    run(*given, "--dry-run").refuses("NO_SUCH_KEY")


def test_the_same_evaluation_again_is_up_to_date(run, tmp_path):
    with serve() as server:
        bench = Bench(tmp_path, server.url)
        assert json.loads(run(*bench.mt_bench(), "--json").out)["was_there"] is False
        before = {
            file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir() if file.suffix != ".sqlite"
        }
        assert run(*bench.mt_bench()).out.endswith(f"up to date: {tmp_path / 'out'}\n")
        assert json.loads(run(*bench.mt_bench(), "--json").out)["was_there"] is True
        assert {file: file.stat().st_mtime_ns for file in before} == before
        (tmp_path / "out" / "answers.jsonl").unlink()
        again = run(*bench.mt_bench()).out
        assert "written to" in again
        assert again.endswith("  crowdselect evaluate compare --help\n")
        assert "written to" in run(*bench.mt_bench(), "--seed", 7).out  # scored anew, nobody is asked
        assert len(server.requests) == 32
        other = run(*bench.mt_bench(out="other")).out
        assert other.endswith(f"  crowdselect evaluate compare {tmp_path / 'out'} {tmp_path / 'other'}\n")
