"""The result of an evaluation: scores with intervals, missing verdicts, and the folder they are written to.

`load_result` reads a folder back, `load_groups` reads several, grouped into methods.
"""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crowdselect import __version__
from crowdselect.ask.endpoints import Endpoint
from crowdselect.ask.ledger import Spent
from crowdselect.errors import InputError, OptionError
from crowdselect.evaluate.documents import Task, read_documents
from crowdselect.evaluate.files import ModelAnswers, Question, write_lines
from crowdselect.evaluate.judging import GAMES, Judgements
from crowdselect.evaluate.measures import HARNESS, MEASURES
from crowdselect.evaluate.result import RESULT, by_question, scored
from crowdselect.evaluate.scores import (
    LEVEL,
    PUBLISHED_ROUNDS,
    ROUNDS,
    Cells,
    battles_of,
    bradley_terry,
    graded,
    graded_lengths,
    length_bias,
    position_bias,
    published,
    won,
    won_lengths,
)
from crowdselect.evaluate.setup import Setup, input_files
from crowdselect.evaluate.style import STYLES, style_controlled, style_counts, style_differences
from crowdselect.pool.files import fingerprint
from crowdselect.writing import TOOL, new_files, read_manifest, write_manifest

_REASONS = 20  # most reasons listed
ALONE = "answers are graded alone: there is no order"

_CONDITIONS = {"questions": "file of questions", "references": "file of reference answers"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a result is computed from: also the settings that were sent by role, and the ledger's sums and id."""

    setup: Setup
    answers: ModelAnswers | None
    baseline: ModelAnswers | None
    judgements: Judgements
    sent: Mapping[str, Sequence[Endpoint]]
    spent: Mapping[str, Spent]
    ledger: str | None

    @property
    def cells(self) -> Cells:
        """The verdicts by question and turn."""
        protocol = self.setup.options.protocol
        questions, verdicts = self.setup.questions, self.judgements.verdicts
        return (
            won(questions, verdicts)
            if protocol.pairwise
            else graded(questions, verdicts, turns=protocol.turns)
        )


def result_of(evidence: Evidence) -> dict[str, Any]:
    """Score the verdicts.

    Returns:
        The content of result.json: `score` (1 to 10, or 0 to 100) with a 95 % `interval` over questions, the same by
        category and by turn, answer lengths, missing verdicts and why, the judge's self-check, and per question
        the sums and weights that `compare` pairs. None if unknown.
    """
    setup, cells = evidence.setup, evidence.cells
    options = setup.options
    scale = 100.0 if options.protocol.pairwise else 1.0
    seed = options.seed
    missing = Counter(r.reason or "unknown" for r in evidence.judgements.verdicts.values() if r.is_missing)
    result: dict[str, Any] = {
        "benchmark": options.protocol.key,
        "model": setup.model_name,
        "judge": setup.judge_name,
        "baseline": setup.baseline_name,
        **scored(cells, scale, seed),
        "unit": options.protocol.unit,
        "resampling": {"of": "questions", "rounds": ROUNDS, "level": LEVEL, "seed": seed},
        "categories": {
            name: {
                **scored(cells.only(np.array([c == name for c in cells.categories])), scale, seed),
                **_category_facts(evidence, name),
            }
            for name in sorted(set(cells.categories))
        },
        "verdicts": {
            "wanted": len(evidence.judgements.verdicts),
            "missing": missing.total(),
            "reasons": dict(missing.most_common(_REASONS)),
        },
        "lengths": _lengths(evidence.answers),
        "self_check": _self_check(evidence),
        "notes": [*setup.notes, *evidence.judgements.notes],
    }
    result |= _pairwise_facts(evidence, setup.questions) if options.protocol.pairwise else _turns(cells, seed)
    result["questions"] = by_question(cells)
    return result


def write_result(evidence: Evidence, result: Mapping[str, Any]) -> bool:
    """Write the folder: answers, judgements, result, and last the manifest.

    Returns:
        Whether anything was written; a folder that has this result already is left unchanged.
    """
    text = json.dumps(result, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    if _is_written(evidence, result, text):
        return False
    with new_files(evidence.setup.options.folder) as folder:
        for name, part in (
            ("answers", evidence.answers),
            (
                "baseline_answers",
                evidence.baseline if any(b.respondent for b in evidence.setup.baselines) else None,
            ),
            ("judgments", evidence.judgements),
        ):
            if part is not None:
                write_lines(folder / f"{name}.jsonl", part.lines)
        (folder / RESULT).write_text(text, encoding="utf-8")
        write_manifest(folder, _manifest(evidence, result, fingerprint([folder / RESULT])))
    return True


def _is_written(evidence: Evidence, result: Mapping[str, Any], text: str) -> bool:
    """Return whether the folder already has this result, from the same inputs, with all its files."""
    folder = evidence.setup.options.folder
    known, file = read_manifest(folder), folder / RESULT
    if known is None or not file.is_file() or file.read_text(encoding="utf-8") != text:
        return False
    manifest = json.loads(json.dumps(_manifest(evidence, result, fingerprint([file]))))
    is_same = all(known.get(name) == value for name, value in manifest.items())
    return is_same and all((folder / name).is_file() for name in known.get("written", ()))


def _turns(cells: Cells, seed: int) -> dict[str, Any]:
    return {
        "turns": {
            str(turn + 1): scored(
                Cells(cells.ids, cells.categories, cells.sums[:, [turn]], cells.weights[:, [turn]]), 1.0, seed
            )
            for turn in range(cells.sums.shape[1])
        }
    }


def _category_facts(evidence: Evidence, category: str) -> dict[str, Any]:
    """Return what a category has beside its score where answers are compared with a baseline's."""
    setup = evidence.setup
    if not setup.options.protocol.pairwise:
        return {}
    questions = [question for question in setup.questions if question.category == category]
    return {
        "baseline": setup.baseline_names.get(category),
        **_strengths(evidence, questions),
    }


def _pairwise_facts(evidence: Evidence, questions: Sequence[Question]) -> dict[str, Any]:
    """Return the baseline's score and lengths, and the strengths against it; none if there are several baselines."""
    several = len(set(evidence.setup.baseline_names.values())) > 1
    strengths = dict.fromkeys(("as_arena_hard_auto", "bradley_terry", "style_control"))
    return {
        "baseline_score": 50.0,
        "baseline_lengths": _lengths(evidence.baseline),
        **(strengths if several else _strengths(evidence, questions)),
    }


def _strengths(evidence: Evidence, questions: Sequence[Question]) -> dict[str, Any]:
    """Return the score as arena-hard-auto prints it, the Bradley-Terry strength against the baseline, and style control."""
    verdicts, seed = evidence.judgements.verdicts, evidence.setup.options.seed
    drawn = published(questions, verdicts, seed=seed)
    ordered = sorted(questions, key=lambda question: question.id)
    battles = np.array([one for q in ordered for one in battles_of(q.id, verdicts)]).reshape(-1, 2)
    ones = np.ones(len(battles), np.int64)
    strength = float(bradley_terry(ones, ones - 1, battles[:, 0], battles[:, 1], players=2)[1])
    finite = bool(np.isfinite(strength))
    return {
        "as_arena_hard_auto": None
        if drawn is None
        else {**drawn, "rounds": PUBLISHED_ROUNDS, "of": "verdicts", "level": 0.9},
        "bradley_terry": {
            "log_odds": strength if finite else None,
            "elo": 1000 + 400 / np.log(10) * strength if finite else None,
            "score": 100 / (1 + float(np.exp(-strength))) if finite else None,
            "why": None
            if finite
            else "no finite strength: every verdict is for the same side, or there is none",
        },
        "style_control": _style_control(evidence, [question.id for question in ordered]),
    }


def _style_control(evidence: Evidence, ids: Sequence[str]) -> dict[str, Any]:
    """Return the score with differences in style accounted for, or why there is none."""
    own, other = evidence.answers, evidence.baseline
    if own is None or other is None:
        return {"score": None, "why": "the answers are not here"}
    verdicts, setup = evidence.judgements.verdicts, evidence.setup
    battles = {id_: battles_of(id_, verdicts) for id_ in ids}
    used = [id_ for id_ in ids if battles[id_] and own.turns.get(id_) and other.turns.get(id_)]
    from_files = setup.answers is not None and all(baseline.answers for baseline in setup.baselines)
    counted = from_files and all(side.tokens[id_][0] is not None for side in (own, other) for id_ in used)
    styles = [
        np.array([_style(side, id_, counted=counted) for id_ in used], float).reshape(-1, len(STYLES))
        for side in (own, other)
    ]
    differences = np.repeat(style_differences(*styles), GAMES, axis=0)
    shares = np.array([one for id_ in used for one in battles[id_]], float).reshape(-1, 2)
    found = style_controlled(
        differences, shares[:, 0], shares[:, 1].astype(np.int64), seed=setup.options.seed
    )
    if found is None:
        return {"score": None, "why": "no finite fit: too few verdicts, or style alone tells the winner"}
    coefficients = dict(zip(STYLES, found.pop("coefficients"), strict=True))
    unit = "tokens" if counted else "characters"
    return {**found, "coefficients": coefficients, "level": 0.9, "lengths_in": unit, "why": None}


def _style(answers: ModelAnswers, id_: str, *, counted: bool) -> tuple[int, int, int, int]:
    text, tokens = answers.turns[id_][0], answers.tokens[id_][0]
    return (tokens or 0 if counted else len(text), *style_counts(text))


def _lengths(answers: ModelAnswers | None) -> dict[str, Any] | None:
    """Return the mean length of an answer (of one turn); in tokens if all are counted."""
    if answers is None:
        return None
    texts = [text for turn_texts in answers.turns.values() for text in turn_texts]
    counts = [count for turn_texts in answers.tokens.values() for count in turn_texts]
    known = [count for count in counts if count is not None]
    return {
        "answers": len(texts),
        "mean_characters": sum(map(len, texts)) / len(texts) if texts else None,
        "mean_tokens": sum(known) / len(known) if known and len(known) == len(texts) else None,
    }


def _self_check(evidence: Evidence) -> dict[str, Any]:
    questions, verdicts = evidence.setup.questions, evidence.judgements.verdicts
    pairwise = evidence.setup.options.protocol.pairwise
    position = position_bias(questions, verdicts) if pairwise else {"why": ALONE}
    if evidence.answers is None or (pairwise and evidence.baseline is None):
        return {
            "position": position,
            "length": {"pairs": 0, "spearman": None, "why": "the answers are not here"},
        }
    turns = evidence.answers.turns
    if evidence.baseline is not None:
        return {
            "position": position,
            "length": length_bias(*won_lengths(questions, verdicts, turns, evidence.baseline.turns)),
        }
    return {"position": position, "length": length_bias(*graded_lengths(questions, verdicts, turns))}


def _manifest(evidence: Evidence, result: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """Return the manifest: what the result was made from; API keys never appear in it."""
    setup = evidence.setup
    options = setup.options
    return {
        "tool": TOOL,
        "kind": "evaluation",
        "version": __version__,
        "python": platform.python_version(),
        "benchmark": options.protocol.key,
        "model": setup.model_name,
        "judge": setup.judge_name,
        "baseline": setup.baseline_name,
        "prompts": setup.prompts.digest if setup.judge is not None else None,
        "judge_retries": options.judge_retries if setup.judge is not None else None,
        "seed": options.seed,
        "inputs": {
            name: {"file": str(path), "fingerprint": fingerprint([path])}
            for name, path in input_files(options).items()
        },
        "settings": {
            role: [json.loads(endpoint.settings()) for endpoint in sent]
            for role, sent in evidence.sent.items()
        },
        "spent": {name: asdict(spent) for name, spent in evidence.spent.items()},
        "ledger": evidence.ledger,
        "missing": result["verdicts"]["missing"],
        **({"malformed": setup.malformed} if setup.malformed else {}),
        "fingerprint": digest,
    }


@dataclass(frozen=True, slots=True)
class Loaded:
    """A result read from its folder.

    Attributes:
        folder: The folder.
        benchmark: A key of `MEASURES`.
        model: The model evaluated.
        judge: The judge; None where nobody judges.
        baseline: The model compared with; None if answers are graded alone.
        conditions: What results have to share to be compared without care, as digests: the judge's prompts, the questions
            and the reference answers, or rows and tokenizer; None = not known.
        unit: Unit of the score.
        cells: The verdicts by question.
        tasks: Of lm-evaluation-harness: task → how it was asked and scored.
    """

    folder: str
    benchmark: str
    model: str
    judge: str | None
    baseline: str | None
    conditions: Mapping[str, str | int | None]
    unit: str
    cells: Cells
    tasks: Mapping[str, Task] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MethodRuns:
    """A method: one result, or several from models trained the same way with different seeds.

    Attributes:
        name: The method.
        runs: Its results.
        choices: For each run, the number of the choice of rows that its model was trained on, from 0. Empty, as for one
            choice: each run is resampled by itself.
    """

    name: str
    runs: tuple[Loaded, ...]
    choices: tuple[int, ...] = ()


def load_result(folder: str) -> Loaded:
    """Read a folder of `crowdselect evaluate`, or one that lm-evaluation-harness wrote elsewhere for one model.

    Raises:
        InputError: There is no result, it is not finished, or it was changed afterwards; or the harness's folder holds
            several models, or cannot be read.

    Example:
        >>> load_result("no-such-folder")
        Traceback (most recent call last):
        ...
        crowdselect.errors.InputError: no-such-folder: holds no finished evaluation; wanted a folder of crowdselect evaluate, or a results folder of lm-evaluation-harness
    """
    place = Path(folder)
    manifest = read_manifest(place)
    elsewhere = read_documents(place) if manifest is None else None
    if elsewhere is not None:
        return Loaded(
            folder, "harness", elsewhere.model, None, None, {}, HARNESS.unit, elsewhere.cells, elsewhere.tasks
        )
    if manifest is None or manifest.get("kind") != "evaluation" or manifest.get("benchmark") not in MEASURES:
        raise InputError(
            f"{folder}: holds no finished evaluation; wanted a folder of crowdselect evaluate, or a results folder of "
            "lm-evaluation-harness"
        )
    file = place / RESULT
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        intact = manifest.get("fingerprint") == fingerprint([file])
        cells = _cells(found["questions"])
        tasks = {name: Task(**task) for name, task in found.get("tasks", {}).items()}
        inputs: dict[str, dict[str, str]] = manifest["inputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: cannot be read: {' '.join(str(error).split())[:200]}; evaluate again"
        ) from error
    if not intact:
        raise InputError(f"{file}: was changed after the evaluation; run the evaluation again")
    return Loaded(
        folder,
        manifest["benchmark"],
        manifest["model"],
        manifest["judge"],
        manifest["baseline"],
        {
            "prompts of the judge": manifest["prompts"],
            **{what: inputs.get(key, {}).get("fingerprint") for key, what in _CONDITIONS.items()},
            **manifest.get("conditions", {}),
        },
        found["unit"],
        cells,
        tasks,
    )


def load_groups(texts: Sequence[str]) -> list[MethodRuns]:
    """Read methods written as on the command line: `DIR`, `DIR,DIR` or `NAME=DIR,DIR`.

    A `NAME=` given several times is one method with as many choices of rows.

    Raises:
        OptionError: Two methods have the same name by their folders, or a folder is named twice.
        InputError: A folder has no result.
    """
    methods: dict[str, list[list[str]]] = {}
    for text in texts:
        name, folders = _parsed(text)
        if not name:
            name = ",".join(Path(folder).resolve().name for folder in folders)
            if name in methods:
                raise OptionError(f"the method {name} is named twice; name methods with NAME=DIR,DIR")
        methods.setdefault(name, []).append(folders)
    places = [str(Path(each).resolve()) for choices in methods.values() for some in choices for each in some]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise OptionError(f"the folder {twice} is named twice; name it once")
    return [
        MethodRuns(
            name,
            tuple(load_result(folder) for folders in choices for folder in folders),
            tuple(number for number, folders in enumerate(choices) for _ in folders),
        )
        for name, choices in methods.items()
    ]


def _parsed(text: str) -> tuple[str, list[str]]:
    """Return a method's name, empty where its folders name it, and its folders."""
    name, equals, rest = text.partition("=")
    if Path(text).is_dir() or not equals:
        name, rest = "", text
    folders = [rest] if Path(rest).is_dir() else [part for part in rest.split(",") if part]
    if not folders:
        raise OptionError(f"{text!r}: names no folder; wanted DIR, DIR,DIR or NAME=DIR,DIR")
    return name, folders


def _cells(rows: Sequence[dict[str, Any]]) -> Cells:
    turns = max((len(row["sums"]) for row in rows), default=1)
    return Cells(
        tuple(str(row["id"]) for row in rows),
        tuple(str(row["category"]) for row in rows),
        np.array([row["sums"] for row in rows], float).reshape(len(rows), turns),
        np.array([row["weights"] for row in rows], float).reshape(len(rows), turns),
    )
