"""Loops of an answer: the same text again and again, as no list and no code writes it."""

from __future__ import annotations

LONGEST = 400  # characters of what is repeated
TIMES = 5  # repetitions from which on it is a loop
FEWEST = 200  # characters that all repetitions together have at least


def is_looping(text: str) -> bool:
    """Return True if a text ends in a loop.

    That is the same text, to the letter, :data:`TIMES` times or more with nothing in between, over
    :data:`FEWEST` characters or more; the last time may be cut anywhere. Rules of dashes, rows of
    zeros and padding do not count: what is repeated has two different letters at least.

    Example:
        >>> is_looping("Boil it. " + "Then boil it again. " * 12)
        True
        >>> is_looping("".join(f"{n}. Boil it again.\\n" for n in range(99)))
        False
    """
    for period in range(1, min(LONGEST, len(text) // TIMES) + 1):
        if text[-1 - period] != text[-1]:
            continue  # as for most periods, which are not compared in full
        tail = text[-max(FEWEST, TIMES * period) :]
        if len(tail) >= FEWEST and tail[period:] == tail[:-period]:
            return len(set(filter(str.isalpha, tail))) >= 2  # longer periods have the same letters
    return False
