"""A column `answer` that holds the right answers, and which others may hold those of the models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from crowdselect.errors import LayoutError
from crowdselect.pool.columns import Columns
from crowdselect.pool.idlike import id_columns
from crowdselect.pool.layouts import REFERENCES
from crowdselect.pool.parts import ANSWER, Names

Rows = Callable[[Sequence[str], str | None], Iterator[tuple[str, dict[str, Any]]]]
"""Some columns, and that of the model → the model of each row, and the row."""
_GOLD = (REFERENCES | {"gt", "gt_answer", "gold_answer"}) - {ANSWER}


@dataclass(slots=True)
class _Texts:
    """What a column of texts was seen to hold."""

    distinct: set[int]
    first: dict[str, int]
    """Of each instruction."""
    differs: bool = False
    length: int = 0

    def add(self, key: str, value: object) -> None:
        text = str(value)
        own = hash(text)
        self.distinct.add(own)
        self.differs |= self.first.setdefault(key, own) != own
        self.length += len(text)


class GoldAnswer:
    """Says whether `answer` is the right answer, as it is where it is the same for all models, or as in a column of right ones.

    Args:
        columns: Of the file.
        rows: Reads it.
    """

    def __init__(self, columns: Columns, rows: Rows) -> None:
        self._columns = columns
        self._rows = rows
        self._why = ""

    def __call__(self, keys: Sequence[str], model: str | None) -> str:
        """Say why it is the right answer; empty where it is not known to be.

        Args:
            keys: Columns that may tell instructions apart.
            model: That of the model.
        """
        same = next((key for key in keys if self._same_for_all(key, model)), None)
        twin = self._twin if same is None else None
        if same is not None:
            self._why = f"{ANSWER} is the same for all models of an id"
        elif twin is not None:
            self._why = f"{ANSWER} is what {twin} is in all rows"
        return self._why

    def refuse_doubt(self, names: Names, path: str) -> None:
        """Stop where the answers of the models are in another column.

        Raises:
            LayoutError: Some column of texts differs between models; it is named.
        """
        key = next((k for k in (names.id, names.instruction, names.messages) if k is not None), None)
        if not self._why or names.response is not None or key is None:
            return
        found = self._others(names, key)
        if found:
            none = (
                f"; if none does, say so with `columns='reference={ANSWER}'`"
                if names.model is not None
                else ""
            )
            raise LayoutError(
                f"{path}: {self._why}, so it is the right one; {' or '.join(found)} may hold what the models answered: name it "
                f"with `columns='response={found[0]}'`{none}"
            )

    def _same_for_all(self, key: str, model: str | None) -> bool:
        """Whether it has one value for all models of a key, and some key has several models."""
        known: dict[str, tuple[str, set[str]]] = {}
        for by, row in self._rows([key, ANSWER], model):
            value, models = known.setdefault(str(row.get(key)), (str(row.get(ANSWER)), set()))
            models.add(by)
            if value != str(row.get(ANSWER)):
                return False
        return any(len(models) > 1 for _, models in known.values())

    @cached_property
    def _twin(self) -> str | None:
        """The column of right answers that has its values."""
        twins = {name for name in self._columns if name.casefold() in _GOLD}
        filled = False
        for _, row in self._rows([ANSWER, *twins], None) if twins else ():
            value = row.get(ANSWER)
            filled |= value is not None
            twins = {name for name in twins if str(row.get(name)) == str(value)}
            if not twins:
                return None
        return min(twins) if twins and filled else None

    def _others(self, names: Names, key: str) -> list[str]:
        """The columns of texts that may be answers, the longest texts first."""
        free = [
            name
            for name, kind in self._columns.items()
            if "text" in {kind.name, kind.item and kind.item.name}
        ]
        free = [n for n in free if n not in names.taken and n.casefold() not in _GOLD | {ANSWER}]
        free = [n for n in free if n not in id_columns(free)]
        seen = {name: _Texts(set(), {}) for name in (ANSWER, *free)}
        models: set[str] = set()
        for model, row in self._rows([key, *seen], names.model):
            models.add(model)
            for name, texts in seen.items():
                if row.get(name) is not None:
                    texts.add(str(row.get(key)), row[name])
        right = len(seen.pop(ANSWER).distinct)
        found = {
            name: texts.length
            for name, texts in seen.items()
            if (texts.differs or len(models) == 1) and 2 * len(texts.distinct) >= max(right, 3)
        }
        return sorted(found, key=lambda name: (-found[name], name))
