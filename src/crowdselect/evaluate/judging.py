"""What is judged, and what becomes of the judge's replies."""

from collections.abc import Callable, Mapping, Sequence

from crowdselect.evaluate.asking import Case, Judged
from crowdselect.evaluate.files import Answers, Question, dumped
from crowdselect.evaluate.protocols import Protocol
from crowdselect.evaluate.setup import Setup
from crowdselect.evaluate.verdicts import GAMES, Judgements, Reading, read_label, read_rating, slots_of

_FILLER = "word"  # as many letters as a token has on average; stands for a token that is not there yet
_UNREAD = -1  # FastChat's score for a judgement without a verdict


def reader(protocol: Protocol) -> Callable[[str], Reading]:
    """Give what reads a judge's replies."""
    return read_label if protocol.pairwise else read_rating


def cases_of(setup: Setup, answers: Answers, baseline: Answers | None) -> list[Case]:
    """Say what can be judged: turns that are answered, or pairs of answers in both orders."""
    if setup.task.protocol.pairwise:
        return [] if baseline is None else _pairs(setup, answers, baseline)
    found = []
    for question in setup.questions:
        said = answers.turns.get(question.id, ())
        for turn in range(min(len(said), len(question.turns))):
            references = setup.references.get(question.id, ())[: turn + 1]
            fits = question.category in setup.task.protocol.referenced and len(references) == turn + 1
            name, chat = setup.prompts.single(
                question.turns[: turn + 1], said[: turn + 1], references if fits else None
            )
            found.append(Case(question, turn, name, chat))
    return found


def with_filler(answers: Answers, questions: Sequence[Question], *, tokens: int) -> Answers:
    """Put a text of the longest length in the place of every answer that is not there, for an estimate."""
    turns = {
        question.id: (*said, *(_FILLER * tokens for _ in question.turns[len(said) :]))
        for question in questions
        for said in [answers.turns.get(question.id, ())]
    }
    return Answers(answers.model, turns, {}, {}, ())


def judgements_of(
    setup: Setup,
    answers: Answers,
    baseline: Answers | None,
    *,
    cases: Sequence[Case],
    judged: Sequence[Judged],
) -> Judgements:
    """Gather verdicts and the lines that a file of them holds; what could not be judged has a reason."""
    protocol = setup.task.protocol
    found = {(case.question.id, case.slot): one for case, one in zip(cases, judged, strict=True)}
    verdicts: dict[tuple[str, int], Reading] = {}
    for question in setup.questions:
        for slot in range(slots_of(question, protocol)):
            one = found.get((question.id, slot))
            verdicts[question.id, slot] = (
                Reading(reason=_why(question.id, slot, answers, baseline)) if one is None else one.reading
            )
    lines = _pair_lines if protocol.pairwise else _single_lines
    again = sum(max(one.asked - 1, 0) for one in judged)
    notes = [f"{again} replies of the judge had no verdict and were asked for again"] if again else []
    by_case = {(case.question.id, case.slot): case for case in cases}
    return Judgements(
        setup.model_name, setup.judge_name, setup.baseline_name, verdicts, lines(setup, by_case, found), notes
    )


def _pairs(setup: Setup, answers: Answers, baseline: Answers) -> list[Case]:
    found = []
    for question in setup.questions:
        own, other = answers.turns.get(question.id), baseline.turns.get(question.id)
        if own and other:
            # The order of arena-hard-auto: the baseline is A in the first game.
            for game, (first, second) in enumerate(((other[0], own[0]), (own[0], other[0]))):
                chat = setup.prompts.pair(question.turns[0], first, second)
                found.append(Case(question, game, "pair", chat))
    return found


def _why(id_: str, slot: int, answers: Answers, baseline: Answers | None) -> str:
    """Say why something could not be judged."""
    turn = slot if baseline is None else 0
    own = answers.missing.get((id_, turn))
    if own is not None:
        return f"{answers.model} has no answer: {own}"
    other = None if baseline is None else baseline.missing.get((id_, 0))
    return "not judged" if other is None or baseline is None else f"{baseline.model} has no answer: {other}"


def _single_lines(
    setup: Setup, cases: Mapping[tuple[str, int], Case], found: Mapping[tuple[str, int], Judged]
) -> list[str]:
    """Write grades as FastChat does; -1 is its sign of a reply without a verdict."""
    lines = []
    for place, case in cases.items():
        one = found[place]
        if one.reply is None:
            continue
        row = {
            "question_id": case.question.written_id,
            "model": setup.model_name,
            "judge": [setup.judge_name, case.prompt],
            "user_prompt": case.chat[-1]["content"],
            "judgment": one.reply,
            "score": _UNREAD if one.reading.rating is None else _short(one.reading.rating),
            "turn": case.slot + 1,
            "tstamp": one.at,
        }
        lines.append(dumped(row))
    return lines


def _short(value: float) -> float:
    """Give a whole number as one, as FastChat writes it."""
    return int(value) if value.is_integer() else value


def _pair_lines(
    setup: Setup, cases: Mapping[tuple[str, int], Case], found: Mapping[tuple[str, int], Judged]
) -> list[str]:
    """Write both games on a question as arena-hard-auto does; null stands for a game without a reply."""
    lines = []
    for question in setup.questions:
        places = [(question.id, game) for game in range(GAMES)]
        if not any(place in found and found[place].reply is not None for place in places):
            continue
        games = []
        for place in places:
            one = found[place]
            game = {
                "score": one.reading.label,
                "judgment": {"answer": one.reply},
                "prompt": cases[place].chat,
            }
            games.append(None if one.reply is None else game)
        row = {
            "uid": question.written_id,
            "category": question.category,
            "judge": setup.judge_name,
            "model": setup.model_name,
            "baseline": setup.baseline_name,
            "games": games,
        }
        lines.append(dumped(row))
    return lines
