"""Runs everything: the crowds first, then the blocks, two at a time; resumes after a stop."""

import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from crowdselect import Crowd, CrowdselectError, open_pool
from proving_ground import crowd as crowds
from proving_ground.design import BASES, Block, Setting
from proving_ground.pools import (
    PoolFiles,
    Question,
    add_clusters,
    examples,
    questions,
    test_items,
    write_pool,
    write_student,
)
from proving_ground.results import BASE_WAY, Record, Results, packed
from proving_ground.seeds import cache_folder
from proving_ground.students import (
    Base,
    base,
    likelihoods,
    own_answers,
    test_rows,
    token_budget,
    tuned,
    untrained,
)
from proving_ground.ways import EVERY, choose, find_clusters, fitting, is_clustered, write_numbers
from proving_ground.worlds import WORLDS

WORKERS = 2
STACK = 4
"""Students trained as one stack: more would not fit a core's cache."""


@dataclass(frozen=True, slots=True)
class Done:
    """The results of a block."""

    block: Block
    runs: Mapping[str, Record]
    failed: Mapping[str, str]
    seconds: float


def run(
    results: Results,
    settings: Mapping[str, Setting],
    todo: Iterable[tuple[Block, Sequence[str]]],
    *,
    workers: int = WORKERS,
) -> None:
    """Run what is not done yet.

    Args:
        results: The results so far; new ones are added.
        settings: The protocol's settings by name.
        todo: The blocks in order, with their methods; a block may come again with others.
        workers: Processes, each with one thread.
    """
    missing = [
        (block, ways)
        for block, all_ways in todo
        if (ways := [w for w in all_ways if not results.has(block, w)])
    ]
    worlds = list(dict.fromkeys(block.world for block, _ in missing))
    with tempfile.TemporaryDirectory() as scratch, processes(workers) as pool:
        answers = answer_all(results, pool, worlds, Path(scratch))
        running: list[Future[Done]] = [
            pool.submit(run_block, block, settings[block.setting], ways, answers[block.world])
            for block, ways in missing
        ]
        for count, future in enumerate(as_completed(running), 1):
            done = future.result()
            results.add(done.block, done.runs, done.failed, seconds=done.seconds)
            print(
                f"{time.strftime('%H:%M:%S')} {count}/{len(missing)} {done.block} {done.seconds:.0f} s",
                flush=True,
            )


def processes(workers: int) -> ProcessPoolExecutor:
    """Start processes of one thread each, with vectors cached between runs."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    os.environ["CROWDSELECT_CACHE"] = str(cache_folder() / "vectors")
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
    )


def _one_thread() -> None:
    torch.set_num_threads(1)


def answer_all(
    results: Results, pool: ProcessPoolExecutor, worlds: Iterable[str], scratch: Path
) -> dict[str, Path]:
    """Train the crowds, or load cached answers, and write the answers: world → file; and the table of the crowds."""
    out, table, seconds = {}, {}, {}
    jobs = {
        world: {size: pool.submit(size_answers, world, size) for size in reversed(crowds.SIZES)}
        for world in worlds
    }
    for world, by_size in jobs.items():
        found = {size: future.result() for size, future in by_size.items()}
        members = crowds.members(WORLDS[world])
        answers = {member.name: found[member.size][0][member.family] for member in members}
        table[world] = {member.name: member_facts(world, member, answers[member.name]) for member in members}
        seconds[world] = {size: round(took, 1) for size, (_, took) in found.items()}
        out[world] = scratch / f"{world}.json"
        out[world].write_text(json.dumps(answers), encoding="utf-8")
        shown = {name: facts["right"] for name, facts in table[world].items()}
        print(f"{time.strftime('%H:%M:%S')} crowd of {world}: {shown}", flush=True)
    for name, new in (("crowd.json", table), ("crowd-seconds.json", seconds)):
        old = results.read(name) if (results.folder / name).exists() else {}
        results.write(name, {**old, **new})
    return out


def size_answers(world_name: str, size: str) -> tuple[dict[str, list[str]], float]:
    """Return the answers of one size's members to the pool, then to the test set."""
    world = WORLDS[world_name]
    test = [item.instruction for item in test_items(world)]
    asked = [question.item.instruction for question in questions(world)]
    return crowds.answered(world, size, [*asked, *test], frozenset(test))


def member_facts(world_name: str, member: crowds.Member, answers: Sequence[str]) -> dict[str, Any]:
    """Return a member's exact match on the test set, overall and per band."""
    items = test_items(WORLDS[world_name])
    right = [item.right(answer) for item, answer in zip(items, answers[-len(items) :], strict=True)]
    by_band = [[ok for ok, item in zip(right, items, strict=True) if item.band == band] for band in range(3)]
    return {
        "parameters": member.parameters,
        "right": round(sum(right) / len(right), 4),
        "right_by_band": [round(sum(band) / len(band), 4) for band in by_band],
    }


@cache
def _asked(world_name: str) -> list[Question]:
    return questions(WORLDS[world_name])


@cache
def _answered(file: Path) -> dict[str, list[str]]:
    """Return model → its answers, those to the pool first."""
    return json.loads(file.read_bytes())


def run_block(block: Block, setting: Setting, ways: Sequence[str], answers_file: Path) -> Done:
    """Run a block, which shares a pool and a base: select by every method, fine-tune, test."""
    begin = time.monotonic()
    world = WORLDS[block.world]
    start = base(world, setting.student, number=block.seed % BASES)
    asked, members = _asked(block.world), crowds.members(world)
    with tempfile.TemporaryDirectory() as folder:
        ids = [question.id for question in asked]
        answers = {
            name: dict(zip(ids, texts, strict=False)) for name, texts in _answered(answers_file).items()
        }
        files = write_pool(Path(folder), world, asked, answers, members, seed=block.seed)
        compared = [way for way in ways if way != BASE_WAY]
        student = None
        if any(EVERY[way].student for way in compared):
            own = own_answers(start, [question.item.instruction for question in asked], asked=setting.asked)
            student = write_student(
                files, [dict(zip(ids, once, strict=True)) for once in own], scored=setting.scored
            )
        towards = None
        if any(EVERY[way].target for way in compared):
            towards = Path(folder) / "examples.txt"
            towards.write_text("\n".join(examples(world, asked, seed=block.seed)), encoding="utf-8")
        chosen, failed = _choices(
            block,
            setting,
            compared,
            files=files,
            members=members,
            student=student,
            towards=towards,
            start=start,
        )
    test = test_rows(world)
    runs = {BASE_WAY: packed(untrained(start, test), right_chosen=None)} if BASE_WAY in ways else {}
    items = [question.item for question in files.questions.values()]
    equal = token_budget(items) if setting.equal == "tokens" else None
    order = list(chosen)
    for names in (order[at : at + STACK] for at in range(0, len(order), STACK)):
        texts = [
            [
                (files.questions[id_].item.instruction, files.answers[id_, model])
                for id_, model in chosen[name]
            ]
            for name in names
        ]
        for name, readout in zip(
            names,
            tuned(start, texts, test, seed=block.seed, replay=setting.replay, token_budget=equal),
            strict=True,
        ):
            right = sum(files.right[pair] for pair in chosen[name]) / len(chosen[name])
            runs[name] = packed(readout, right_chosen=right)
    return Done(block, runs, failed, time.monotonic() - begin)


def _choices(
    block: Block,
    setting: Setting,
    ways: Sequence[str],
    *,
    files: PoolFiles,
    members: Sequence[crowds.Member],
    student: Path | None,
    towards: Path | None,
    start: Base,
) -> tuple[dict[str, list[tuple[str, str]]], dict[str, str]]:
    """Return every method's selection; and why a method failed."""
    chosen: dict[str, list[tuple[str, str]]] = {}
    failed: dict[str, str] = {}
    crowd = Crowd.from_file(files.crowd)
    if any(map(is_clustered, ways)):
        with open_pool(files.pool) as pool:
            clusters = find_clusters(pool, crowd, reward=setting.reward, seed=block.seed)
        add_clusters(files, clusters)
    with open_pool(files.pool) as pool:
        numbers = write_numbers(
            files.pool.with_name("numbers.parquet"),
            pool,
            reward=setting.reward,
            sizes={member.name: member.size for member in members},
            complexity=complexity_marks(files, seed=block.seed),
        )
        for way in ways:
            try:
                chosen[way] = choose(
                    pool,
                    crowd,
                    way,
                    budget=setting.budget,
                    reward=setting.reward,
                    answer=setting.answer,
                    seed=block.seed,
                    numbers_file=numbers,
                    student=student,
                    examples=towards,
                )
                if EVERY[way].fits:
                    chosen[way] = fitting(
                        pool,
                        chosen[way],
                        reward=setting.reward,
                        seed=block.seed,
                        likelihoods=lambda pairs: likelihoods(
                            start,
                            [
                                (files.questions[id_].item.instruction, files.answers[id_, model])
                                for id_, model in pairs
                            ],
                        ),
                    )
            except CrowdselectError as error:
                failed[way] = str(error).replace(str(files.pool.parent), "")
    return chosen, failed


def complexity_marks(files: PoolFiles, *, seed: int) -> dict[str, float]:
    """Simulate a judge's grade of each instruction's complexity: its band from 1 to 3, half a band off on average."""
    rng = random.Random(f"complexity/{seed}")
    return {id_: max(0.1, 1 + q.item.band + rng.gauss(0, 0.5)) for id_, q in sorted(files.questions.items())}
