"""What a page needs to make any choice of a pool by itself: typed arrays, packed; `engine.js` reads them.

Whatever the library draws at random or computes with a logarithm goes into the page as a whole number per row that keeps the
order; a number's values go in once each, ascending, with the place of each row's value among them.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crowdselect.crowd import Crowd
from crowdselect.errors import InputError, OptionError
from crowdselect.explorer.clusters import Spread, spread_of
from crowdselect.methods import METHODS, method_named
from crowdselect.numeric.metrics import METRICS, by_family
from crowdselect.numeric.responses import fits_of
from crowdselect.pool.howread import OF_CROWD_FILE
from crowdselect.pool.pool import Pool
from crowdselect.pool.sidecars import number_columns
from crowdselect.progress import Stages
from crowdselect.report.page import json_block
from crowdselect.selection.eligible import ELIGIBLE, REASONS, barred, bars, eligibility, lists
from crowdselect.selection.facts import answer_notes
from crowdselect.selection.keep import bands_of
from crowdselect.selection.look import look_at
from crowdselect.selection.methods import CROWD, Seen
from crowdselect.selection.numbers import is_number, parted
from crowdselect.selection.options import Options
from crowdselect.selection.reading import Shards
from crowdselect.selection.rows import COLUMNS, Rows
from crowdselect.selection.selection import Selection
from crowdselect.selection.student import REACH
from crowdselect.types import FloatArray

MOST = 200_000
"""Rows that a page holds: with more, it neither opens nor answers quickly."""
SHORT, LONG = 60, 2_000
"""Fewest and most characters of a text on the page; the fewer rows, the more."""

_TEXT = 4_500_000  # characters of all texts on a page
_READ = 300  # fewest characters of a text and its answer by which one can judge both; with fewer, answers are left out
_NOBODY = 65_535
_NO_VALUE = 0xFFFFFFFF
_TEACHERS = 6  # models whose own answers may be asked for, those with the most rewards
_FILE = "explored.jsonl"  # the clusters of a page, which its reader saves
_DECIMALS, _LARGEST = 6, 1000  # of weights, as in engine.js
_AFTER = ("unfinished", "no_answer", "no_pair", "no_reference")
ORDERED = ("random", "easy", "teachable", "teachable:plain")
"""Methods whose order of rows does not depend on which are eligible."""
_NEVER = {
    "outside",
    "below_floor",
    "no_score",
    "near_duplicate_of",
}  # reasons that no row has here, or not in this form
_NOTE = re.compile(r" \([^)]*after the colon\)")
CROWD_NAME = "crowd"


@dataclass(frozen=True, slots=True)
class Payload:
    """What a page is made of."""

    head: dict[str, Any]
    """Plain values; see `engine.js`."""
    packed: bytes
    """The arrays, in the order of `head["sections"]`, by gzip."""


def payload_of(
    pool: Pool,
    options: Options,
    *,
    method: str = "crowd",
    crowd: Crowd | None = None,
    crowd_file: str | None = None,
    saved: Selection | None = None,
    stages: Stages | None = None,
) -> Payload:
    """Gather what a page needs to choose from a pool.

    Args:
        pool: The pool, with rewards of two models or more.
        options: What the page begins with. Near-duplicates are left out, as they need vectors.
        method: One of "crowd", "random", "easy", "teachable" and "teachable:plain", likewise.
        crowd: Family and size of the models; None reads them off the names.
        crowd_file: The file that they are from, for the command.
        saved: A selection of this pool, with which the page compares.
        stages: Times the stages and shows progress.

    Returns:
        The page's data.

    Raises:
        InputError: The pool has more than 200,000 instructions, no rewards, or a single model.
        OptionError: A weight has more than six decimals or is beyond 1000, the method is not one of these, or there is a `quota`.
    """
    stage, options = stages or Stages(), replace(options, near_duplicates=None)
    if len(pool.id_array) > MOST:
        raise InputError(
            f"{pool.path}: {len(pool.id_array):,} instructions are too many for a page, which holds {MOST:,}; take a sample of them "
            f"with `limit={MOST}`"
        )
    if options.quota is not None:
        raise OptionError(
            f"`quota={options.quota!r}`: a page does not keep the mix of a column; leave it out, or select with it"
        )
    if fits_of(options.answer) is not None:
        raise OptionError(
            f"`answer={options.answer!r}` runs a model on the chosen rows, which a page cannot; name another"
        )
    _check_weights(options.weights)
    with stage("rewards and metrics") as progress:
        seen = _looked(pool, options, crowd)
        begin = seen.rows[options.answer]
        orders = _orders(seen, options, progress)
    if method not in {CROWD_NAME, *orders}:
        raise OptionError(
            f"`method={method}` is none that a page computes; these are: {', '.join([CROWD_NAME, *orders])}"
        )
    with stage("clusters") as progress:
        reasons = bars(begin, lists(begin.ids, options), options, weighted=method == CROWD_NAME)
        spread = spread_of(
            seen.shards,
            begin,
            options,
            begin=reasons == ELIGIBLE,
            possible=_possible(seen, options),
            progress=progress,
        )
    with stage("page"):
        return _packed(_Gathered(pool, options, method, crowd_file, saved, seen, orders, spread))


@dataclass(frozen=True, slots=True)
class _Looked:
    """A pool, looked at by each rule of whose answer to train on."""

    shards: Shards
    rows: Mapping[str, Rows]
    """Per rule."""


@dataclass(frozen=True, slots=True)
class _Gathered:
    """Everything that goes into a page."""

    pool: Pool
    options: Options
    method: str
    crowd_file: str | None
    saved: Selection | None
    looked: _Looked
    orders: Mapping[str, NDArray[np.uint32]]
    spread: Spread

    @property
    def rows(self) -> Rows:
        """The rows, by the rule that the page begins with."""
        return self.looked.rows[self.options.answer]


class _Sections:
    """Named arrays one after the other, each kept once."""

    def __init__(self) -> None:
        self.heads: list[dict[str, Any]] = []
        self._bytes: list[bytes] = []
        self._known: dict[tuple[str, bytes], str] = {}

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Add an array; its bytes are laid out plane by plane, which packs better."""
        kind = {"u": "u", "i": "i", "f": "f"}[values.dtype.kind] + str(8 * values.dtype.itemsize)
        data = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
        planes = data.view(np.uint8).reshape(len(data), -1).T.tobytes()
        self._add(name, kind, len(values), planes)

    def add_texts(self, name: str, texts: Sequence[str]) -> None:
        """Add texts as JSON."""
        data = json_block(list(texts)).encode()
        self._add(name, "json", len(data), data)

    def _add(self, name: str, kind: str, length: int, data: bytes) -> None:
        key = kind, hashlib.sha256(data).digest()
        if key in self._known:
            self.heads.append({"name": name, "kind": kind, "length": length, "same": self._known[key]})
            return
        self._known[key] = name
        self.heads.append({"name": name, "kind": kind, "length": length})
        self._bytes.append(data)

    def packed(self) -> bytes:
        """Pack all of them, the same bytes for the same arrays."""
        return gzip.compress(b"".join(self._bytes), compresslevel=9, mtime=0)


def _looked(pool: Pool, options: Options, crowd: Crowd | None) -> _Looked:
    """Look at the pool by each rule: best, random, one of the best three, and the models with the most rewards."""
    also = ("best_reward", "rewards", *(("length",) if pool.has_responses else ()))
    method = replace(CROWD, good=True)
    shards, first = look_at(pool, options=options, crowd=crowd, method=method, also=also)
    found = {options.answer: first}
    paired = options.pairs is not None or options.answers_per_row > 1
    if pool.has_responses and not paired:
        busiest = np.argsort(-first.per_model, kind="stable")[:_TEACHERS]
        named = [f"model:{first.crowd.names[model]}" for model in sorted(busiest.tolist())]
        for rule in ("best", "random", "top3-random", *named):
            if rule not in found:
                one = replace(options, answer=rule)
                found[rule] = look_at(pool, options=one, crowd=crowd, method=method, also=also)[1]
    return _Looked(shards, found)


def _orders(looked: _Looked, options: Options, progress: Any) -> dict[str, NDArray[np.uint32]]:  # noqa: ANN401  (a progress)
    """Each row's place in the order of the draws of each method that there is, 0 = last; equal draws share one."""
    rows = looked.rows[options.answer]
    student = rows.reach is not None and rows.reach.student_good is not None
    found = {}
    seen = Seen(
        shards=looked.shards, known=rows, options=options, eligible=np.ones(len(rows), dtype=np.bool_)
    )
    for name in ORDERED:
        if student or not METHODS[name.partition(":")[0]].student:
            score = method_named(name).score(seen, progress).score
            found[name] = np.unique(score, return_inverse=True)[1].astype(np.uint32)
    return found


def _possible(looked: _Looked, options: Options) -> NDArray[np.bool_]:
    """The rows that some setting may choose, shape (N,)."""
    rows, one = looked.rows[options.answer], replace(options, keep=())
    barring = barred(rows, lists(rows.ids, one), one, weighted=False)
    out = np.ones(len(rows), dtype=np.bool_)
    for code, holds in barring.items():
        if code not in {"too_few_rewards", *_AFTER}:
            out &= ~holds
    return out


def _packed(found: _Gathered) -> Payload:
    rows, options, pool, sections = found.rows, found.options, found.pool, _Sections()
    ids = rows.ids.as_objects()
    sections.add_texts("ids", ids.tolist())
    if pool.has_text:
        texts, answers = pool.instructions(), _answers(found)
        most = min(max(_TEXT // len(rows) // (1 if answers is None else 2), SHORT), LONG)
        sections.add_texts("texts", [_beginning(text, most) for text in texts])
        if answers is not None:
            sections.add_texts("answers", [_beginning(answer, most) for answer in answers])
            sections.add("reward", rows.answers.reward.astype(np.float32))
        sections.add(
            "long", np.array([len(text or "") for text in texts], dtype=np.float64).astype(np.uint32)
        )
    seen = Seen(
        shards=found.looked.shards, known=rows, options=options, eligible=np.ones(len(rows), dtype=np.bool_)
    )
    place = np.empty(len(rows), dtype=np.uint32)
    place[np.lexsort((np.arange(len(rows)), seen.keys))] = np.arange(len(rows), dtype=np.uint32)
    sections.add("key", place)
    _, inverse, counts = np.unique(rows.groups, return_inverse=True, return_counts=True)
    sections.add("group", np.where(counts[inverse] > 1, inverse, -1).astype(np.int32))
    for name, order in found.orders.items():
        sections.add(f"order {name}", order)
    numbers = _add_numbers(found, sections)
    codes = [
        *_codes(),
        *(f"{code}:{one['name']}" for one in numbers for code in ("no_number", "outside")),
    ]
    too_few = _add_bars(found, sections, codes)
    sections.add("few", too_few.astype(np.uint8))
    for rule, each in found.looked.rows.items():
        sections.add(
            f"teacher {rule}",
            np.where(each.answers.chosen < 0, _NOBODY, each.answers.chosen).astype(np.uint16),
        )
    spread = _add_clusters(found, sections, numbers)
    if found.spread.xy is not None:
        sections.add("x", found.spread.xy[:, 0])
        sections.add("y", found.spread.xy[:, 1])
    saved, notes = _add_saved(found, sections)
    reach, both = rows.reach, {"ease", "student_good"}
    head = {
        "n": len(rows),
        "pool": pool.path,
        "seed": options.seed,
        "simulated": "simulated" in pool.columns,
        "warnings": [
            *rows.notes,
            *answer_notes(rows.answers, allow_cut=options.allow_cut),
        ],
        "notes": [*rows.pool_notes, *found.spread.notes, *notes],
        "numbers": numbers,
        "methods": [
            {"name": name, "words": METHODS[name.partition(":")[0]].help, "weighted": name == CROWD_NAME}
            for name in (CROWD_NAME, *found.orders)
        ],
        "answers": list(found.looked.rows),
        "teachers": list(rows.crowd.names),
        "clusters": found.spread.names,
        "codes": codes,
        "reasons": [_reason(code) for code in codes],
        "spread": spread,
        "map": found.spread.words,
        "student": reach.student.words
        if reach is not None and both <= {each["name"] for each in numbers}
        else None,
        "budgetMost": len(np.unique(rows.groups)),
        "start": _start(found, numbers),
        "saved": saved,
        "read": _read_words(found),
        "options": _option_pairs(options),
        "sections": sections.heads,
    }
    return Payload(head, sections.packed())


def _beginning(text: str | None, most: int) -> str:
    """The beginning of a text."""
    text = (text or "")[: 4 * most].strip()
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def _answers(found: _Gathered) -> list[str | None] | None:
    """The answers to train on by the rule that the page begins with; None if there are none, or too many to show enough of each."""
    rows, pool = found.rows, found.pool
    if not pool.has_responses or len(rows) * 2 * _READ > _TEXT:
        return None
    there = np.flatnonzero(rows.answers.chosen >= 0)
    pairs = [(rows.ids[row], rows.crowd.names[rows.answers.chosen[row]]) for row in there.tolist()]
    sample = rows.answers.sample
    answers: list[str | None] = [None] * len(rows)
    for row, answer in zip(
        there.tolist(), pool.responses(pairs, None if sample is None else sample[there].tolist()), strict=True
    ):
        answers[row] = answer
    return answers


def _codes() -> list[str]:
    """Every reason that a row may have, those of eligible rows first; engine.js knows these three by their places."""
    first = ["below_cut", "selected", "duplicate_of"]
    return [*first, *(code for code in REASONS if code not in {*first, *_NEVER})]


def _reason(code: str) -> str:
    """A reason in words."""
    kind, colon, name = code.partition(":")
    words = {"no_number": "it has no value of {}", "outside": "its {} lies outside the band"}
    return words[kind].format(name) if colon else _NOTE.sub("", REASONS[kind])


def _add_numbers(found: _Gathered, sections: _Sections) -> list[dict[str, Any]]:
    """Add every number that has a value somewhere, and describe it."""
    rows, options = found.rows, found.options
    of_file = [] if options.metrics is None else number_columns(options.metrics)
    numbers = []
    for name in dict.fromkeys((*rows.metrics, *rows.numbers)):
        if np.isnan(rows.number(name)).all() or (name in by_family({name: 1.0}) and not rows.families):
            continue
        by_answer = name == "length" and len(found.looked.rows) > 1
        if by_answer:
            for rule, each in found.looked.rows.items():
                _add_number(sections, f"{name} {rule}", each.number(name))
        else:
            _add_number(sections, name, rows.number(name))
        numbers.append(
            {
                "name": name,
                "words": _words(name),
                "weight": not set(name) & set(",=") and name == name.strip(),  # else a command cannot name it
                "undefined": _undefined(name),
                "byAnswer": by_answer,
                "file": name in of_file,
            }
        )
    return numbers


def _add_number(sections: _Sections, name: str, values: FloatArray) -> None:
    known = ~np.isnan(values)
    ordered, place = np.unique(values[known], return_inverse=True)
    code = np.full(len(values), _NO_VALUE, dtype=np.uint32)
    code[known] = place
    sections.add(f"code {name}", code)
    sections.add(f"value {name}", ordered)


def _words(name: str) -> str:
    if name in METRICS:
        return METRICS[name].words
    return parted(name)[0].words if is_number(name) else "from the file of numbers"


def _undefined(name: str) -> str:
    """The reason of a row that lacks a number that has a weight."""
    if name not in METRICS:
        return "no_number"
    undefined = METRICS[name].undefined
    return "too_few_rewards" if undefined is None else undefined.code


def _add_bars(found: _Gathered, sections: _Sections, codes: list[str]) -> NDArray[np.bool_]:
    """Add by each rule what bars a row before and after its numbers do; return the rows with too few rewards."""
    too_few = np.zeros(len(found.rows), dtype=np.bool_)
    for rule, rows in found.looked.rows.items():
        one = replace(found.options, answer=rule, keep=())
        barring = barred(rows, lists(rows.ids, one), one, weighted=False)
        too_few = barring.pop("too_few_rewards", too_few)
        early = [code for code in barring if code not in _AFTER]
        if "no_answer" in barring and list(barring).index("no_answer") < len(
            early
        ):  # rows that are malformed come first
            early = list(barring)[: list(barring).index("no_answer") + 1] + [
                c for c in early if list(barring).index(c) > list(barring).index("no_answer")
            ]
        for kind, names in (("before", early), ("after", [code for code in barring if code not in early])):
            reasons = eligibility(len(rows), {code: barring[code] for code in names})
            place = {ELIGIBLE: 0, **{code: at for at, code in enumerate(codes)}}
            sections.add(f"{kind} {rule}", np.array([place[reason] for reason in reasons], dtype=np.uint8))
    return too_few


def _add_clusters(found: _Gathered, sections: _Sections, numbers: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the labels, and say how a command makes them."""
    options, spread = found.options, found.spread
    taken = {*METRICS, *COLUMNS, *REACH, *found.pool.columns, *(number["name"] for number in numbers)}
    column = next(
        name for name in ("explored", *(f"explored_{i}" for i in range(2, 99))) if name not in taken
    )
    if spread.labels is not None:
        sections.add("label", spread.labels)
    if spread.begin is not None:
        sections.add("fitted", spread.begin.astype(np.uint8))
    return {
        "by": options.cluster_by,
        "clusters": options.clusters,
        "column": column,
        "file": _FILE,
        "fitted": 0 if spread.begin is None else int(spread.begin.sum()),
    }


def _add_saved(found: _Gathered, sections: _Sections) -> tuple[bool, list[str]]:
    """Add the ranks of the saved selection; say whether there is one, and what differs from what the page computes."""
    saved = found.saved
    if saved is None:
        return False, []
    place = {each: row for row, each in enumerate(found.rows.ids)}
    rank = np.zeros(len(found.rows), dtype=np.int32)
    lost = 0
    for row in saved.rows():
        if row["id"] in place:
            rank[place[row["id"]]] = row["rank"]
        else:
            lost += 1
    sections.add("saved", rank)
    notes = [f"{lost} rows of the selection are no longer in the pool"] if lost else []
    if saved.options.get("near_duplicates") is not None:
        notes.append("the selection left near-duplicates out, which this page does not: they need vectors")
    return True, notes


def _start(found: _Gathered, numbers: list[dict[str, Any]]) -> dict[str, Any]:
    """The setting that a page begins with."""
    options = found.options
    keep = []
    for text, band in zip(options.keep, bands_of(options.keep), strict=True):
        ends = [end.strip() for end in text.rpartition("=")[2].split("..")]
        low, high = (None if not end else end if end.endswith("%") else float(end) for end in ends)
        keep.append({"name": band.name, "low": low, "high": high})
    return {
        "method": found.method,
        "weights": {
            each["name"]: options.weights.get(each["name"], 0.0) for each in numbers if each["weight"]
        },
        "budget": options.budget,
        "clusters": found.spread.labels is not None,
        "keep": keep,
        "answer": options.answer,
    }


def _check_weights(weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        if abs(weight) > _LARGEST or round(weight, _DECIMALS) != weight:
            raise OptionError(
                f"`weights`: a page takes at most {_DECIMALS} decimals and nothing beyond {_LARGEST}, and {name} is {weight}; only the "
                "weights' ratios count"
            )


def _read_words(found: _Gathered) -> list[str]:
    """How the pool is read, as words of a command."""
    pool, words = found.pool, []
    read = {name: value for name, value in pool.read.as_dict().items() if name not in OF_CROWD_FILE}
    more = {"rewards": pool.rewards_path, "limit": pool.limit, "crowd": found.crowd_file}
    for name, value in {**read, **more}.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, dict):
            words += [flag, ",".join(f"{what}={column}" for what, column in value.items())]
        elif isinstance(value, list):
            words += [f"{flag}={each}" for each in value]
        elif value is not None:
            words += [flag, str(value)]
    return words


_SET_HERE = {"budget", "weights", "clusters", "cluster_by", "keep", "answer", "near_duplicates", "cache"}
_TYPED = {"trainer": "for"}


def _option_pairs(options: Options) -> list[list[Any]]:
    """The options that are not as usual and that no control of the page sets, by the names of their flags."""
    found = []
    for each in fields(Options):
        value, usual = getattr(options, each.name), each.default
        if each.name not in _SET_HERE and value not in (usual, ()):
            name = _TYPED.get(each.name, each.name).replace("_", "-")
            found.append([name, list(value) if isinstance(value, tuple) else value])
    return found
