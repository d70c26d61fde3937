"""Scores that others computed: a file with id, model and numbers."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property

from crowdselect.errors import InputError
from crowdselect.pool.files import fingerprint
from crowdselect.pool.index import to_numpy
from crowdselect.pool.layouts import candidates, reward_columns
from crowdselect.pool.source import Source, connect
from crowdselect.reward.protocol import BaseScorer, Item, Outcome, Scored, outcome_of
from crowdselect.reward.specs import Spec

_Place = tuple[str, str, int]


class ImportScorer(BaseScorer):
    """`import:FILE`: looks each answer's score up by id, model and, where the file has it, sample."""

    paid = False

    def __init__(self, spec: Spec, column: str) -> None:
        self._path, self._column = spec.target, column
        self._used = 0
        with closing(connect()) as connection:
            source = Source(connection, self._path)
            settings = {"kind": "import", "file": fingerprint(source.files), "column": column}
        super().__init__(spec.text, settings)

    def identity(self, item: Item) -> str:
        """See `Scorer.identity`."""
        return "\x1f".join(map(str, item.place))

    def score(self, items: Sequence[Item]) -> Iterator[Scored]:
        """Look scores up; see `Scorer.score`."""
        found: Scored = []
        for at, item in enumerate(items):
            id_, model, sample = item.place
            value = self._scores.get((id_, model, sample if self._numbered else 0))
            self._used += value is not None and not math.isnan(value)
            missing = Outcome(reason=f"the file has no {self._column} for it")
            found.append((at, missing if value is None or math.isnan(value) else outcome_of(value)))
        yield found

    def close(self) -> None:
        """Say what of the file belonged to no answer."""
        left = sum(not math.isnan(value) for value in self._scores.values()) - self._used
        if self._used and left > 0:
            self.notes.append(f"{self._path}: {left} scores are of no answer with text in the pool")

    @cached_property
    def _scores(self) -> dict[_Place, float]:
        with closing(connect()) as connection:
            source = Source(connection, self._path)
            columns = reward_columns(source.columns, path=self._path)
            self._numbered = columns.sample is not None
            table = source.fetch(
                columns.id, columns.model, columns.sample or "0.0::DOUBLE", columns.rewards[self._column]
            )
        ids, models, samples, values = table.columns
        places = list(zip(ids.to_pylist(), models.to_pylist(), map(int, to_numpy(samples)), strict=True))
        found = dict(zip(places, to_numpy(values).tolist(), strict=True))
        if len(found) < len(places):
            seen: set[_Place] = set()
            at = next(at for at, place in enumerate(places) if place in seen or seen.add(place))  # type: ignore[func-returns-value]
            raise InputError(
                f"{self._path}: row {at + 1}: a second score for {places[at]}; wanted one per answer"
            )
        return found


def score_columns(spec: Spec) -> list[str]:
    """Say which columns of a file are imported.

    Args:
        spec: An `import:`.

    Returns:
        The named one, or all that are numbers and not counts or costs.

    Raises:
        InputError: The file has no id, no model, no number, or not the named column.
    """
    with closing(connect()) as connection:
        source = Source(connection, spec.target)
        found = candidates(reward_columns(source.columns, path=spec.target).rewards)
    if not found:
        raise InputError(
            f"{spec.target}: no scores: no numeric column for one among {', '.join(source.columns)}; wanted id, model, score"
        )
    if spec.part is not None and spec.part not in found:
        raise InputError(f"{spec.target}: no numeric column {spec.part!r}; found {', '.join(found)}")
    return [spec.part] if spec.part is not None else list(found)
