"""Options that commands share, as decorators; their values as one record.

The names of methods and templates are written out here because importing the engine to ask it
would make ``--help`` slow. A test holds them to the engine's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

METHODS = ("base", "aligned", "blendin", "fixed", "nudging")
STOP_POLICIES = ("blend", "base", "either", "guide")
BASE_TEMPLATES = ("query", "transcript", "plain", "chat")

Command = TypeVar("Command", bound=Callable[..., Any])


class Alpha(click.ParamType):
    """``auto``, or a weight from 0 to 1."""

    name = "auto|0..1"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """None for ``auto``."""
        if value is None or value == "auto":
            return None
        return float(click.FloatRange(0, 1).convert(value, param, ctx))


class Template(click.ParamType):
    """A built-in template's name, or a file."""

    name = "NAME|FILE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | Path:
        """The name, or the path of an existing file."""
        if value in BASE_TEMPLATES:
            return str(value)
        if not Path(value).is_file():
            known = ", ".join(BASE_TEMPLATES)
            self.fail(f"{value!r} is neither a file nor one of {known}", param, ctx)
        return Path(value)


@dataclass(frozen=True)
class Settings:
    """The values of the shared options."""

    pair: str | None
    base: str | None
    aligned: str | None
    method: str
    tau: float | None
    alpha: float | None
    bonus: float | None
    stop_policy: str
    projection: str
    base_template: str | Path
    aligned_template: Path | None
    thinking: bool | None
    system: str | None
    max_tokens: int
    temp: float
    top_p: float
    min_p: float
    top_k: int
    repetition_penalty: float | None
    repetition_context_size: int
    seed: int | None
    stop: tuple[str, ...]
    kv_bits: int | None


def pair_options(command: Command) -> Command:
    """Which two models."""
    return _apply(
        command,
        click.option("--pair", help="A pair of the catalogue.  [default: demo]"),
        click.option("--base", metavar="MODEL", help="Base model: a name, folder or hub repo id."),
        click.option("--aligned", metavar="MODEL", help="Aligned model that guides it."),
    )


def method_options(command: Command) -> Command:
    """How they are blended, and when an answer ends."""
    return _apply(
        command,
        click.option(
            "--method",
            type=click.Choice(METHODS),
            default="blendin",
            show_default=True,
            help="Gate and target distribution.",
        ),
        click.option(
            "--tau",
            type=click.FloatRange(0, 1),
            help="Ask the guide where the base's confidence is below this.  [default: 0.4]",
        ),
        click.option(
            "--alpha",
            type=Alpha(),
            default="auto",
            show_default=True,
            help="Weight of the guide: by confidence, or fixed.",
        ),
        click.option(
            "--lambda",
            "bonus",
            type=click.FloatRange(min=0),
            help="Agreement bonus of the automatic weight.  [default: 0.1]",
        ),
        click.option(
            "--stop-policy",
            type=click.Choice(STOP_POLICIES),
            default="either",
            show_default=True,
            help="Who may end the answer.",
        ),
        click.option(
            "--projection",
            type=click.Choice(("prefix", "shared")),
            default="prefix",
            show_default=True,
            help="How tokens that the base lacks are carried over.",
        ),
    )


def prompt_options(command: Command) -> Command:
    """What the two models read."""
    return _apply(
        command,
        click.option("--system", help="System prompt."),
        click.option(
            "--base-template",
            type=Template(),
            default="query",
            show_default=True,
            help="Text form that the base reads: query, transcript, plain, chat, or a Jinja file.",
        ),
        click.option(
            "--aligned-template",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Jinja file to use as the aligned model's chat template.",
        ),
        click.option(
            "--thinking/--no-thinking",
            default=None,
            help="Tell the template of a thinking model.",
        ),
    )


def sampling_options(command: Command) -> Command:
    """How a token is taken from the distribution, with mlx-lm's names."""
    return _apply(
        command,
        click.option(
            "--max-tokens",
            "-m",
            type=click.IntRange(min=1),
            default=512,
            show_default=True,
            help="Most tokens to produce.",
        ),
        click.option(
            "--temp",
            type=click.FloatRange(min=0),
            default=0.0,
            show_default=True,
            help="Temperature; 0 is greedy.",
        ),
        click.option(
            "--top-p", type=click.FloatRange(0, 1), default=0.0, help="Nucleus; 0 is off."
        ),
        click.option("--min-p", type=click.FloatRange(0, 1), default=0.0, help="0 is off."),
        click.option("--top-k", type=click.IntRange(min=0), default=0, help="0 is off."),
        click.option("--repetition-penalty", type=click.FloatRange(min=0, min_open=True)),
        click.option(
            "--repetition-context-size",
            type=click.IntRange(min=1),
            default=64,
            show_default=True,
            help="How many tokens back the penalty looks.",
        ),
        click.option("--seed", type=int, help="For sampling; one is drawn and reported if absent."),
        click.option("--stop", multiple=True, help="End before this string; may be repeated."),
        click.option(
            "--kv-bits",
            type=click.Choice(["4", "8"]),
            callback=_whole,
            help="Quantize the caches.",
        ),
    )


def blend_options(command: Command) -> Command:
    """All of them; the command gets one :class:`Settings` as ``settings``."""
    from functools import wraps

    names = set(Settings.__dataclass_fields__)

    @wraps(command)
    def gathered(**values: Any) -> Any:
        settings = Settings(**{name: values.pop(name) for name in names})
        return command(settings=settings, **values)

    decorated: Any = gathered
    for group in (sampling_options, prompt_options, method_options, pair_options):
        decorated = group(decorated)
    return decorated  # type: ignore[no-any-return]


def _whole(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    return None if value is None else int(value)


def _apply(command: Command, *options: Callable[[Any], Any]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
