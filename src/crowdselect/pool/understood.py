"""What the rows of a pool's files hold: their columns, the form they have, and what each column is."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice

from crowdselect.errors import InputError, LayoutError
from crowdselect.names import read_name
from crowdselect.pool.answercolumns import (
    is_whole,
    mean_answers,
    named_columns,
    naming,
    response_of,
    texts_by_model,
)
from crowdselect.pool.batchservice import Requests, asked_in, is_batch
from crowdselect.pool.columns import Kind
from crowdselect.pool.files import FoundFiles
from crowdselect.pool.forms import fitted, no_instruction, textless
from crowdselect.pool.goldanswers import GoldAnswer
from crowdselect.pool.howread import LISTS, PARTS, HowRead
from crowdselect.pool.inner import finish_beside, list_on_the_way, parts_inside, path_to, value_at, within
from crowdselect.pool.layouts import FEWEST_COUNTED, no_reward
from crowdselect.pool.lmeval import Log, columns_in, rows_in
from crowdselect.pool.modelcolumns import is_named_as, is_score
from crowdselect.pool.parts import Names, may_be_nested, names_of
from crowdselect.pool.pathmodels import named_in
from crowdselect.pool.promptfoo import (
    SAME_SCORE,
    is_promptfoo,
    is_ungraded,
    parts_of,
    variables,
    without_scores,
)
from crowdselect.pool.rowfiles import Broken, Row, columns_of, is_index, rows_of
from crowdselect.pool.rowforms import Fitted, are_numbers, list_of_answers, must_fit
from crowdselect.pool.textscores import for_each_file, wants_number, written_scores

_FIRST_ROWS = 1000  # by which a list is seen to stand beside that of the answers

_NEARLY_ALL = 0.9  # of the prompts


class Understood:
    """The files of one pool, understood but not yet read."""

    def __init__(self, found: FoundFiles, how: HowRead, *, answers: bool) -> None:
        self._found = found
        self._how = how
        self._answers = answers
        self._columns = self._found_columns()
        if not self._columns:
            raise self._without_objects()
        self._counters: list[str] = []
        self._index = [name for name in self._columns if is_index(name)]
        for name in self._index:
            del self._columns[name]
        self._requests: Requests | None = None
        if is_batch(self._columns):
            self._how = how = replace(how, columns=asked_in(self._columns) | how.named)
            if found.kind == "json" and "body" in self._columns:
                self._requests = Requests(found.files)
        self._promptfoo = is_promptfoo(self._columns)
        if self._promptfoo:
            self._how = how = replace(how, columns=self._parts_of_promptfoo())
        finish = finish_beside(self._columns, how.named.get("response", ""))
        if finish is not None and "finish_reason" not in {*how.named, *self._columns}:
            self._how = how = replace(how, columns=how.named | {"finish_reason": finish})
        reward = how.named.get("reward")
        if reward is not None:
            named = list_on_the_way(self._columns, reward)
            self._how = how = replace(how, columns=how.named | {"reward": named})
        self._called = named_columns(self._columns, how.named)
        others = {what: name for what, name in how.named.items() if what not in self._called}
        self._how = how = replace(how, columns=others)
        inside = {name: path_to(self._columns, name) for name in how.named.values()}
        self._paths = {name: at[0] for name, at in inside.items() if at is not None and len(at[0]) > 1}
        self._columns |= {name: at[1] for name, at in inside.items() if at is not None}
        self._rename(self._called)
        self._bare = self._bare_question() if found.kind == "lm-eval" else None
        self._nearly_beside: dict[str, str] = {}
        """Lists of numbers as long as the answers in most of the first rows → where one is not."""
        self._columns |= {
            name: replace(self._columns[name], beside=True) for name in self._lists_beside_answers()
        }
        self._told = found.models if "model" not in self._columns else ()
        if self._told:
            self._columns = {**self._columns, "model": Kind("text")}
        self._form, self._names = self._understood(answers=answers)
        if self._form is not None and reward is not None and reward != how.named.get("reward", reward):
            self._refuse_within_answers(reward, how.named["reward"], self._form.taken)
        self._carried = self._carriable()
        taken = self._form.taken if self._form else frozenset[str]()
        inner = {n: path for n, path in self._within().items() if path[0] not in taken}
        self._inner = {n: path for n, path in inner.items() if n not in self._columns}
        self._hidden = {n: path for n, path in inner.items() if n in self._columns and n not in self._paths}

    def _refuse_within_answers(self, reward: str, outer: str, taken: Collection[str]) -> None:
        """Stop where `columns` names a reward by a path into the list of the answers, which no path leads into.

        Raises:
            InputError: What is read there.
        """
        if outer in taken:
            raise InputError(
                f"{self._found.path}: {reward} leads into {outer}, which holds the answers: `columns` names no reward there; "
                "numbers of each answer are rewards by their own names, which `crowdselect inspect` lists without it"
            )

    def _parts_of_promptfoo(self) -> dict[str, str]:
        """Where results of promptfoo have the parts of a row, those that the user named by the name of a variable among them."""
        how, found = self._how, parts_of(self._columns)
        variable = {what: f"vars.{name}" for what, name in how.named.items() if name not in self._columns}
        named = how.named | {what: n for what, n in variable.items() if path_to(self._columns, n) is not None}
        if how.model is not None or how.model_from is not None:
            found.pop("model", None)
        if "messages" in how.named:
            found.pop("instruction", None)
        return found | named

    def _within(self) -> dict[str, tuple[str, ...]]:
        """The values inside objects that count as columns."""
        found = within(self._columns)
        if not self._promptfoo:
            return found
        found = {name: path for name, path in found.items() if name != SAME_SCORE and path[0] != "vars"}
        return {**found, **variables(self._columns, {*self._columns, *found, *PARTS} - {"reference"})}

    def _rename(self, called: Mapping[str, str]) -> None:
        """Call columns otherwise than the file does: name → that of the file."""
        others = {own: name for name, own in called.items()}
        self._columns = {others.get(name, name): kind for name, kind in self._columns.items()}
        self._paths |= {name: (own,) for name, own in called.items()}

    def _with_answers(self, names: Names) -> Names:
        """Take the only texts that are called answers, of all models with a score, for these, and say so; of others say what reads them."""
        notes = tuple(f"{name} is taken for {what}" for what, name in self._called.items())
        names = replace(names, notes=(*names.notes, *notes))
        if names.model is not None or names.response is not None or self._how.model is not None:
            return names
        shapes = texts_by_model(self._columns, names.taken)
        likely = [shape for shape in shapes if mean_answers(shape)]
        if len(likely) == 1 and is_whole(self._columns, shapes[likely[0]]):
            self._rename({response_of(model): name for model, name in shapes[likely[0]].items()})
            return replace(names, notes=(*names.notes, f"{likely[0]} is taken for the answers"))
        told = [f"texts of models, not read: {' and '.join(shapes)}"] if shapes else []
        told += [
            f"if the answers are in {shape}, name them with {naming(shapes[shape])}"
            for shape in [*shapes][:1]
        ]
        return replace(names, notes=(*names.notes, *told))

    def _without_objects(self) -> InputError:
        for file in self._found.files:
            for at, row in rows_of(file, self._found.kind):
                if isinstance(row, Broken):
                    return InputError(
                        f"{file}: row {at} {row.what}; wanted objects with names (pandas: orient='records')"
                    )
        return InputError(
            f"{self._found.path}: the file is empty (no JSON object); wanted one object per line"
        )

    def _found_columns(self) -> dict[str, Kind]:
        if self._found.kind != "lm-eval":
            return dict(
                columns_of(
                    self._found.files, self._found.kind, nested=self._may_be_nested, asked=self._named_prompts
                )
            )
        return columns_in(self._found.logs, chosen=self._how.filter, path=self._found.path)

    def _bare_question(self) -> str | None:
        """What holds the question without solved examples, unless it is named; what a log holds of a document is else no column."""
        inside = parts_inside({"doc": self._columns.pop("doc", Kind("text"))})
        if {"instruction", "messages"}.isdisjoint(self._how.named):
            return inside.get("instruction")
        sent = {"instruction", "messages"} - set(self._how.named.values())
        self._columns = {name: kind for name, kind in self._columns.items() if name not in sent}
        return None

    @property
    def _named_prompts(self) -> list[str]:
        """What is named as the prompt."""
        return [name for what, name in self._how.named.items() if what in {"instruction", "messages"}]

    def _lists_beside_answers(self) -> list[str]:
        """The lists of numbers that are as long as the list of answers in all of the first rows that have both."""
        answers = list_of_answers(self._columns, self._how)
        lists = [name for name, kind in self._columns.items() if are_numbers(kind) and name != answers]
        if answers is None or not lists:
            return []
        fits = dict.fromkeys(lists, 0)  # the rows where it is as long, less those where it is not
        unfit: dict[str, str] = {}
        for at, row in islice(self._read(0, [answers, *lists]), _FIRST_ROWS):
            texts = None if isinstance(row, Broken) else row.get(answers)
            if isinstance(row, Broken) or not isinstance(texts, list):
                continue
            for name in lists:
                if isinstance(values := row.get(name), list):
                    is_one_each = len(values) == len(texts)
                    fits[name] += 1 if is_one_each else -1
                    if not is_one_each:
                        unfit.setdefault(name, f"{len(values)} values for {len(texts)} answers in row {at}")
        likely = [name for name, count in fits.items() if count > 0]
        named = {name for name in lists if no_reward(name) or must_fit(name, self._how)}
        self._nearly_beside = {name: unfit[name] for name in likely if name in unfit and name not in named}
        return [name for name in likely if name not in unfit]

    def _may_be_nested(self, name: str) -> bool:
        """Whether texts of a column may be lists or objects: by its name, or by what it, or something inside it, is named as."""
        lists = {named for what, named in self._how.named.items() if what in LISTS or what not in PARTS}
        inside = any(named.startswith(f"{name}.") for named in self._how.named.values())
        return may_be_nested(name) or inside or name in lists

    def _logged(self, log: Log) -> Iterator[tuple[int, Row | Broken]]:
        """The rows of a log of lm-evaluation-harness."""
        return rows_in(log, chosen=self._how.filter, path=self._found.path)

    def _read(self, number: int, wanted: list[str]) -> Iterator[tuple[int, Row | Broken]]:
        """The rows of a file, with their numbers."""
        file, outer = self._found.files[number], [path[0] for path in self._paths.values()]
        if self._found.kind == "lm-eval":
            rows = self._logged(self._found.logs[number])
        else:
            rows = rows_of(
                file,
                self._found.kind,
                [*wanted, *outer],
                nested=self._may_be_nested,
                asked=self._named_prompts,
            )
            rows = rows if self._requests is None else self._requests.joined(rows)
        for at, row in rows:
            if isinstance(row, Broken):
                yield at, row
                continue
            known = without_scores(row) if self._promptfoo and is_ungraded(row) else row
            yield at, known | {name: value_at(known, path) for name, path in self._paths.items()}

    @property
    def _numbered(self) -> bool:
        """Whether the rows have nothing but numbers, so that their place is their id."""
        return (
            self._form is not None
            and self._form.name == "matrix"
            and not self._names.asked
            and not self._names.id
        )

    def _understood(self, *, answers: bool) -> tuple[Fitted | None, Names]:
        found, how, columns = self._found, self._how, self._columns
        gold = GoldAnswer(columns, self._by_model)
        names = names_of(columns, how, path=found.path, why_gold=gold, tells_apart=self._tells_apart)
        if not answers:
            if not names.asked and "turns" not in columns:
                raise LayoutError(
                    f"{found.path}: nothing to ask: found the columns {', '.join(columns)}; wanted instruction, messages or "
                    "turns; name the column with `columns='instruction=COLUMN'`"
                )
            return None, names
        gold.refuse_doubt(names, found.path)
        names = names if names.asked else replace(names, id_of_answer=self._is_id_of_answer(names.id))
        names = self._with_answers(names)
        columns = self._columns
        try:
            form = fitted(columns, names, how, path=found.path, named_in=named_in(found.files))
        except LayoutError:
            self._refuse_text_scores(names.taken, every=True)
            raise
        if form.many or form.side_by_side > 1:
            slips = {name for name, kind in columns.items() if kind.slips}
            texts = [name for name, kind in columns.items() if kind.name == "text"]
            others = {n for n in texts if is_score(n) and not is_named_as(n, form.taken - {n})}
            others = others if form.name in {"matrix", "column pairs"} else set()
            self._refuse_text_scores(names.taken | (form.taken - slips) | others, every=False)
        if form.name == "matrix":
            numbers = {name for name, kind in columns.items() if kind.name == "number"}
            self._counters = self._counting(form.taken | (numbers - names.taken))
            self._columns = columns = {n: kind for n, kind in columns.items() if n not in self._counters}
            form = fitted(columns, names, how, path=found.path)
        text = textless(form, columns)
        if text is not None:
            raise no_instruction(found.path, text)
        return form, form.names

    def _refuse_text_scores(self, taken: Collection[str], *, every: bool) -> None:
        """Stop where scores are texts, as with decimal commas, or 8/10.

        Raises:
            LayoutError: A column that is no part of a row holds such scores; see `written_scores`.
        """
        texts = [name for name, kind in self._columns.items() if kind.name == "text" and name not in taken]
        for file in self._found.files if self._found.kind != "lm-eval" else ():
            found = written_scores(file, self._found.kind, texts, every=every)
            if found is not None:
                columns, at, value = found
                wanted = for_each_file(wants_number(value, columns, str(file)), len(self._found.files))
                raise LayoutError(
                    f"{file}: row {at}: {columns[0]} is {value!r}; {wanted or 'wanted numbers, and an empty cell where there is none'}"
                )

    def _carriable(self) -> dict[str, str]:
        """The columns that go over as they are, scalars and lists of scalars, and what each is called then."""
        taken = self._names.taken | (self._form.taken if self._form else frozenset())
        scalar = {"text", "number", "bool"}
        found = [
            name
            for name, kind in self._columns.items()
            if name not in taken
            and name.casefold() != "id"  # of the file, where the id is made of the text
            and (
                kind.name in scalar
                or (kind.name == "list" and kind.item is not None and kind.item.name in scalar)
            )
        ]
        named = {name: what for what, name in self._how.named.items() if name in found}
        return {name: named.get(name, name) for name in found if name in named or name not in named.values()}

    def _counting(self, names: frozenset[str]) -> list[str]:
        """The columns of a matrix that count its rows, from 0 or 1: they are no models."""
        counting, count = {(name, first) for name in names for first in (0, 1)}, 0
        for file in self._found.files:
            for _, row in rows_of(file, self._found.kind, list(names)):
                if not counting:
                    return []
                if not isinstance(row, Broken):
                    counting = {
                        (name, first)
                        for name, first in counting
                        if str(row.get(name)) in {str(first + count), f"{first + count}.0"}
                    }
                    count += 1
        counters = {name for name, _ in counting}
        return sorted(counters) if count >= FEWEST_COUNTED and counters < names else []

    def _by_model(self, columns: Sequence[str], model: str | None) -> Iterator[tuple[str, Row]]:
        """Some columns of every row, each with the model that the file is of, or that a column names."""
        for number in range(len(self._found.files)):
            for _, row in self._read(number, [*columns, *([model] if model else [])]):
                if not isinstance(row, Broken):
                    yield str(self._told[number] if self._told else row.get(model or "")), row

    def _is_id_of_answer(self, id_: str | None) -> bool:
        """Whether the prompts that lie inside objects repeat, and no id does, so that it is one of each answer."""
        inside = path_to(self._columns, parts_inside(self._columns).get("instruction", ""))
        if id_ is None or inside is None:
            return False
        prompts, ids = Counter[str](), Counter[str]()
        for number in range(len(self._found.files)):
            for _, row in self._read(number, [id_, inside[0][0]]):
                if not isinstance(row, Broken):
                    prompts[str(value_at(row, inside[0]))] += 1
                    ids[str(row.get(id_))] += 1
        return max(ids.values(), default=0) == 1 < max(prompts.values(), default=0)

    def _tells_apart(self, key: str, column: str) -> bool:
        """Whether a column tells apart the rows that share a key, as models do, which may have several samples each.

        Then these rows have different values; or nearly all keys have the same ones, each as often. What all values say that are
        names with a size needs no rows to compare.
        """
        known: dict[str, Counter[str]] = {}
        for number in range(len(self._found.files)):
            for _, row in self._read(number, [key, column]):
                if not isinstance(row, Broken) and row.get(key) is not None:
                    known.setdefault(str(row[key]), Counter())[str(row.get(column))] += 1
        shared = [values for values in known.values() if values.total() > 1]
        if shared and max(max(values.values()) for values in shared) == 1:
            return True
        usual = Counter(frozenset(values.items()) for values in shared).most_common(1)
        if any(len(values) > 1 and count >= _NEARLY_ALL * len(shared) for values, count in usual):
            return True
        return bool(known) and all(read_name(name) != (None, None) for name in set().union(*known.values()))

    @cached_property
    def _wanted(self) -> list[str]:
        """The columns to read."""
        if self._found.kind not in {"parquet", "arrow"}:
            return list(self._columns)
        taken = self._form.taken if self._form else frozenset()
        inner = {path[0] for path in self._inner.values()}
        needed = self._names.taken | taken | set(self._carried) | inner | {"turns"}
        return [name for name in self._columns if name in needed]
