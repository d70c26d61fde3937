"""Columns that hold the answers of a model each, under names that do not say so: `antwoord_MODEL` beside `score_MODEL`."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence

from crowdselect.pool.columns import Columns, Kind
from crowdselect.pool.modelcolumns import ANSWERS, SCORES, models_in, spelt

_RESPONSE = ANSWERS[0]
_FOR_AN_ANSWER = """
    response responses answer answers output outputs completion completions generation generations
    reply replies text texts content
    antwoord antwoorden Antwort Antworten svar svaret besvarelse vastaus vastaukset vastus
    réponse réponses respuesta respuestas resposta respostas risposta risposte răspuns răspunsuri
    odpowiedź odpowiedzi odpověď odpovědi odpoveď odpovede odgovor odgovori válasz válaszok
    ответ ответы відповідь відповіді отговор отговори одговор одговори απάντηση απαντήσεις
    cevap cevaplar yanıt yanıtlar جواب إجابة الإجابة پاسخ תשובה उत्तर जवाब
    回答 答案 答复 回复 回覆 回應 回应 応答 返答 解答 답변 대답 응답 คำตอบ jawaban balasan jawapan
"""  # noqa: RUF001 (Turkish has an i without a dot)


def _letters(word: str) -> str:
    r"""A word in small letters, without accents.

    Example:
        >>> _letters("Réponse") == _letters("reponse") == _letters("re\u0301ponse")
        True
    """
    return "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))


_ANSWER_WORDS = frozenset(map(_letters, _FOR_AN_ANSWER.split()))
_OF_ANSWERS = frozenset({"generated", "raw"})
"""Words that change nothing of what these mean."""
_NO_ANSWERS = frozenset(
    {
        "prompt",
        "prompts",
        "instruction",
        "question",
        "query",
        "system",
        "reference",
        "gold",
        "target",
        "model",
    }
    | {"reasoning", "thinking", "thought", "thoughts", "rationale", "explanation", "cot", "plan"}
    | {
        "critique",
        "comment",
        "comments",
        "feedback",
        "note",
        "notes",
        "review",
        "judge",
        "judgment",
        "judgement",
    }
    | {"verdict", "label", "tag", "tags", "category", "type", "lang", "language", "finish", "stop", "reason"}
    | {"status", "error", "errors", "date", "time", "id", "version", "extracted", "parsed"}
)
"""Words in the names of texts about an answer, or about what was asked: not even asked about."""
_BEFORE, _AFTER = re.compile(r".*[^\W_].*[\s_.:-][(\[]?"), re.compile(r"[\s_.:-].*[^\W_].*")
"""What stands before the name of a model in that of a column, or after it."""


def named_columns(columns: Columns, named: Mapping[str, str]) -> dict[str, str]:
    """Find what `columns` names as the answers of a model, and the scores that it names beside these.

    Args:
        columns: Of the file.
        named: What → the column.

    Returns:
        `response_MODEL`, or `score_MODEL` → the column.

    Example:
        >>> columns = {"a": Kind("text"), "b": Kind("number"), "c": Kind("number")}
        >>> named_columns(columns, {"response_oak": "a", "score_oak": "b", "score_all": "c"})
        {'response_oak': 'a', 'score_oak': 'b'}
    """
    kinds = {
        what: columns[name].name for what, name in named.items() if name in columns and what not in columns
    }
    scored = set(_scored({**columns, **{what: columns[named[what]] for what in kinds}}))
    said = {
        what: models
        for what, kind in kinds.items()
        if kind == "text" and (models := _models_of(what, ANSWERS) & (scored | _models_of(what, [_RESPONSE])))
    }
    own = {model for models in said.values() for model in models}
    scores = [
        what for what, kind in kinds.items() if kind in {"number", "bool"} and _models_of(what, SCORES) & own
    ]
    return {what: named[what] for what in (*said, *scores)}


def texts_by_model(columns: Columns, taken: Collection[str]) -> dict[str, dict[str, str]]:
    """Find texts of models that others columns name as the models of scores; nothing where some are known as answers.

    Args:
        columns: Of the file.
        taken: Those that are parts of a row.

    Returns:
        What the columns are called, `antwoord_MODEL` → model → column; those first whose names mean answers, then those of the
        most models.

    Example:
        >>> numbers = {"score_oak": Kind("number"), "score_elm": Kind("number")}
        >>> texts_by_model(numbers | {"antwoord_oak": Kind("text"), "antwoord_elm": Kind("text"), "prompt_oak": Kind("text")}, [])
        {'antwoord_MODEL': {'oak': 'antwoord_oak', 'elm': 'antwoord_elm'}}
        >>> texts_by_model(numbers | {"oak": Kind("text"), "elm": Kind("text")}, [])
        {}
        >>> texts_by_model(numbers | dict.fromkeys(["model_oak", "model_elm", "talk_oak", "talk_elm"], Kind("text")), [])
        {}
    """
    scored = {model: name for model, name in _scored(columns).items() if name not in taken}
    texts = [name for name, kind in columns.items() if kind.name == "text" and name not in taken]
    if any(f"model_{model}" in columns for model in scored):  # the two sides of a battle
        return {}
    known = any(spelt(name) in scored or _models_of(name, ANSWERS) & set(scored) for name in texts)
    found: dict[str, dict[str, str]] = {}
    for name in [] if known else texts:
        for shape, model in _shapes(name, scored):
            found.setdefault(shape, {})[model] = name
    several = {shape: own for shape, own in found.items() if len(own) > 1}
    return dict(sorted(several.items(), key=lambda item: (not mean_answers(item[0]), -len(item[1]))))


def is_whole(columns: Columns, texts: Mapping[str, str]) -> bool:
    """Say whether texts are of exactly the models that have a score.

    Args:
        columns: Of the file.
        texts: Model → column, from `texts_by_model`.
    """
    return {*map(spelt, texts)} == set(_scored(columns))


def mean_answers(shape: str) -> bool:
    """Say whether columns hold answers by what they are called, in one of several languages.

    Example:
        >>> mean_answers("antwoord_MODEL"), mean_answers("MODEL Réponse"), mean_answers("MODEL_raw_output")
        (True, True, True)
        >>> mean_answers("MODEL_url"), mean_answers("antwoord_url_MODEL"), mean_answers("raw_MODEL")
        (False, False, False)
    """
    words = {*map(_letters, _words(shape.replace("MODEL", "")))}
    return bool(words & _ANSWER_WORDS) and words <= _ANSWER_WORDS | _OF_ANSWERS


def response_of(model: str) -> str:
    """What a column of the answers of a model is called where its name says so."""
    return f"{_RESPONSE}_{model}"


def naming(texts: Mapping[str, str]) -> str:
    """Write the option that names the answers of models.

    Example:
        >>> naming({"oak": "antwoord_oak", "elm": "antwoord_elm"})
        "`columns='response_oak=antwoord_oak,response_elm=antwoord_elm'`"
    """
    return f"`columns='{','.join(f'{response_of(model)}={name}' for model, name in texts.items())}'`"


def _scored(columns: Columns) -> dict[str, str]:
    """Model, as `spelt` → the column of its score, of those that are called alike."""
    forms: dict[tuple[str, bool], dict[str, str]] = {}
    for name, kind in columns.items():
        for form, model in models_in(name, SCORES).items() if _is_score(kind) else ():
            forms.setdefault(form, {})[spelt(model)] = name
    return max(forms.values(), key=len, default={})


def _is_score(kind: Kind) -> bool:
    return kind.name in {"number", "bool"} or kind.slips


def _models_of(name: str, words: Sequence[str]) -> set[str]:
    return {*map(spelt, models_in(name, words).values())}


def _words(name: str) -> list[str]:
    return re.findall(r"[^\s_.:()\[\]-]+", name)


def _shapes(name: str, models: Collection[str]) -> Iterator[tuple[str, str]]:
    """What a column may be called with MODEL for the model, and the model as it is written there.

    The places where a model may begin or end are looked up, rather than each model looked for: a pool may have hundreds.

    Example:
        >>> list(_shapes("svar_oak_7b", {"oak_7b", "7b", "svar"})), list(_shapes("Oak 7b (svar)", {"oak_7b"}))
        ([('MODEL_oak_7b', 'svar'), ('svar_MODEL', 'oak_7b'), ('svar_oak_MODEL', '7b')], [('MODEL (svar)', 'Oak 7b')])
    """
    for at in range(1, len(name)):
        first, last = name[:at], name[at:]
        splits = [("", first, last)] if _AFTER.fullmatch(last) else []
        if _BEFORE.fullmatch(first):
            splits.append((first, last, ""))
            splits += [(first, last[:-1], last[-1])] if last[-1] in ")]" else []
        for before, model, after in splits:
            words = map(str.casefold, _words(f"{before} {after}"))
            if spelt(model) in models and _NO_ANSWERS.isdisjoint(words):
                yield f"{before}MODEL{after}", model
