"""Types of option values, stricter than click's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]  # generic from click 8.4 on only
else:
    ParamType = click.ParamType

BASE_TEMPLATES = ("query", "examples", "transcript", "plain", "chat")
MOST = 2**53  # the largest integer that JSON keeps exactly
LARGEST = 3e38  # what float32 holds


class WeightedModel(NamedTuple):
    """A model by name, and how much it counts among several."""

    name: str
    weight: float = 1.0

    @property
    def spelled(self) -> str:
        """What a user types for it."""
        return self.name if self.weight == 1.0 else f"{self.name}={self.weight:g}"


class Guide(ParamType):
    """An aligned model, with ``=WEIGHT`` after its name where several share the vote.

    Example:
        >>> Guide().convert("careful=0.7", None, None)
        WeightedModel(name='careful', weight=0.7)
    """

    name = "model"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> WeightedModel:
        """Split name and weight; what follows ``=`` and is no number belongs to the name."""
        if isinstance(value, WeightedModel):
            return value
        name, equals, number = value.rpartition("=")
        try:
            weight = float(number) if equals and not Path(value).is_dir() else None
        except ValueError:
            weight = None
        if weight is None:
            return WeightedModel(value)
        if not 0 < weight <= LARGEST:
            self.fail(f"{value}: a weight is a number above 0", param, ctx)
        return WeightedModel(name, weight)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split the value of an environment variable into lines: names may have spaces."""
        return rv.splitlines()


class Number(click.FloatRange):
    """A number in a range, finite in float32; click's own accepts NaN."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert and validate a number."""
        try:
            number = float(super().convert(value, param, ctx))
        except OverflowError:
            number = float("inf")
        if not abs(number) <= LARGEST:  # NaN fails too
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Whole(click.IntRange):
    """An integer in a range; click's own truncates 2.5 to 2 and crashes on infinity."""

    def __init__(self, min: int, max: int = MOST) -> None:
        super().__init__(min, max)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert and validate an integer."""
        if isinstance(value, float) and not value.is_integer():
            self.fail(f"{value} is not a whole number", param, ctx)
        return int(super().convert(value, param, ctx))


class AutoOr(ParamType):
    """``auto``, which is None, or a number in a range.

    Args:
        number: the type of the number, with both limits.
    """

    def __init__(self, number: Number | Whole) -> None:
        self.number = number
        self.name = f"auto|{number.min:g}..{number.max:g}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Convert and validate a number; return None for ``auto``."""
        if value is None or value == "auto":
            return None
        try:
            return self.number.convert(value, param, ctx)
        except click.BadParameter:
            limits = f"{self.number.min:g} to {self.number.max:g}"
            self.fail(f"{value!r} is neither auto nor a number from {limits}", param, ctx)


class Template(ParamType):
    """A built-in template's name, or a file."""

    name = "NAME|FILE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | Path:
        """Return the name of a built-in template, or the path of an existing file."""
        if value in BASE_TEMPLATES:
            return str(value)
        if not Path(value).exists() or Path(value).is_dir():
            known = ", ".join(BASE_TEMPLATES)
            self.fail(f"{value!r} is neither a file nor one of {known}", param, ctx)
        return Path(value)
