"""Decorators that add the options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ..terminal.files import FileToWrite
from .method_groups import (
    Command,
    apply_options,
    ending_options,
    method_options,
    projection_options,
)
from .names import model_names, pair_names, template_names
from .precedence import as_meant, with_recommended
from .settings import DEFAULT_PAIR, DRAFTS, UNASKED, Settings
from .types import AutoOr, Guide, Number, Template, Whole


def pair_options(command: Command) -> Command:
    """Add the options that name the models."""
    return apply_options(
        command,
        click.option(
            "--pair",
            metavar="NAME",
            shell_complete=pair_names,
            help=f"A pair of the catalogue.  [default: {DEFAULT_PAIR}]",
        ),
        click.option(
            "--base",
            metavar="MODEL",
            shell_complete=model_names,
            help="Base model: a name, folder or hub repo id.",
        ),
        click.option(
            "--aligned",
            type=Guide(),
            multiple=True,
            metavar="MODEL[=WEIGHT]",
            shell_complete=model_names,
            help="Aligned model that guides it; may be repeated: what several say is mixed by "
            "their weights.",
        ),
        click.option(
            "--base-adapter",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Adapter of the base: a folder in mlx-lm's LoRA or DoRA format.",
        ),
        click.option(
            "--aligned-adapter",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Adapter of the aligned model; without --aligned, the base with this adapter is "
            "the aligned model.",
        ),
    )


def prompt_options(command: Command) -> Command:
    """Add the options of the prompt."""
    return apply_options(
        command,
        click.option("--system", metavar="TEXT", help="System prompt of both models."),
        click.option(
            "--base-template",
            type=Template(),
            shell_complete=template_names,
            default="query",
            show_default=True,
            help="Prompt template of the base: query, examples, transcript, plain, chat, or a "
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
            help="Whether the chat template asks a thinking model to think.",
        ),
    )


def sampling_options(command: Command) -> Command:
    """Add the sampling options, with mlx-lm's names."""
    return apply_options(
        command,
        click.option(
            "--max-tokens",
            "-m",
            type=Whole(min=1),
            default=512,
            show_default=True,
            help="Maximum number of tokens to generate.",
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
    )


def answer_options(command: Command) -> Command:
    """Add the options of penalties, seed, stop strings and JSON schema."""
    return apply_options(
        command,
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
            help="Number of last tokens, of prompt and answer, that the penalty applies to.",
        ),
        click.option(
            "--seed",
            type=Whole(0, 2**64 - 1),
            metavar="INTEGER",
            help="Seed for sampling; by default a random one, which is reported.",
        ),
        click.option("--stop", multiple=True, help="End before this string; may be repeated."),
        click.option(
            "--json-schema",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Constrain the answer to JSON that matches this schema; needs the json extra.",
        ),
    )


def speed_options(command: Command) -> Command:
    """Add the options that change speed and memory."""
    return apply_options(
        command,
        click.option(
            "--draft",
            type=click.Choice(DRAFTS),
            default="auto",
            show_default=True,
            help="What drafts tokens, which the base verifies in one pass. Never changes the text.",
        ),
        click.option(
            "--num-draft-tokens",
            type=AutoOr(Whole(1, 16)),
            default="auto",
            show_default=True,
            help="Tokens per draft; auto: by the acceptance rate and the measured cost of a pass.",
        ),
        click.option(
            "--prompt-cache",
            type=FileToWrite(),
            metavar="FILE",
            help="Cache of the system prompt, and of standard input if the prompt is an argument "
            "too; created once, reused by later commands.",
        ),
    )


def batch_option(default: str) -> Callable[[Command], Command]:
    """Return a decorator that adds ``--batch``, of which ``auto`` is None."""
    return click.option(
        "--batch",
        type=AutoOr(Whole(1, 64)),
        default=default,
        show_default=True,
        help="Write so many answers at once; auto goes by memory and by what a pass costs here.",
    )


def shard_option(command: Command) -> Command:
    """Add ``--shard``, for commands that run on several machines."""
    option: Command = click.option(
        "--shard",
        is_flag=True,
        help="Split the base over all machines that mlx.launch has started this on.",
    )(command)
    return option


def loading_options(command: Command) -> Command:
    """Add the options that say what the models may take."""
    return apply_options(
        command,
        click.option(
            "--context",
            type=click.IntRange(min=1),
            metavar="TOKENS",
            help="Context limit of each model in tokens, prompt and answer together.  "
            "[default: as its config says]",
        ),
        click.option(
            "--kv-bits",
            type=click.Choice(["4", "8"]),
            callback=_whole,
            help="Quantize both KV caches to this many bits.  [default: off]",
        ),
        click.option("--force", is_flag=True, help="Load a pair that seems too large for memory."),
        click.option(
            "--wired-limit/--no-wired-limit",
            default=True,
            help="Keep both models resident on an Apple GPU.  [default: yes]",
        ),
    )


_SCORING = (pair_options, method_options, projection_options, prompt_options, loading_options)
_EVALUATING = (
    *(pair_options, method_options, ending_options, projection_options, prompt_options),
    loading_options,
)
_ALL = (
    *(pair_options, method_options, ending_options, projection_options, prompt_options),
    *(sampling_options, answer_options, speed_options, loading_options),
)


def blend_options(command: Command) -> Command:
    """Add all shared options; the command gets one :class:`Settings` as ``settings``."""
    return _gathered(command, _ALL)


def scoring_options(command: Command) -> Command:
    """Add the shared options of a command that writes no answer, likewise."""
    return _gathered(command, _SCORING)


def evaluating_options(command: Command) -> Command:
    """Add the shared options of a command whose answers are as its tasks want them, likewise."""
    return _gathered(command, _EVALUATING)


def _gathered(command: Command, groups: Sequence[Callable[[Any], Any]]) -> Command:
    names = set(Settings.__dataclass_fields__)

    @wraps(command)
    def gathered(**values: Any) -> Any:
        values["lambda_"] = values.pop("lambda")  # a keyword of Python
        settings = Settings(**{**UNASKED, **{n: values.pop(n) for n in names & set(values)}})
        return command(settings=with_recommended(as_meant(settings)), **values)

    decorated: Any = gathered
    for group in reversed(groups):
        decorated = group(decorated)
    gathering: Command = decorated
    return gathering


def _whole(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    return None if value is None else int(value)
