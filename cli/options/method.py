"""Build the method from the options, and adapt options when the method changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from .settings import DEFAULT_PAIR, Settings

if TYPE_CHECKING:
    from blendin_mlx.blend.method import Method

# Command-line spelling of the engine's option names.
SPELLED = {
    "tau": "--tau",
    "gate": "--gate",
    "alpha": "--alpha",
    "lambda_": "--lambda",
    "beta": "--beta",
}


def make_method(settings: Settings) -> Method:
    """Build the method with the given options.

    Raises:
        click.UsageError: the method does not accept an option, or lacks its reference model.
        ValueError: an option is out of range.
    """
    from blendin_mlx.blend import methods
    from blendin_mlx.blend.dial import Dialled

    name = settings.method
    if settings.alpha is not None and name == "blendin":
        name = "fixed"  # a constant weight in place of the formula
    known = methods.option_names(name)
    given = {
        option: value for option in SPELLED if (value := getattr(settings, option)) is not None
    }
    if unknown := [SPELLED[option] for option in given if option not in known]:
        has = " and ".join(sorted(SPELLED[option] for option in known)) or "no option of its own"
        raise click.UsageError(f"--method {name} has {has}; it does not take {unknown[0]}")
    method = methods.make_method(name, **given)
    if method.needs_reference and settings.reference is None:
        raise click.UsageError(
            f"--method {name} needs the aligned model's unaligned twin: pass --reference MODEL"
        )
    turned = settings.dial, settings.guide_temp, settings.temper
    return method if turned == (1.0, 1.0, 1.0) else Dialled(method, *turned)


def lacking(method: str, names: Sequence[str]) -> list[str]:
    """Return the option names that `method` does not accept."""
    from blendin_mlx.blend import methods

    known = methods.option_names(method)
    known |= {"alpha"} if method == "blendin" else set()  # see make_method
    return [name for name in names if name not in known]


def with_method(settings: Settings, method: str) -> Settings:
    """Return the settings for another method; options that it does not accept are reset."""
    if method == settings.method:
        return settings
    # Each has a λ and a β of its own.
    lost = ["lambda_", "beta", *lacking(method, ("tau", "gate", "alpha"))]
    if settings.method == "fixed" and method == "blendin":
        lost.append("alpha")  # with it, blendin means fixed
    changes: dict[str, Any] = dict.fromkeys(lost)
    if method == "aligned":
        changes["dial"] = 1.0  # there is nothing to mix it with
    return replace(settings, method=method, **changes)


def with_reference(settings: Settings, methods: Iterable[str]) -> Settings:
    """Return the settings with the pair's reference model, if one of the methods needs it."""
    from blendin_mlx.blend.methods import make_method as plain
    from blendin_models.catalogue import entries

    pair = entries.pairs().get(settings.pair or DEFAULT_PAIR)
    guide = settings.aligned or settings.aligned_adapter
    own = settings.reference is not None or guide
    if own or pair is None or not any(plain(name).needs_reference for name in methods):
        return settings
    return replace(settings, reference=pair.reference)
