"""Render untrusted templates: the program of the child process.

It is started by its path in an isolated interpreter, with the folders of jinja2 as arguments, and
imports nothing else of this project. Each line of standard input is a request in JSON, each line
of standard output its answer: ``{"text": …}``, ``{"error": …}`` or ``{"limit": …}``. Jinja's
sandbox keeps a template from files and from Python's insides; the system's limits on this process
keep it from looping forever or filling the memory. It ends when standard input does.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

sys.path += sys.argv[1:]

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_LONGEST_MESSAGE = 300


class OutputLimitError(Exception):
    """A template writes more than its limit."""


class Generation(Extension):
    """The block ``{% generation %}…{% endgeneration %}``, which marks an answer: its content."""

    tags = {"generation"}  # noqa: RUF012 - as in its base class

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the content as a call block, which has its own scope.

        Args:
            parser: positioned at the opening tag.
        """
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Macro) -> str:
        return caller()


class PlainDict:
    """``dict`` for templates: it can be called, and exposes nothing of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """Return what ``dict`` returns."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """Return what ``dict.fromkeys`` returns."""
        return dict.fromkeys(*args)


class PlainNamespace(Namespace):
    """``namespace`` for templates: no names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that ``self`` can be a name, too
        self, given = args[0], dict(*args[1:], **kwargs)
        for name in given:
            _require_public(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_public(name)
        Namespace.__setitem__(self, name, value)


def _require_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: Any) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(template: str) -> str:
    return datetime.now().strftime(template)


@lru_cache
def environment(keep_trailing_newline: bool) -> ImmutableSandboxedEnvironment:
    """Return the environment that transformers makes for chat templates."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=keep_trailing_newline,
        extensions=[Generation, loopcontrols],
    )
    made.filters["tojson"] = _tojson
    made.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": PlainDict(),
        "namespace": PlainNamespace,
    }
    return made


@lru_cache
def _compiled(source: str, keep_trailing_newline: bool) -> jinja2.Template:
    return environment(keep_trailing_newline).from_string(source)


def render(request: dict[str, Any]) -> str:
    """Return the output of a template.

    Raises:
        OutputLimitError: the output is too long.
        Exception: whatever the template raises.
    """
    template = _compiled(request["source"], request["keep_trailing_newline"])
    parts, characters = [], 0
    for part in template.generate(**request["variables"]):
        characters += len(part)
        if characters > request["characters"]:
            raise OutputLimitError
        parts.append(part)
    return "".join(parts)


def answer(request: dict[str, Any]) -> dict[str, str]:
    """Return the output of a template, or the reason why there is none."""
    try:
        try:
            return {"text": render(request)}
        except (OutputLimitError, MemoryError, RecursionError):
            raise
        except Exception as error:
            return {"error": _message(error)}
    except OutputLimitError:
        return {"limit": f"it writes more than {request['characters']} characters"}
    except MemoryError:
        return {"limit": "it takes too much memory"}
    except RecursionError:
        return {"limit": "it nests too deeply"}


def _message(error: Exception) -> str:
    said = " ".join(str(error).split())[:_LONGEST_MESSAGE]
    if isinstance(error, jinja2.TemplateError) and said:
        return said
    return f"{type(error).__name__}: {said}"


def limit(cpu_s: float, memory: int) -> None:
    """Limit the processor time from now on, and the memory beyond the interpreter's own.

    Args:
        cpu_s: seconds.
        memory: bytes.
    """
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # RLIMIT_CPU counts whole seconds
    _limit(resource.RLIMIT_AS, _own_size() + memory)


@lru_cache
def _own_size() -> int:
    """Return the bytes of address space in use at the first request; 0 if that is unknown."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit(which: int, value: int) -> None:
    with suppress(ValueError, OSError):  # a system may lack it; the parent watches, too
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (value if hard < 0 else min(value, hard), hard))


def encoded(response: dict[str, str]) -> bytes:
    """Return the response as a line."""
    return json.dumps(response, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def main() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)  # a pipe is not a file
    for line in sys.stdin.buffer:
        request = json.loads(line)
        limit(request["cpu_s"], request["memory"])
        try:
            response = encoded(answer(request))
        except MemoryError:
            response = encoded({"limit": "it takes too much memory"})
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(response)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
