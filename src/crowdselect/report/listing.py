"""The rows that a report shows, with their texts cut to what a page can hold, and each with its reason in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crowdselect.report.data import Run
from crowdselect.selection.eligible import REASONS
from crowdselect.terminal import visible

FIELDS = (
    "id", "rank", "cluster", "model", "reward", "rewards", "values", "above", "why", "text", "length", "answer", "answerLength",
)  # fmt: skip
"""What a row of the page holds, in order; the script reads them by name."""

LONGEST = 4_000
"""Characters of a text that are shown at most."""

_BUDGET = 4_500_000  # bytes of texts in a page, so that it stays below 10 MB with everything else
_SHORTEST = 120


def row_data(run: Run, lists: Mapping[str, Sequence[int]]) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Lay out the rows of some lists, each row once.

    Args:
        run: The run.
        lists: Rows of the run, by the name of the list.

    Returns:
        `fields` and `rows` for the page; and each list as places in `rows`.

    Example:
        >>> "why" in FIELDS
        True
    """
    rows = list(dict.fromkeys(row for found in lists.values() for row in found))
    place = {row: at for at, row in enumerate(rows)}
    instructions = [None if run.texts is None else run.texts[row] for row in rows]
    answers = run.answers(rows)
    cut = longest([*instructions, *answers])
    names = run.facts.get("cluster_names")
    values = {name: (run.metrics[name], run.number(f"{name}_rank")) for name in run.metrics}
    counts = run.number("n_rewards")
    rewards = run.number("reward")
    made = [
        [
            str(run.ids[row]),
            _number(run.rank[row], whole=True),
            _cluster(run, row, names),
            run.models[row],
            _number(rewards[row]),
            _number(counts[row], whole=True),
            [_number(metric[row]) for metric, _ in values.values()],
            [_number(rank[row]) for _, rank in values.values()],
            why(run, row),
            *_cut(instruction, cut),
            *_cut(answer, cut),
        ]
        for row, instruction, answer in zip(rows, instructions, answers, strict=True)
    ]
    return {"fields": FIELDS, "rows": made}, {
        name: [place[row] for row in found] for name, found in lists.items()
    }


def longest(texts: Sequence[str | None], *, budget: int = _BUDGET) -> int:
    """How many characters of each text fit into a page: 4,000, or fewer where there are many long ones.

    Args:
        texts: All texts of the page; None = none.
        budget: Bytes for all of them, as JSON.

    Returns:
        Characters, at least 120.

    Example:
        >>> longest(["a" * 9_000] * 2), longest(["a" * 9_000] * 4, budget=8_010)
        (4000, 2000)
    """
    cut = LONGEST
    while cut > _SHORTEST and sum(_bytes(text[:cut]) for text in texts if text is not None) > budget:
        cut //= 2
    return max(cut, _SHORTEST)


def why(run: Run, row: int) -> str:
    """Say in one sentence why a row is in or out; the same figures as `Selection.explain`."""
    code, _, other = str(run.selection.table["reason"][row]).partition(":")
    standing, size = run.standing, int(run.standing.size[row])
    where = (
        "the pool"
        if run.cluster[row] < 0
        else f"cluster {_cluster(run, row, run.facts.get('cluster_names'))}"
    )
    place = f"place {standing.place[row]:,} of the {size:,} that could be chosen in {where}, which gave {standing.quota[row]:,}"
    if code == "selected":
        return f"Chosen: {place}."
    if code == "below_cut":
        lack = standing.short[row]
        if np.isnan(lack):
            return f"Not chosen: {place}."
        more = (
            f"it lacked {lack:.3g} of score"
            if lack > 0
            else "its score was equal to the last one's, and the seeded hash decided"
        )
        return f"Not chosen: {place}; {more}."
    return f"Not chosen: {REASONS[code]}" + (f": {other}." if other else ".")


def _cluster(run: Run, row: int, names: Sequence[str | None] | None) -> str | None:
    label = int(run.cluster[row])
    if label < 0:
        return None
    return str(label) if names is None else visible(names[label] or "\u2013")


def _cut(text: str | None, length: int) -> tuple[str | None, int]:
    return (None, 0) if text is None else (text[:length], len(text))


def _bytes(text: str) -> int:
    # As json_block writes it: signs that mean something to HTML take six bytes.
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")) + 5 * sum(
        map(text.count, "<>&")
    )


def _number(value: float, *, whole: bool = False) -> float | int | None:
    if np.isnan(value):
        return None
    return int(value) if whole else float(f"{value:.5g}")
