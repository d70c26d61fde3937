"""One look at a pool, as a whole or file by file: the tables of its shards become `Rows` in id order."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from crowdselect.crowd import Crowd
from crowdselect.engine.here import Run
from crowdselect.errors import InputError, OptionError, RewardError, SplitError
from crowdselect.numeric.duplicates import alike, grouped, text_key
from crowdselect.numeric.ensembles import Agreement
from crowdselect.numeric.irt import items_of
from crowdselect.numeric.metrics import METRICS, Ties, of_samples
from crowdselect.numeric.responses import check_answer, fits_of
from crowdselect.pool.codes import to_numpy
from crowdselect.pool.idlike import id_lines
from crowdselect.pool.pool import Pool
from crowdselect.pool.rendered import read_as, template_lines
from crowdselect.pool.rewards import respelt_note
from crowdselect.pool.shards import Ids, Places
from crowdselect.pool.sidecars import number_columns, read_numbers
from crowdselect.selection.benchmarks import BenchmarkQuestion, read_questions
from crowdselect.selection.examples import Examples, read_examples
from crowdselect.selection.fitting import check_fits
from crowdselect.selection.keep import bands_of
from crowdselect.selection.lists import matrix_in, runs_in
from crowdselect.selection.matrix import Matrix
from crowdselect.selection.measure import SCORES, Look, known_of, looked, lowest_hashes, tables_of
from crowdselect.selection.merged import Merged, answers_in, merge
from crowdselect.selection.methods import CROWD, Method
from crowdselect.selection.numbers import (
    as_numbers,
    check_marks,
    check_number,
    depends_on_all,
    is_number,
    item_numbers,
    margin,
    parted,
    rests_on_full_marks,
    rests_on_items,
)
from crowdselect.selection.options import BEST_STUDENT, RL, Options, wants_model
from crowdselect.selection.overlap import QuestionIndex
from crowdselect.selection.own_answers import OwnAnswers, own_answers
from crowdselect.selection.quota import read_quota
from crowdselect.selection.reaching import Goods, goods_of, reach_in
from crowdselect.selection.reading import Shards, file_columns, number_of_bins, shards_of
from crowdselect.selection.rewards import ends_among, ensemble_of
from crowdselect.selection.rl import Columns, check_sources, columns_in, pass_rate_of
from crowdselect.selection.rows import COLUMNS, Rows
from crowdselect.selection.student import REACH, Student
from crowdselect.types import BoolArray, FloatArray, IntArray, ObjectArray, Table

_ROWS_PER_MODEL = 10  # instructions that the fit of a model's ability needs


def look_at(
    pool: Pool,
    *,
    options: Options | None,
    reward: str | None = None,
    ties: Ties = "average",
    crowd: Crowd | None = None,
    method: Method = CROWD,
    run: Run | None = None,
    keep: bool = False,
    also: Sequence[str] = (),
    student: Student | None = None,
    own: OwnAnswers | None = None,
) -> tuple[Shards, Rows]:
    """Look at a pool once.

    Args:
        pool: From `crowdselect.open_pool`. With more than a million rows in several Parquet files, one of these is in memory at a time.
        options: The options of the selection; None = only the metrics are wanted.
        reward: The reward column, if there are no options.
        ties: As for `crowdselect.stability`, if there are no options.
        crowd: Family and size of the models; None reads them off the names.
        method: If it is not `weighted`, a pool without rewards, or of one model, is allowed and has no metrics.
        run: What reads the pool's files one by one; None = this process, and only for large pools.
        keep: Return the score matrix too; the pool is then read as a whole.
        also: Further numbers that are wanted; see `crowdselect.selection.numbers`.
        student: The student, and what counts as good, if there are no options.
        own: The pool of its answers, if it is open already.

    Returns:
        How the pool is read, and its rows.

    Raises:
        RewardError: There is no reward, or there are several and none was named.
        InputError: A metric overflows, or the crowd matches no model of the pool.
        SplitError: With `run`, an instruction is in two files; otherwise the pool is then read as a whole.
    """
    student = (student or Student()) if options is None else options.the_student
    name = reward if options is None else options.reward
    with own_answers(student, pool) if own is None else nullcontext(own) as answers:
        student = student if answers is None else replace(student, name=answers.model)
        needs = method.needs_the_whole
        shards = Shards(pool, student=student.name, crowd=crowd)
        if not keep:
            shards = shards_of(
                pool, run=run, options=options, method_needs=needs, student=student.name, crowd=crowd
            )
        student = student if student.named else _marked(student, shards, options, method, also)
        request = _Request(options, name, ties, crowd, method, student, answers, keep=keep, also=tuple(also))
        try:
            return shards, _rows(shards, request)
        except SplitError:
            if run is not None:
                raise
            whole = Shards(pool, student=student.name, crowd=crowd)
            return whole, _rows(whole, request)


def _marked(
    student: Student, shards: Shards, options: Options | None, method: Method, also: Sequence[str]
) -> Student:
    """Find the student where none is named: the only model that the pool or the crowd file marks as one.

    Returns:
        The student, `marked` where nothing needs it; nobody where none is marked, or several are.

    Raises:
        OptionError: The method or the pairs need one, and none is marked, or several are.
    """
    named = _named(options, also, shards.pool)
    numbers = any(is_number(name) and parted(name)[0].student for name in named)
    why = [f"`method={method.name}` chooses for a student"] if method.student else []
    if options is not None and options.pairs == BEST_STUDENT:
        why.append(f"`pairs={options.pairs!r}` rejects the student's own answers")
    if len(shards.students) == 1:
        return replace(student, name=shards.students[0], marked=not (why or numbers))
    if why:
        marked = f" (marked as students are: {', '.join(shards.students)})" if shards.students else ""
        column = (
            ""
            if options is not None and options.pairs == BEST_STUDENT
            else ", or a column of its success with `student_column`"
        )
        raise OptionError(
            f"{why[0]}; name it with `student`, or where its answers are with `student_answers`{column}{marked}"
        )
    return student


@dataclass(frozen=True, slots=True)
class _Request:
    """What the rows are needed for: the arguments of `look_at`."""

    options: Options | None
    reward: str | tuple[str, ...] | None
    ties: Ties
    crowd: Crowd | None
    method: Method
    student: Student
    own: OwnAnswers | None
    """The student's answers, where they are in a pool of their own."""
    keep: bool
    also: tuple[str, ...] = ()


def _rows(shards: Shards, request: _Request) -> Rows:
    pool, options = shards.pool, request.options
    questions, examples = _questions(request)
    look, notes = _look(shards, request, [question for _, found in questions for question in found])
    if options is not None:
        check_answer(options.answer, models=shards.models)
        check_fits(options, request.method, pool, numbers=_named(options, request.also, pool))
        if fits_of(options.answer) is not None and look.sample_reward is None:
            pool.reward_name(None)
    look, goods, merged, matrix = _read(shards, request, look)
    if look.joined and not merged.total("kept"):  # no id of the file is one of the pool's
        look, goods, merged, matrix = _read(shards, request, replace(look, respelt=True))
    if look.reward is not None and all(facts["lowest"] is None for facts in merged.facts):
        name = look.reward if isinstance(look.reward, str) else ", ".join(look.reward)
        raise RewardError(f"{pool.path}: no reward: {name} is missing for every instruction and model")
    ids, pool_notes = Ids(merged.table["id"].chunk(0)), [*pool.notes, *_marked_notes(shards, request.method)]
    if look.joined:
        joined = [respelt_note(str(look.rewards))] if look.respelt and merged.total("kept") else []
        lost = pool.rewards.lost_from(merged.total("kept") - merged.total("lost"))
        joined += [] if lost is None else [lost]
        pool_notes += [note for note in joined if note not in pool_notes]  # a whole pool has them already
    metrics = _metrics(merged)
    if options is not None and options.metrics is not None and look.reward is not None:
        taken = (*METRICS, *COLUMNS, *(() if goods is None else REACH))
        extra, note = read_numbers(options.metrics, ids=ids.as_objects(), taken=taken)
        metrics |= extra
        notes += [] if note is None else [note]
    columns, answers = merged.named("column"), answers_in(merged)
    metrics |= {
        name: as_numbers(columns[name], where=_where(pool.path, name, ids))
        for name in _own_numbers(options, pool)
    }
    own, own_notes = (
        (None, [])
        if request.own is None
        else request.own.joined(ids, merged.table["digest"].combine_chunks())
    )
    if own is not None and options is not None and options.pairs == BEST_STUDENT:
        answers = own.rejected(answers, look.reward, options, model=len(look.models))
    reach = (
        None
        if goods is None
        else reach_in(
            merged.table,
            goods,
            request.student,
            own,
            ids=ids,
            numbers={name: values for name, values in metrics.items() if name not in METRICS},
            columns=columns,
            seed=0 if options is None else options.seed,
        )
    )
    numbers, number_notes = _numbers(merged, look, options, metrics)
    numbers |= {} if reach is None else reach.numbers
    numbers |= {"margin": margin(answers)} if "margin" in numbers else {}
    of_items, item_notes, item_doubts = _item_numbers(shards, request, look, merged)
    numbers |= of_items
    pool_notes += item_notes
    notes += [*own_notes, *number_notes, *item_doubts, *(() if reach is None else reach.notes)]
    if options is not None:
        weighted = [name for name in numbers if options.weights.get(name)]
        metrics |= {name: numbers[name] for name in weighted}
    owner, owner_notes = _owners(merged, look, options)
    forms, like = (
        [sum(of_shards) for of_shards in zip(*(facts[name] for facts in merged.facts), strict=True)]
        for name in ("forms", "like_ids")
    )
    notes += [
        *owner_notes,
        *([] if examples is None else examples.notes),
        *template_lines(forms),
        *id_lines(like),
    ]
    places = Places.of(merged.shard, merged.numbers("row"), counts=[facts["rows"] for facts in merged.facts])
    blank, groups = np.zeros(len(ids), dtype=np.bool_), np.arange(len(ids))
    if options is not None:
        blank = ~to_numpy(merged.table["digest"].is_valid())
        groups = _groups(shards, merged.table["digest"], blank, places)
    return Rows(
        ids=ids,
        hashes=merged.numbers("hash"),
        blank=blank,
        groups=groups,
        n_rewards=merged.numbers("n_rewards"),
        metrics=metrics,
        numbers=numbers,
        answers=answers,
        crowd=look.crowd,
        per_model=np.sum([facts["per_model"] for facts in merged.facts], axis=0, dtype=np.int64),
        lowest=min((f["lowest"] for f in merged.facts if f["lowest"] is not None), default=float("nan")),
        ends=ends_among(facts["ends"] for facts in merged.facts) if isinstance(look.reward, str) else (),
        reward=_reward_words(look, options),
        read_as=read_as(pool.read_as, forms),
        notes=tuple(notes),
        pool_notes=tuple(pool_notes),
        agreement=None if matrix is None else matrix.agreement,
        questions=questions,
        examples=() if examples is None else examples.examples,
        owner=owner,
        columns=columns,
        checked=_checked(pool, columns, options),
        rewards=merged.named("reward"),
        text_keys=merged.table["text_key"] if look.text_keys else None,
        left_out=merged.numbers("left_out") if options is not None else None,
        needs=merged.numbers("needs") if options is not None else None,
        places=places,
        shard=merged.shard,
        reach=reach,
        matrix=matrix if request.keep else None,
        look=look if request.keep else None,
        joined=own,
    )


def _questions(
    request: _Request,
) -> tuple[tuple[tuple[str, list[BenchmarkQuestion]], ...], Examples | None]:
    """Read what no row may share text with: the benchmarks' questions by file, and last the method's examples; also return these."""
    options, file = request.options, request.method.examples
    questions = tuple(
        (path, read_questions(path)) for path in (() if options is None else options.decontaminate)
    )
    if file is None:
        return questions, None
    examples = read_examples(file)
    return (*questions, (file, examples.questions)), examples


def _look(shards: Shards, request: _Request, questions: list[BenchmarkQuestion]) -> tuple[Look, list[str]]:
    """Decide what to read of each shard; also return the notes about the crowd."""
    pool, options, models = shards.pool, request.options, shards.models
    unmeasured = None if request.method.weighted else why_unmeasured(pool, models, request.reward)
    name: str | tuple[str, ...] | None = None
    if unmeasured is None:
        name = request.reward if isinstance(request.reward, tuple) else pool.reward_name(request.reward)
        if len(models) < 2:
            only = f"only {models[0]!r}" if models else "none"
            only += f", besides the student {', '.join(shards.students)}" if shards.students else ""
            raise InputError(
                f"{pool.path}: a crowd needs at least two models; found {only}; without one choose with `method='reward'`"
            )
    elif len(models) == 1 and (request.reward is not None or pool.usual_reward is not None):
        name = request.reward if isinstance(request.reward, tuple) else pool.reward_name(request.reward)
    sample_reward = name
    if name is None and (request.reward is not None or pool.usual_reward is not None):
        sample_reward = (
            request.reward if isinstance(request.reward, tuple) else pool.reward_name(request.reward)
        )
    if sample_reward is None and request.method.rewards:
        pool.reward_name(None)
    if not models:
        raise InputError(
            f"{pool.path}: no model besides the student {', '.join(shards.students)}; a crowd needs at least one: add a pool "
            "of other models' answers"
        )
    aligned, notes = (request.crowd or Crowd.from_names(models)).aligned(models)
    needed_columns = () if options is None else _columns_of(options, pool)
    column = request.student.column
    needed_columns += (column,) if column is not None and column in pool.columns else ()
    numbers = _wanted(request, pool, models)
    look = Look(
        read=pool.part,
        rewards=pool.rewards_path,
        reward=name,
        sample_reward=sample_reward,
        joined=not shards.whole
        and any(isinstance(each, str) and pool.rewards.joined(each) for each in {name, sample_reward}),
        models=models,
        student=request.student.of_pool,
        crowd=aligned,
        ties=request.ties if options is None else options.ties,
        has_responses=pool.has_responses,
        options=options,
        questions=tuple(questions),
        digests=request.own is not None,
        plain=(*_own_numbers(options, pool), *(() if column is None else (column,))),
        columns=tuple(dict.fromkeys((*needed_columns, *request.method.columns))),
        numbers=tuple(name for name in numbers if not depends_on_all(name)),
        scores=any(map(rests_on_items, numbers)),
        text_keys=options is not None
        and not shards.whole
        and wants_model(options, method=request.method.vectors),
        below=_threshold(shards),
        limit_seed=pool.seed,
    )
    return look, [*notes, *([] if unmeasured is None else [unmeasured])]


def _columns_of(options: Options, pool: Pool) -> tuple[str, ...]:
    """The columns of the pool that the options need of every row."""
    of_pool = number_of_bins(options, pool) is None and options.cluster_by not in file_columns(options, pool)
    by_column = options.cluster_by if of_pool else None
    quota = read_quota(options.quota)
    by_quota = None if quota is None else _grouping_column(quota.column, pool)
    numbers = _own_numbers(options, pool)
    rl = () if options.format != RL else columns_in(options, pool).needed
    return tuple(name for name in (by_column, by_quota, *numbers, *rl) if name is not None)


def _grouping_column(name: str, pool: Pool) -> str:
    """Check that the column of `quota` may have one value per instruction.

    Raises:
        InputError: There is no such column.
        OptionError: It is a reward column.
    """
    if name not in pool.columns:
        pool.column(name)  # its error names the columns that there are
    if name in pool.likely_rewards:
        raise OptionError(f"`quota`: {name} holds rewards; name a column that groups instructions")
    if name in pool.reward_columns:
        raise OptionError(
            f"`quota`: {name} holds numbers, which may be of answers; name a column of texts that groups instructions, or take "
            f"`cluster_by={name!r}`"
        )
    return name


def _own_numbers(options: Options | None, pool: Pool) -> tuple[str, ...]:
    """The columns of the pool that bands and bins name as numbers; any other number of that name wins.

    Raises:
        OptionError: It is the name of a column of `selection.parquet`, or of a metric where there are no rewards.
    """
    if options is None:
        return ()
    rewards = (options.reward,) if isinstance(options.reward, str) else options.reward or (pool.usual_reward,)
    if rewards == (None,):
        for name, where in _named(options, (), pool).items():
            if where != "weights" and name in METRICS and name in pool.columns:
                raise OptionError(
                    f"`{where}`: {name} is the metric, which needs rewards; the pool's own column is named by another name, "
                    f"as with `columns='own_{name}={name}'`"
                )
    known = {*METRICS, *rewards, *(() if options.metrics is None else number_columns(options.metrics))}
    found = {
        name: where
        for name, where in _named(options, (), pool).items()
        if name in pool.columns and name not in known and not is_number(name)
    }
    for name, where in found.items():
        if name in COLUMNS:
            raise OptionError(
                f"`{where}`: {name!r} is a column of the pool, but selection.parquet has one of that name; call it otherwise, or "
                "put it into a file of `metrics`"
            )
    return tuple(found)


def _where(path: str, name: str, ids: Ids) -> Callable[[int], str]:
    """Name the value of a row, for messages."""
    return lambda row: f"{path}: {name} of id {ids[row]!r}"


def _wanted(request: "_Request", pool: Pool, models: Sequence[str]) -> tuple[str, ...]:
    """Name the numbers of the registry that are needed.

    Raises:
        OptionError: A name is no number of the pool.
    """
    options, student = request.options, request.student.named
    named = _named(options, request.also, pool)
    more = [] if options is None or options.metrics is None else number_columns(options.metrics)
    more = [*more, *_own_numbers(options, pool)]
    for name, where in named.items():
        check_number(
            name,
            where=where,
            models=models,
            more=(*METRICS, *more),
            pairs=options is not None and options.pairs is not None,
            student=student,
            ensemble=options is not None and options.ensemble is not None,
        )
    found = [name for name in named if name not in METRICS and name not in more]
    if options is not None and options.format == RL:
        rate = pass_rate_of(options)
        check_number(rate, where="pass_rate", models=models, more=(), pairs=False, student=student)
        found.append(rate)
    return tuple(dict.fromkeys(found))


def _marked_notes(shards: Shards, method: Method) -> list[str]:
    """Say who is left out of the crowd without having been named."""
    marked = [name for name in shards.students if name != shards.student]
    if not marked:
        return []
    are = "is marked as a student and" if len(marked) == 1 else "are marked as students and"
    chosen = "" if method.student else "; `method=teachable` chooses for a student"
    return [f"{', '.join(marked)} {are} no part of the crowd{chosen}"]


def _named(options: Options | None, also: Sequence[str], pool: Pool) -> dict[str, str]:
    """The names of numbers that are asked for, each with the option that does so."""
    named = dict.fromkeys(also, "also")
    if options is not None:
        named |= {name: "weights" for name, weight in options.weights.items() if weight}
        named |= {band.name: "keep" for band in bands_of(options.keep)}
        bins = number_of_bins(options, pool)
        named |= {} if bins is None else {bins[0]: "cluster_by"}
    return named


def _read(shards: Shards, request: _Request, look: Look) -> tuple[Look, Goods | None, Merged, Matrix | None]:
    """Find what is good, if that counts, and read all shards by it."""
    goods = _goods(shards, request, look)
    look = look if goods is None else replace(look, cut=goods.cut)
    return look, goods, *_merged(shards, look)


def _goods(shards: Shards, request: _Request, look: Look) -> Goods | None:
    """Find what is good, if a student, a method or a number asks for it."""
    student, method = request.student, request.method
    named = _wanted(request, shards.pool, shards.models)
    wanted = any(depends_on_all(name) and not rests_on_items(name) for name in named)
    shown = student.marked and request.options is not None and look.reward is not None
    if (student.named and not student.marked) or shown or method.good or wanted:
        return goods_of(shards, look, student, request.own, reward=request.reward)
    if student.good_above is not None:
        raise OptionError("`good_above` says what is good, but neither the method nor a number asks for it")
    return None


def _metrics(merged: Merged) -> dict[str, FloatArray]:
    """The metrics, shape (N,) each; those that rest on samples only where some model has two."""
    metrics = {name: merged.numbers(name) for name in METRICS if name in merged.table.column_names}
    without = [name for name in of_samples(dict.fromkeys(metrics, 1.0)) if np.isnan(metrics[name]).all()]
    return {name: values for name, values in metrics.items() if name not in without}


def _numbers(
    merged: Merged, look: Look, options: Options | None, metrics: Mapping[str, FloatArray]
) -> tuple[dict[str, FloatArray], list[str]]:
    """The numbers of the registry that were wanted, shape (N,) each; and notes.

    Raises:
        OptionError: A pass rate is wanted, and rewards do not lie within 0 and 1.
    """
    numbers = merged.named("number")
    ends = [facts["marks"] for facts in merged.facts if facts["marks"] is not None]
    marks = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None
    reward, notes = _reward_words(look, options), []
    for name in [name for name in numbers if rests_on_full_marks(name)]:
        try:
            check_marks(name, reward, marks)
        except OptionError as error:
            if options is None or not _may_lack(name, options):
                raise
            notes.append(f"no pass rates are written: {error}")
            del numbers[name]
    for band in bands_of(() if options is None else options.keep):
        if band.name not in numbers and band.name not in metrics and not depends_on_all(band.name):
            raise OptionError(
                f"`keep`: {band.name} needs several samples of a model; this pool has one answer of each"
            )
    return numbers, notes


def _item_numbers(
    shards: Shards, request: _Request, look: Look, merged: Merged
) -> tuple[dict[str, FloatArray], list[str], list[str]]:
    """The wanted numbers that come from a model of all answers, shape (N,) each; how they were made; and what is doubtful.

    Raises:
        RewardError: There is no reward.
    """
    if not look.scores:
        return {}, [], []
    if look.reward is None:
        shards.pool.reward_name(None)
    items = items_of(matrix_in(merged.table[SCORES].combine_chunks()))
    names = [name for name in _wanted(request, shards.pool, shards.models) if rests_on_items(name)]
    kind = {"logistic": "rewards as right, wrong or a pass rate", "normal": "rewards as scores"}[items.kind]
    notes = [f"{', '.join(names)}: by item response theory, which takes {kind}"]
    doubts = []
    few, models = int((~np.isnan(items.difficulty)).sum()), int((~np.isnan(items.ability)).sum())
    if few < _ROWS_PER_MODEL * models:
        doubts.append(
            f"{', '.join(names)}: {few} instructions are few for the abilities of {models} models, so these numbers are rough; "
            f"wanted at least {_ROWS_PER_MODEL} per model"
        )
    if not items.converged:
        doubts.append(f"{', '.join(names)}: the fit stopped before its end; do not rely on these numbers")
    return item_numbers(names, items), notes, doubts


def _checked(pool: Pool, columns: Mapping[str, ObjectArray], options: Options | None) -> Columns | None:
    """The columns of what an answer is checked against, for reinforcement learning; None for anything else.

    Raises:
        OptionError: The trainer has no check of a name in them.
    """
    if options is None or options.format != RL:
        return None
    found = columns_in(options, pool)
    if found.source is not None:
        where = f"{pool.path}: {found.source}"
        check_sources(columns[found.source], trainer=options.trainer, where=where)
    return found


def _may_lack(name: str, options: Options) -> bool:
    """Whether a pass rate is wanted only because an export for reinforcement learning writes it where it can."""
    bands = [band.name for band in bands_of(options.keep)]
    counts = bool(options.weights.get(name)) or (options.cluster_by or "").startswith(f"{name}:")
    return (
        options.format == RL
        and options.pass_rate is None
        and name == pass_rate_of(options)
        and not (counts or name in bands)
    )


def _threshold(shards: Shards) -> int | None:
    """Find the highest hash within `limit`, if the files are read one by one; None without such a limit."""
    pool = shards.pool
    if shards.whole or pool.limit is None:
        return None
    arguments = {"read": pool.part, "limit": pool.limit, "seed": pool.seed}
    found = np.concatenate([to_numpy(table["hash"]) for table in shards.over(lowest_hashes, **arguments)])
    return int(np.sort(found)[: pool.limit][-1])


def _merged(shards: Shards, look: Look) -> tuple[Merged, Matrix | None]:
    if shards.whole:
        table, matrix = known_of(shards.pool, look)
        return merge([(0, table)], [shards.pool.path]), matrix
    found = [each for packed in shards.over(looked, look=look) for each in tables_of(packed)]
    return merge(found, shards.files), None


def _owners(merged: Merged, look: Look, options: Options | None) -> tuple[IntArray | None, list[str]]:
    """The benchmark question that each row gives away, shape (N,), -1 = none; None where none were asked for."""
    if options is None or "whole_question" not in merged.table.column_names:
        return None, []
    index = QuestionIndex.of(look.questions, ngram=options.decontaminate_ngram)
    found = runs_in(merged.numbers("whole_question"), merged.table["shared_runs"].combine_chunks())
    return index.settled(found, look.questions)


def _groups(shards: Shards, digests: Table, blank: BoolArray, places: Places) -> IntArray:
    """Group rows by their text: rows that share a digest are compared by the text itself."""
    rows = alike(to_numpy(digests.drop_null()), np.flatnonzero(~blank))
    if not rows.size:
        return np.arange(len(blank))
    keys: dict[int, bytes] = {}  # 256-bit digests, as many large texts may have to be compared
    for read, texts in shards.texts_of(rows, places):
        keys.update(zip(read.tolist(), map(text_key, texts), strict=True))
    return grouped([keys[row] for row in rows.tolist()], rows, n=len(blank))


def _reward_words(look: Look, options: Options | None) -> str | None:
    if isinstance(look.reward, tuple) and options is not None:
        return f"{options.ensemble} of {', '.join(look.reward)}"
    return look.reward if isinstance(look.reward, str) else None


def score_matrix(
    pool: Pool, reward: str | Sequence[str] | None, ensemble: str | None = None
) -> tuple[FloatArray, str, Agreement | None]:
    """Read a pool's score matrix, of one reward or of an ensemble.

    Args:
        pool: From `crowdselect.open_pool`.
        reward: A reward column, or several; None = the pool's only one.
        ensemble: How several are combined; see `crowdselect.numeric.ensembles.combine_rewards`.

    Returns:
        Shape (N, M); the reward's name in words; and how far the rewards of an ensemble agree.

    Raises:
        RewardError: There is no such reward, or there are several and none was named.
        OptionError: Several rewards and no `ensemble`.
    """
    if reward is None or isinstance(reward, str):
        return pool.scores(reward), pool.reward_name(reward), None
    scores, agreement = ensemble_of(pool, reward, ensemble or "")
    return scores, f"{ensemble} of {', '.join(reward)}", agreement


def why_unmeasured(pool: Pool, models: Sequence[str], reward: str | Sequence[str] | None) -> str | None:
    """Explain in one line why a pool has no metrics; None if it may have some."""
    if len(models) < 2:
        return "only one model answered, so the metrics are empty"
    if reward is not None or pool.likely_rewards or pool.usual_reward is not None:
        return None
    others = ", ".join(pool.reward_columns)
    named = f" (it has numbers that are none unless `reward` names them: {others})" if others else ""
    return f"the pool has no rewards, so the metrics are empty{named}"
