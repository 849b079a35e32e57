"""Tokenize for another process: a line of JSON in, a line of JSON out (see :mod:`.encoder`).

The first line is the tokenizer, which is not answered; each further line is a text and how to read
it. The system ends this process if a text takes too long (SIGPROF) or too much memory.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from typing import Any


def main(library: str, longest_cpu_s: float, memory: int) -> None:
    """Answer until standard input ends.

    Args:
        library: folder of the package ``tokenizers``.
        longest_cpu_s: most seconds of processor time for one text.
        memory: most bytes of address space.
    """
    sys.path.insert(0, library)
    from tokenizers import Tokenizer

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    tokenizer = Tokenizer.from_str(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        text, reading = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, longest_cpu_s)
        answer = _answer(tokenizer, text, reading)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(answer)


def _answer(tokenizer: Any, text: str, reading: str) -> dict[str, Any]:
    """Return the ids, or the error message."""
    tokenizer.encode_special_tokens = reading == "plain"
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=reading == "whole").ids
    except BaseException as error:  # a panic of the library is not an Exception
        return {"error": str(error) or type(error).__name__}
    return {"ids": ids}


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
