"""Types of options' values: weights, names of columns, a budget."""

from dataclasses import dataclass
from typing import Any

import click

from crowdselect.cli.flags import Option
from crowdselect.pool.howread import MISSING_WORDS


def _default_weights() -> str:
    from crowdselect.numeric.ranks import DEFAULT_WEIGHTS

    return ",".join(f"{name}={weight:g}" for name, weight in DEFAULT_WEIGHTS.items() if weight)


class WeightsOption(Option):
    """Its help reads the metrics' own weights, when it is asked for: help of other commands loads no NumPy."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Add the default to the help."""
        record = super().get_help_record(ctx)
        return record and (record[0], f"{record[1]}  [default: {_default_weights()}]")


class Weights(click.ParamType[dict[str, float]]):
    """`NAME=NUMBER,...`, or a table in a configuration file."""

    name = "weights"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002, D102  (click's)
        return "NAME=NUMBER,..."

    def convert(
        self,
        value: Any,  # noqa: ANN401  (a string from the command line, a table from a file)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> dict[str, float]:
        """Read weights; which names there are is checked by `Options`."""
        pairs = value.items() if isinstance(value, dict) else (part.split("=") for part in value.split(","))
        weights: dict[str, float] = {}
        for pair in pairs:
            try:
                name, number = pair
                weight = float(number)
            except (TypeError, ValueError):
                self.fail(f"{value!r} is not of the form {_default_weights()}", param, ctx)
            if name.strip() in weights:
                self.fail(f"{name.strip()!r} is named twice in {value!r}", param, ctx)
            weights[name.strip()] = weight
        return weights


class ColumnNames(click.ParamType[tuple[tuple[str, str], ...]]):
    """`WHAT=COLUMN,...`, or a table in a configuration file."""

    name = "columns"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002, D102  (click's)
        return "WHAT=COLUMN,..."

    def convert(
        self,
        value: Any,  # noqa: ANN401  (a string from the command line, a table from a file)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[tuple[str, str], ...]:
        """Read which column is what; which there are is checked where the pool is opened."""
        if isinstance(value, tuple):
            return value
        if isinstance(value, dict):
            return tuple((str(what), str(name)) for what, name in value.items())
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if not pairs or not all(
            what.strip() and equals and (name.strip() or what.strip() == "id") for what, equals, name in pairs
        ):
            self.fail(f"{value!r} is not of the form instruction=COLUMN,model=COLUMN", param, ctx)
        return tuple((what.strip(), name.strip()) for what, _, name in pairs)


@dataclass(frozen=True, slots=True)
class Share:
    """A budget that is a share of the pool."""

    percent: float
    """Above 0, at most 100."""

    def of(self, instructions: int) -> int:
        """Give the budget, rounded down, at least 1.

        Example:
            >>> Share(10).of(1005)
            100
        """
        return max(int(instructions * self.percent / 100), 1)


class Budget(click.ParamType[int | Share]):
    """`N`, or `P%` of the pool's instructions."""

    name = "budget"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002, D102  (click's)
        return "N|P%"

    def convert(
        self,
        value: Any,  # noqa: ANN401  (a string from the command line, a number from a file)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int | Share:
        """Read a budget; whether the pool has so many rows is checked later."""
        if isinstance(value, int | Share):
            return value
        text = str(value).strip()
        try:
            if not text.endswith("%"):
                return int(text)
            percent = float(text[:-1])
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor a share such as 10%", param, ctx)
        if not 0 < percent <= 100:
            self.fail(f"{value!r} is not above 0% and at most 100%", param, ctx)
        return Share(percent)


class Missing(click.ParamType[float | str]):
    """A number, `empty` or `error`."""

    name = "missing"

    def convert(
        self,
        value: Any,  # noqa: ANN401  (a string from the command line, a number from a file)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float | str:
        """Read what stands for no reward."""
        try:
            return value if value in MISSING_WORDS else float(value)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is neither a number nor {' nor '.join(MISSING_WORDS)}", param, ctx)
