"""Describe what is in a pool: layout, counts, models, rewards, gaps, duplicates; plain values, for people and for JSON."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crowdselect.crowd import Crowd, Member, students_in
from crowdselect.errors import RewardError
from crowdselect.numeric.duplicates import duplicate_groups
from crowdselect.numeric.ensembles import reward_agreement
from crowdselect.numeric.good import good_cut
from crowdselect.numeric.metrics import by_family
from crowdselect.numeric.ranks import DEFAULT_WEIGHTS
from crowdselect.numeric.telling import differs_within
from crowdselect.pool.idlike import id_lines, like_ids
from crowdselect.pool.layouts import unlikely
from crowdselect.pool.pool import Pool
from crowdselect.pool.rendered import counts_of, read_as, template_lines
from crowdselect.selection.benchmarks import evaluation_lines
from crowdselect.selection.eligible import id_doubt
from crowdselect.selection.numbers import forms
from crowdselect.selection.rewards import (
    empty_answers,
    empty_line,
    ends_of,
    marker_line,
    marker_lines,
    rewards_in,
)
from crowdselect.selection.telling import alone_line, drawn_lines, tells_of
from crowdselect.terminal import counted
from crowdselect.types import FloatArray

_MOST_REWARDS = 6  # reward columns described when none is named
_FAR = 2  # a gap of so many times the largest other one
_LISTED = 3  # further pairs of rewards that a warning names
_ALIKE = 0.3  # rank correlation from which on two rewards are of the same thing
_TENTH = 0.12  # of a reward's range, counted from its lowest value
_SAFE = 1e290  # rewards below this can be summed over any pool


def inspect_pool(pool: Pool, *, crowd: Crowd | None = None, reward: str | None = None) -> dict[str, Any]:
    """Describe a pool.

    Args:
        pool: From `crowdselect.open_pool`.
        crowd: Family and size of the models; None reads them off the names.
        reward: Describe this reward column only; None describes all candidates (the first few of many).

    Returns:
        Plain values by name: `layout`, `instructions`, `models`, `rewards` (one entry per reward column with
        its filled share, range and gaps, how many instructions have a stability, what is good (`above`, the cut, and its `share`), and whether
        it `tells_of` both answers and instructions or of one of the two),
        `reward_columns` (those that may be meant where none is named), `crowd` (one entry per model with family, size, mean reward and
        coverage per reward column), `students` (the same of each model that is marked as one), `numbers` (names that weights, bands and
        clusters know), `length_bias` (see the function; None where the pool has no responses),
        `malformed` (rows), `malformed_instructions` (which `instructions` counts and `without_text` does not),
        `duplicates`, `id_doubted` (the id seems to differ from answer to answer), `few_answered` (difficulty depends on which
        models answered), `empty_answers` (answers with a reward, the usual
        or else the likeliest one, but without text), `notes`. Means are over the answers
        that have a reward, so they do not compare models that answered different instructions.

    Raises:
        CrowdselectError: The pool cannot be read, or has no such reward.

    Example:
        >>> inspect_pool.__name__
        'inspect_pool'
    """
    matrices, missing = _matrices(pool, reward)
    students = students_in(pool.models, marked=pool.students, crowd=crowd)
    members, notes = _members(pool, crowd, students)
    texts, forms = pool.instructions(), counts_of(pool.prompt_forms)
    crowd_at = [at for at, name in enumerate(pool.models) if name not in students]
    crowd_members = [members[at] for at in crowd_at]
    rewards = {
        name: {
            **_describe(matrix),
            "with_stability": _with_stability(matrix[:, crowd_at], crowd_members),
            "good": _good(pool, name),
            "tells_of": tells_of(matrix[:, crowd_at]),
        }
        for name, matrix in matrices.items()
    }
    equal = [
        f"{name}: all rewards are equal ({found['lowest']:g}), so there is nothing to choose by"
        for name, found in rewards.items()
        if found["lowest"] == found["highest"]
    ]
    equal += [
        alone_line(name, found["tells_of"]) for name, found in rewards.items() if found["tells_of"] != "both"
    ]
    empty = None
    if pool.has_responses:
        likely = (pool.usual_reward, *pool.likely_rewards)
        used = [name for name in likely if name in matrices][:1] or [*matrices]
        empty = int(empty_answers(pool, used).sum()) if used else 0
    with_text = np.array([text is not None for text in texts], dtype=bool)
    barred = [str(why) for why in pool.left_out()]
    malformed = np.array([why.startswith("malformed") for why in barred], dtype=bool)
    other = barred.count("not_text")
    if other:
        words = "cannot be chosen: what is asked, or every answer, holds something other than text, such as an image"
        notes = [*notes, f"{counted(other, 'instruction')} {words}"]
    endings = pool.endings()
    repeated = np.count_nonzero(duplicate_groups(texts) != np.arange(len(texts)))
    most = max((int((~np.isnan(matrix)).sum(axis=1).max()) for matrix in matrices.values()), default=0)
    doubt = id_doubt(pool, most=most, repeated=int(repeated)) if matrices else None
    as_text = pool.text_reward()
    doubts = [line for line in (as_text, doubt) if line is not None]
    told = {
        member.name: {
            "name": member.name,
            "family": member.family,
            "size_b": member.size_b,
            "source": member.source,
            "endings": endings[j],
            "coverage": {name: float((~np.isnan(matrix[:, j])).mean()) for name, matrix in matrices.items()},
            "mean_reward": {name: _mean(matrix[:, j]) for name, matrix in matrices.items()},
        }
        for j, member in enumerate(members)
    }
    few = [] if students else _drawn(matrices, rewards, pool.usual_reward, crowd_at)
    return {
        "pool": pool.path,
        "layout": pool.layout,
        "read_as": read_as(pool.read_as, forms),
        "malformed": pool.malformed,
        "simulated": "simulated" in pool.columns,
        "columns": list(pool.columns),
        "instructions": len(pool.ids),
        "malformed_instructions": int(malformed.sum()),
        "without_text": int((~with_text & ~malformed).sum()),
        "duplicates": int(repeated),
        "id_doubted": doubt is not None,
        "few_answered": bool(few),
        "numbers": _numbers(pool, matrices),
        "models": len(pool.models) - len(students),
        "reward_columns": list(pool.likely_rewards),
        "usual_reward": pool.usual_reward,
        "reward_as_text": as_text is not None,
        "rewards": rewards,
        "length_bias": length_bias(pool.response_lengths(), matrices) if pool.has_responses else None,
        "empty_answers": empty,
        "crowd": [told[name] for name in pool.models if name not in students],
        "students": [told[name] for name in students],
        "notes": [*pool.notes, *notes, *missing],
        "warnings": [
            *evaluation_lines(pool.evaluations),
            *doubts,
            *equal,
            *template_lines(forms),
            *id_lines(like_ids(pool.text_array)),
            *_markers(pool, list(matrices)),
            *_contradictions(matrices, pool),
            *([empty_line(empty)] if empty else []),
            *few,
        ],
    }


def proposed_weights(described: Mapping[str, Any] | None, instructions: int) -> dict[str, float]:
    """Give the usual weights; where most instructions have no stability, without it, as most could not be chosen.

    Args:
        described: A reward, one of `rewards` from `inspect_pool`; None = there is none.
        instructions: How many the pool has.
    """
    rewarded = 0 if described is None else instructions - described["without_reward"]
    few = described is None or described["with_stability"] < max(rewarded / 2, 1)
    left_out = by_family() if few else []
    return {name: weight for name, weight in DEFAULT_WEIGHTS.items() if weight and name not in left_out}


def _drawn(
    matrices: Mapping[str, FloatArray],
    rewards: Mapping[str, Mapping[str, Any]],
    usual: str | None,
    crowd_at: Sequence[int],
) -> list[str]:
    """Warn of difficulty where few models answered, by the reward that a selection would use."""
    name = usual if usual in matrices else next(iter(matrices), None)
    if name is None or rewards[name]["tells_of"] != "both":
        return []
    counts = (~np.isnan(matrices[name][:, crowd_at])).sum(axis=1)
    return drawn_lines(counts[counts > 1], len(crowd_at), proposed_weights(rewards[name], len(counts)))


def _members(pool: Pool, crowd: Crowd | None, students: Sequence[str]) -> tuple[list[Member], list[str]]:
    """The pool's models with family and size, in its order, students among them; and notes about the crowd file."""
    names = [name for name in pool.models if name not in students]
    found, notes = (crowd or Crowd.from_names(names)).aligned(names) if names else (Crowd(()), [])
    known = {member.name: member for member in found.members}
    others = Crowd.from_names(students).members if students else ()
    known |= {member.name: member for member in others}
    return [known[name] for name in pool.models], notes


def length_bias(
    lengths: FloatArray, matrices: Mapping[str, FloatArray]
) -> dict[str, dict[str, float | None]]:
    """Measure how far rewards follow the length of answers.

    Args:
        lengths: Characters, shape (N, M). NaN = no text.
        matrices: Reward → scores, shape (N, M) each. NaN = no reward.

    Returns:
        For each reward, `overall`: Spearman's rho of reward and length over all answers; `within`: the mean
        over instructions of rho among an instruction's answers, which harder questions with longer answers
        do not disturb; from -1 to 1. Higher = longer answers get higher rewards. None where undefined.

    Example:
        >>> length_bias(np.array([[1.0, 2.0, 3.0]]), {"a": np.array([[1.0, 2.0, 4.0]])})
        {'a': {'overall': 1.0, 'within': 1.0}}
    """
    biases = {}
    for name, matrix in matrices.items():
        agreement = reward_agreement({"length": lengths, name: matrix})
        pair = ("length", name)
        biases[name] = {
            "overall": _defined(agreement.overall[pair]),
            "within": _defined(agreement.within[pair]),
        }
    return biases


def _numbers(pool: Pool, matrices: Mapping[str, FloatArray]) -> list[str]:
    """The names that count in weights, bands and clusters; MODEL stands for a model."""
    several = within = False
    for name, matrix in matrices.items():
        found = pool.cells_of_part(name)
        values = matrix[~np.isnan(matrix)] if found is None else found.values
        several |= found is not None and bool((found.counts > 1).any())
        within |= bool(values.size) and bool(values.min() >= 0 and values.max() <= 1)
    return forms(samples=several, full_marks=within, ensemble=len(pool.reward_columns) > 1)


def _markers(pool: Pool, names: list[str]) -> list[str]:
    """Warn of a value that probably means no reward: a usual marker, or the lowest one, repeated and far from the next."""
    warnings = []
    for name in names:
        values = pool.samples.rewards(name) if pool.samples is not None else pool.scores_of_part(name).ravel()
        ends = ends_of(values)
        usual = marker_lines(name, ends)
        if usual:
            warnings += usual
            continue
        found = np.unique(values[~np.isnan(values)])
        if len(found) < 3 or ends[0][1] < 2:
            continue
        lowest, rest = found[0], found[1:]
        gaps = np.diff(rest)
        far = rest[0] - lowest > _FAR * max(float(gaps.max()), 0.0) and len(rest) > 2
        from_one = lowest == 0 and bool((rest == rest.round()).all()) and rest[0] >= 1 and rest[-1] in {5, 10}
        if float(lowest).is_integer() and lowest <= 0 and (far or from_one):
            warnings.append(marker_line(name, ends))
    return warnings


def _contradictions(matrices: Mapping[str, FloatArray], pool: Pool) -> list[str]:
    """Warn of answers that one reward puts among the highest and another among the lowest, where the two agree otherwise."""
    found: list[tuple[int, str, str]] = []
    names = list(matrices)
    agreement = reward_agreement(matrices).overall if len(names) > 1 else {}
    for pair, rho in agreement.items():
        if np.isnan(rho) or rho < _ALIKE:
            continue
        one, other = (matrices[name] for name in pair)
        for high, low, (first, second) in ((one, other, pair), (other, one, pair[::-1])):
            top, bottom = np.nanmax(high), np.nanmin(low)
            spread = np.nanmax(low) - bottom
            odd = (high == top) & (low <= bottom + _TENTH * spread)
            if odd.any():
                row, model = (int(each[0]) for each in np.nonzero(odd))
                count = int(odd.sum())
                many = f"{count} answers have" if count > 1 else "1 answer has"
                where = (
                    f"such as that of {pool.models[model]}" if count > 1 else f"that of {pool.models[model]}"
                )
                said = (
                    f"{many} the highest {first} ({top:g}) and among the lowest {second}, {where} to id "
                    f"{pool.ids[row]!r}: one of the two is wrong there"
                )
                found.append((count, said, f"{first} and {second} ({count})"))
    if not found:
        return []
    (_, said, _), *others = sorted(found, key=lambda each: -each[0])
    listed = ", ".join(pair for _, _, pair in others[:_LISTED]) + (", ..." if len(others) > _LISTED else "")
    return [f"{said}; likewise the highest and the lowest of {listed}" if others else said]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value


def _matrices(pool: Pool, reward: str | None) -> tuple[dict[str, FloatArray], list[str]]:
    """Read the score matrices to describe; and a note on each candidate column without a number."""
    if reward is not None:
        name = pool.reward_name(reward)
        return {name: _scores(pool, name)}, []
    matrices: dict[str, FloatArray] = {}
    notes: list[str] = []
    likely = pool.likely_rewards
    for name in likely[:_MOST_REWARDS]:
        try:
            matrices[name] = _scores(pool, name)
        except RewardError as error:
            notes.append(str(error))
    # One of the usual names may be the same for all answers to an instruction, too: it comes last.
    order = {name: (not differs_within(matrix).any(), unlikely(name)) for name, matrix in matrices.items()}
    matrices = {name: matrices[name] for name in sorted(matrices, key=lambda name: order[name])}
    if len(likely) > _MOST_REWARDS:
        notes.append(
            f"only the first {_MOST_REWARDS} of {len(likely)} reward columns are described; `reward` names another"
        )
    others = [name for name in pool.reward_columns if name not in likely]
    if others:
        notes.append(
            f"no rewards unless `reward` names them (by their names, or the same for all answers to an instruction): {', '.join(others)}"
        )
    return matrices, notes


def _scores(pool: Pool, name: str) -> FloatArray:
    """The score matrix of a reward, of one model too."""
    scores = pool.scores_of_part(name)
    if np.isnan(scores).all():
        raise RewardError(f"{pool.path}: no reward: {name} is missing for every instruction and model")
    return scores


def _describe(matrix: FloatArray) -> dict[str, Any]:
    known = ~np.isnan(matrix)
    per_row = known.sum(axis=1)
    return {
        "filled": float(known.mean()),
        "lowest": float(np.nanmin(matrix)),
        "mean": _mean(matrix),
        "highest": float(np.nanmax(matrix)),
        "without_reward": int((per_row == 0).sum()),
        "with_one_reward": int((per_row == 1).sum()),
        "complete": int((per_row == matrix.shape[1]).sum()),
    }


def _with_stability(matrix: FloatArray, members: Sequence[Member]) -> int:
    """How many instructions have a stability: rewards of two sizes of one family."""
    columns: dict[str, dict[float, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, member in enumerate(members):
        if member.family is not None and member.size_b is not None:
            columns[member.family][member.size_b].append(at)
    found = np.zeros(len(matrix), dtype=np.bool_)
    for sizes in columns.values():
        present = [(~np.isnan(matrix[:, own])).any(axis=1) for own in sizes.values()]
        found |= np.sum(present, axis=0) > 1
    return int(found.sum())


def _good(pool: Pool, name: str) -> dict[str, float] | None:
    """Where the cut lies above which an answer is good, and the share of rewards there; None where all are equal.

    See `crowdselect.numeric.good.good_cut`. Marked students count, as they do in a selection for one.
    """
    found = rewards_in(pool, name, None)
    every = np.ones(found.scores.shape, dtype=np.bool_)
    values, counts = found.tally(every[:, 0], every[0])
    cut = good_cut(values, counts)
    return None if cut is None else {"above": cut, "share": float(counts[values > cut].sum() / counts.sum())}


def _mean(values: FloatArray) -> float | None:
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    scale = max(float(np.abs(known).max()) / _SAFE, 1.0)  # a sum of rewards near the largest number overflows
    return float((known / scale).mean() * scale)
