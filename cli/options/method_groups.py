"""Options of the blend itself, as decorators: how the guide is asked, and when an answer ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .names import model_names
from .settings import GATES, METHODS, PROJECTIONS, STOP_POLICIES
from .types import AutoOr, Number

Command = TypeVar("Command", bound=Callable[..., Any])


def method_options(command: Command) -> Command:
    """Add the options of the method and its parameters."""
    return apply_options(
        command,
        click.option(
            "--method",
            type=click.Choice(METHODS),
            default="blendin",
            show_default=True,
            help="How the guide is asked and how it is blended.",
        ),
        click.option(
            "--tau",
            type=Number(0, 1),
            help="Ask the guide where the base is less sure than this, by its gate.  "
            "[default: 0.4]",
        ),
        click.option(
            "--gate",
            type=click.Choice(GATES),
            help="How sure the base is: its top probability, e^-H by its entropy H in nats, or "
            "the lead of its top token over the second.  [default: confidence]",
        ),
        click.option(
            "--alpha",
            type=AutoOr(Number(0, 1)),
            default="auto",
            show_default=True,
            help="Weight of the guide; auto: by the confidence of both models.",
        ),
        click.option(
            "--lambda",
            "lambda",
            type=Number(min=0),
            help="The method's λ: blendin's agreement bonus [default: 0.1], the threshold of kad "
            "[0.4] or confidence-bet [0.2], the mass that kad-primal defers [0.4], or the share of "
            "the base's top probability that contrastive asks of a token [0.1].",
        ),
        click.option(
            "--beta",
            type=Number(0, 100),
            help="How far proxy-tuning [default: 1] or contrastive [0.5] shifts the base.",
        ),
        dial_options,
        click.option(
            "--reference",
            metavar="MODEL",
            shell_complete=model_names,
            help="The aligned model's unaligned twin, for --method proxy-tuning.",
        ),
    )


def dial_options(command: Command) -> Command:
    """Add the options that say how much of the guide is taken, and how sure it counts as."""
    return apply_options(
        command,
        click.option(
            "--dial",
            type=Number(0, 1),
            default=1.0,
            help="Scale of the guide's weight: 0 is the base alone.  [default: 1]",
        ),
        click.option(
            "--guide-temp",
            type=Number(0.01, 100),
            default=1.0,
            help="Temperature of all that the guide says: above 1 it is less sure.  [default: 1]",
        ),
        click.option(
            "--temper",
            type=Number(0.01, 100),
            default=1.0,
            help="Temperature of both models before the method sees them, beside --temp, which "
            "is that of the draw.  [default: 1]",
        ),
    )


def ending_options(command: Command) -> Command:
    """Add the option that says who ends an answer."""
    return apply_options(
        command,
        click.option(
            "--stop-policy",
            type=click.Choice(STOP_POLICIES),
            default="either",
            show_default=True,
            help="Which model may end the answer.",
        ),
    )


def projection_options(command: Command) -> Command:
    """Add the option that says how the guide is carried over to the base's vocabulary."""
    return apply_options(
        command,
        click.option(
            "--projection",
            type=click.Choice(PROJECTIONS),
            default="prefix",
            show_default=True,
            help="How the guide's tokens that the base lacks are mapped to it.",
        ),
    )


def apply_options(command: Command, *options: Callable[[Any], Any]) -> Command:
    """Give a command options, in the order of its help."""
    for option in reversed(options):
        command = option(command)
    return command
