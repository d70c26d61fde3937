"""Instructions whose reference a verifier can check, known before a model is asked."""

from collections.abc import Sequence

from crowdselect.ask.calls import parsed_prompt
from crowdselect.collect.instructions import Instructions
from crowdselect.errors import InputError, OptionError, near_miss
from crowdselect.pool.prompts import chat_text
from crowdselect.verify.processes import Checkers
from crowdselect.verify.verifiers import VERIFIERS, Task


def keep_verifiable(instructions: Instructions, wanted: str) -> None:
    """Leave out instructions whose reference cannot be checked; the notes count them by reason.

    Args:
        instructions: From `open_instructions`; it is modified.
        wanted: `VERIFIER#COLUMN`.

    Raises:
        OptionError: It is no such pair.
        InputError: There is no such column, or no reference can be checked.
        MissingExtraError: The verifier needs a package that is not installed.
    """
    name, _, column = wanted.partition("#")
    if name not in VERIFIERS or not column:
        raise OptionError(
            f"`only_verifiable` {wanted!r}: wanted {'|'.join(VERIFIERS)}#COLUMN, COLUMN being that of right answers"
        )
    why = unverifiable(instructions, name, column)
    instructions.leave_out(why)
    if not instructions.count:
        raise InputError(
            f"{instructions.path}: no instruction has a reference in {column!r} that verify:{name} can check"
        )


def unverifiable(instructions: Instructions, name: str, column: str) -> list[str | None]:
    """Say why references cannot be checked.

    Args:
        instructions: From `open_instructions`.
        name: A verifier.
        column: The column of right answers.

    Returns:
        A reason per instruction, in their order; None = it can be checked.

    Raises:
        InputError: There is no such column.
        MissingExtraError: The verifier needs a package that is not installed.
    """
    tasks = _tasks(instructions, column, questions=VERIFIERS[name].reads_question)
    with Checkers(name) as checkers:
        return [verdict.reason for _, verdict in sorted(checkers.verdicts(tasks), key=lambda pair: pair[0])]


def _tasks(instructions: Instructions, column: str, *, questions: bool) -> Sequence[Task]:
    if column not in instructions.carried:
        known = ", ".join(instructions.carried) or "none"
        hint = near_miss(column, instructions.carried)
        raise InputError(f"{instructions.path}: no column {column!r} of right answers; found {known}{hint}")
    references = instructions.carried_texts(column)
    if not questions:
        return [Task(None, reference) for reference in references]
    asked = (chat_text(parsed_prompt(prompt.prompt)[0]) or "" for prompt in instructions.prompts())
    return [Task(None, reference, question) for reference, question in zip(references, asked, strict=True)]
