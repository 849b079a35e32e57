"""Jinja's sandbox with bounds on what a single step of a template may make.

Between two lines of Python the clock can be looked at (:mod:`.rendering`). A step that runs in C,
as ``9**90000000`` or the comparison of two lists of lists of lists …, ends when it ends; so what
such steps are given is bounded. Whatever a template gives a name to is weighed as if it were
written out, which makes every other step as long as the template's source at most.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_CHARACTERS = 20_000_000
MOST_ITEMS = 200_000
MOST_BITS = 1024  # of a whole number that is multiplied, divided or raised
MOST_COMPARED = 2_000_000_000  # characters, in a search that may compare each with each
WIDEST = 10_000  # columns of a formatted field
# A field of ``%`` or ``{}`` that is wider than that, or as wide as an argument says.
WIDE = re.compile(r"%(\([^)]*\))?[-#0 +]*\d*\.?(\d{5,}|\*)|\{[^{}]*:[^{}]*(\d{5,}|\{)")
WEIGH = "_weighed"
TOO_MUCH = "it makes more than any conversation needs"


class TemplateLimitError(ValueError):
    """A template took more time or memory than any conversation needs."""


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """The sandbox that chat templates are written for; a normal template cannot tell."""

    intercepted_binops = frozenset(("*", "**", "/", "//", "%"))  # none is computed ahead, either

    def bound(self) -> None:
        """Bound the filters that are there by now."""
        bounded = {name: _bounded(name, function) for name, function in self.filters.items()}
        self.filters = {**bounded, WEIGH: weighed}

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An operation on operands that are small enough for it."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(1, right) if operator == "**" else left.bit_length()
            _require(max(bits, right.bit_length()), MOST_BITS)
        elif operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(many, (str, list, tuple)):
                    _require(len(many) * times, MOST_ITEMS * (100 if isinstance(many, str) else 1))
        elif operator == "%" and isinstance(left, str):
            _require_narrow(left, (right,))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """A call of something with arguments that are small enough for it."""
        for value in (*args, *kwargs.values()):
            weighed(value)
        if isinstance(__obj, types.BuiltinMethodType) and isinstance(__obj.__self__, str):
            _require_small(__obj.__name__, __obj.__self__, args, kwargs)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` as the sandbox has it, with fields that are not too wide."""
        safe = super().wrap_str_format(value)
        if safe is None:
            return None
        made = safe

        def formatted(*args: Any, **kwargs: Any) -> str:
            _require_narrow(value.__self__, (*args, *kwargs.values()))
            return made(*args, **kwargs)

        return formatted

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """The template, with whatever is given a name weighed first."""
        tree = super()._parse(source, name, filename)

        def weigh(value: Any) -> nodes.Filter:
            return nodes.Filter(
                value, WEIGH, [], [], None, None, lineno=value.lineno, environment=self
            )

        for node in list(tree.find_all((nodes.Assign, nodes.For, nodes.With))):
            if isinstance(node, nodes.Assign):
                node.node = weigh(node.node)
            elif isinstance(node, nodes.For):
                node.iter = weigh(node.iter)
            elif isinstance(node, nodes.With):
                node.values = [weigh(value) for value in node.values]
        return tree


def weighed(value: Any) -> Any:
    """The value, if it is not too large when written out.

    Raises:
        TemplateLimitError: it is.
    """
    if isinstance(value, Iterator):  # it is weighed as it comes
        return (weighed(item) for item in value)
    left, characters, items = [value], 0, 0
    while left:
        one = left.pop()
        items += 1
        if isinstance(one, str):
            characters += len(one)
        elif isinstance(one, Mapping):
            left.extend(one.keys())
            left.extend(one.values())
        elif isinstance(one, Collection) and not isinstance(one, (bytes, range)):
            left.extend(one)
        if len(left) + items > MOST_ITEMS or characters > MOST_CHARACTERS:
            raise TemplateLimitError(TOO_MUCH)
    return value


def _require(wanted: float, most: float) -> None:
    if wanted > most:
        raise TemplateLimitError(TOO_MUCH)


def _require_narrow(template: str, arguments: Iterable[Any]) -> None:
    """Refuse a format that writes a field of so many columns."""
    if found := WIDE.search(template):
        said = found[0].endswith(("*", "{"))
        values = [v for a in arguments for v in (a if isinstance(a, tuple) else (a,))]
        numbers = [value for value in values if isinstance(value, int)]
        _require(max(numbers, default=0) if said else WIDEST + 1, WIDEST)


# About how many characters or items the methods of a text, and filters, make of a value.
_MAKES: dict[str, Callable[..., int]] = {
    **dict.fromkeys(("ljust", "rjust", "center", "zfill"), lambda text, width=80, *_: width),
    "expandtabs": lambda text, tabsize=8: text.count("\t") * tabsize,
    "indent": lambda text, width=4, *_, **__: _columns(width) * (str(text).count("\n") + 1),
    "batch": lambda items, linecount, *_, **__: 100 * linecount,
    "replace": lambda text, old, new, *_, **__: str(text).count(old) * len(new),
    "join": lambda first, d="", *_, **__: len(first) * len(d),
    "urlize": lambda text, *_, **__: 100 * len(text),
    "sum": lambda items, attribute=None, start=0: (
        len(items) ** 2 if isinstance(start, (list, tuple)) else 0
    ),
}
_COMPARES = ("rfind", "rindex", "rsplit", "rpartition", "strip", "lstrip", "rstrip")


def _columns(width: int | str) -> int:
    return len(width) if isinstance(width, str) else width


def _require_small(name: str, value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse a call that makes too much, or searches too long."""
    if name in _COMPARES:
        sought = max((len(text) for text in args if isinstance(text, str)), default=0)
        _require(len(value) * sought, MOST_COMPARED)
    if name in _MAKES:
        try:
            size = _MAKES[name](value, *args, **kwargs)
        except (TypeError, AttributeError):  # it is called wrongly, and will say so itself
            return
        _require(size, MOST_CHARACTERS)


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that refuses to make too much."""
    if name != "format" and name not in _MAKES:
        return function
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # before it comes jinja's own

    @wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        value, rest = args[first], args[first + 1 :]
        if name == "format":
            _require_narrow(str(value), (*rest, *kwargs.values()))
        else:
            _require_small(name, value, rest, kwargs)
        return function(*args, **kwargs)

    return filtered
