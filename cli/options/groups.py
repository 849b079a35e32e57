"""Options that commands share, as decorators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..terminal.files import FileToWrite
from .precedence import as_meant, with_recommended
from .settings import DRAFTS, METHODS, PROJECTIONS, STOP_POLICIES, Settings
from .types import Alpha, DraftTokens, Number, Template, Whole

Command = TypeVar("Command", bound=Callable[..., Any])


def pair_options(command: Command) -> Command:
    """Which models."""
    return _apply(
        command,
        click.option("--pair", metavar="NAME", help="A pair of the catalogue.  [default: demo]"),
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
            help="When the guide is asked, and what then decides.",
        ),
        click.option(
            "--tau",
            type=Number(0, 1),
            help="Ask the guide where the base's confidence is below this.  [default: 0.4]",
        ),
        click.option(
            "--alpha",
            type=Alpha(),
            default="auto",
            show_default=True,
            help="Weight of the guide: auto goes by the confidence of both.",
        ),
        click.option(
            "--lambda",
            "lambda",
            type=Number(min=0),
            help="The method's λ: blendin's agreement bonus [default: 0.1], or the threshold of "
            "kad [0.4] or confidence-bet [0.2].",
        ),
        click.option(
            "--beta",
            type=Number(0, 100),
            help="How far proxy-tuning shifts the base.  [default: 1]",
        ),
        click.option(
            "--reference",
            metavar="MODEL",
            help="The aligned model's unaligned twin, for --method proxy-tuning.",
        ),
        click.option(
            "--stop-policy",
            type=click.Choice(STOP_POLICIES),
            default="either",
            show_default=True,
            help="Whose wish to stop ends the answer.",
        ),
        click.option(
            "--projection",
            type=click.Choice(PROJECTIONS),
            default="prefix",
            show_default=True,
            help="How tokens that the base lacks are carried over.",
        ),
    )


def prompt_options(command: Command) -> Command:
    """What the two models read."""
    return _apply(
        command,
        click.option("--system", metavar="TEXT", help="System prompt of both models."),
        click.option(
            "--base-template",
            type=Template(),
            default="query",
            show_default=True,
            help="Text form that the base reads: query, examples, transcript, plain, chat, or a "
            "Jinja file.",
        ),
        click.option(
            "--aligned-template",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Jinja file to use as the aligned model's chat template.",
        ),
        click.option(
            "--thinking/--no-thinking",
            default=False,
            show_default=True,
            help="Tell the chat template of a thinking model to think, or not to.",
        ),
    )


def sampling_options(command: Command) -> Command:
    """How a token is taken from the distribution, with mlx-lm's names."""
    return _apply(
        command,
        click.option(
            "--max-tokens",
            "-m",
            type=Whole(min=1),
            default=512,
            show_default=True,
            help="Most tokens to produce.",
        ),
        click.option(
            "--temp",
            type=Number(min=0),
            default=0.0,
            show_default=True,
            help="Temperature; 0 takes the likeliest token.",
        ),
        click.option(
            "--top-p",
            type=Number(0, 1),
            default=0.0,
            help="Draw from the likeliest tokens with this much mass; 0 is off.",
        ),
        click.option(
            "--min-p",
            type=Number(0, 1),
            default=0.0,
            help="Drop tokens below this share of the likeliest; 0 is off.",
        ),
        click.option(
            "--top-k",
            type=Whole(min=0),
            default=0,
            help="Draw from this many tokens; 0 is off, and so is the whole vocabulary or more.",
        ),
        click.option(
            "--repetition-penalty",
            type=Number(min=0),
            help="As in mlx-lm: logits above 0 of tokens that were used are divided by this, those "
            "below 0 multiplied; 0 and 1 are off. A blend's logits are log r + log Σ exp of the "
            "base's logits, so that at weight 0 they are the base's own.  [default: off]",
        ),
        click.option(
            "--repetition-context-size",
            type=Whole(1, 2**31 - 1),
            default=20,
            show_default=True,
            help="How many tokens back the penalty looks, the prompt's among them.",
        ),
        click.option(
            "--seed",
            type=Whole(0, 2**64 - 1),
            metavar="INTEGER",
            help="For sampling; one is drawn and reported if absent.",
        ),
        click.option("--stop", multiple=True, help="End before this string; may be repeated."),
        click.option(
            "--json-schema",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write JSON as this schema has it, and end with it; needs the json extra.",
        ),
    )


def speed_options(command: Command) -> Command:
    """What changes the time and the memory that an answer takes."""
    return _apply(
        command,
        click.option(
            "--draft",
            type=click.Choice(DRAFTS),
            default="auto",
            show_default=True,
            help="Who proposes tokens that the base then checks in one pass. Never changes text.",
        ),
        click.option(
            "--num-draft-tokens",
            type=DraftTokens(),
            default="auto",
            show_default=True,
            help="How many at once: auto follows what is accepted, and what a pass costs here.",
        ),
        click.option(
            "--context",
            type=click.IntRange(min=1),
            metavar="TOKENS",
            help="Most tokens that each model reads, prompt and answer together.  "
            "[default: as its config says]",
        ),
        click.option(
            "--kv-bits",
            type=click.Choice(["4", "8"]),
            callback=_whole,
            help="Quantize both caches to so many bits.  [default: off]",
        ),
        click.option(
            "--prompt-cache",
            type=FileToWrite(),
            metavar="FILE",
            help="Keep what both models read of the system prompt, and of standard input where "
            "the prompt is an argument too: made once, read again by later commands.",
        ),
        click.option("--force", is_flag=True, help="Load a pair that seems too large for here."),
        click.option(
            "--wired-limit/--no-wired-limit",
            default=True,
            help="Keep both models resident on an Apple GPU.  [default: yes]",
        ),
    )


def blend_options(command: Command) -> Command:
    """All of them; the command gets one :class:`Settings` as ``settings``."""
    from functools import wraps

    names = set(Settings.__dataclass_fields__)

    @wraps(command)
    def gathered(**values: Any) -> Any:
        values["lambda_"] = values.pop("lambda")  # a keyword of Python
        settings = Settings(**{name: values.pop(name) for name in names})
        return command(settings=with_recommended(as_meant(settings)), **values)

    decorated: Any = gathered
    for group in (speed_options, sampling_options, prompt_options, method_options, pair_options):
        decorated = group(decorated)
    gathering: Command = decorated
    return gathering


def _whole(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    return None if value is None else int(value)


def _apply(command: Command, *options: Callable[[Any], Any]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
