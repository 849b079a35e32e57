"""Chat commands that inspect the last answer or change the blend: /why, /alt, /dial, …"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from ..options.method import SPELLED, with_method
from ..options.settings import METHODS
from ..terminal.answer_view import SHOW
from ..terminal.blend_view import visible
from ..terminal.layout import WIDEST, columns, fitted
from ..terminal.output import say
from ..terminal.thinking_view import THINK

if TYPE_CHECKING:
    from blendin_mlx.inspection import Position
    from blendin_mlx.model import LanguageModel
    from blendin_mlx.step import Candidate, Step

    from .conversation import Conversation

NARROW = 55  # columns below which tables stand below each other


def why(chat: Conversation, argument: str) -> None:
    """show the candidates at token N of the answer, or where TEXT begins; alone: list tokens"""
    if not argument:
        _list_tokens(chat)
        return
    index = _token_index(chat, argument)
    position = chat.look_at(index)
    piece = chat.steps[index]
    assert chat.last is not None
    decided = _decided(piece.step, position, chat.last.method.asks)
    say(f"token {index}: {visible(piece.text)}, {decided}")
    table = {
        "base": [_shown(chat, one, "base") for one in position.base],
        "guide": [_shown(chat, one, "aligned") for one in position.aligned],
        "blend": [_shown(chat, one, "base") for one in position.blended],
    }
    pair = chat.session.pair
    for guide, weight, votes in zip(pair.guides, pair.weights, position.votes, strict=False):
        table[f"{weight:.2g} {guide.name}"] = [_shown_of(guide, one) for one in votes]
    for line in _table(table, min(columns(), WIDEST)):
        say(line)


def _table(table: dict[str, list[str]], width: int) -> list[str]:
    """Return the lines of columns side by side, or below each other in a narrow terminal."""
    ranks = range(max(map(len, table.values())))
    if width < NARROW:
        return [
            line
            for name, cells in table.items()
            for line in (name, *(f"{rank + 1}  {cell}" for rank, cell in enumerate(cells)))
        ]
    cells = (width - 3) // len(table)
    rows = [["", *table]]
    rows += [[f"{n + 1}", *(c[n] if n < len(c) else "" for c in table.values())] for n in ranks]
    return [
        (f"{rank:<3}" + "".join(fitted(cell, cells) for cell in row)).rstrip()
        for rank, *row in rows
    ]


def alt(chat: Conversation, argument: str) -> None:
    """take candidate K of the blend at token N, and go on from there"""
    numbers = argument.split()
    if len(numbers) != 2 or not all(map(_is_index, numbers)):
        raise click.UsageError("say which token and which candidate: /alt 3 2")
    index = _token_index(chat, numbers[0])
    blended = chat.look_at(index).blended
    rank = int(numbers[1])
    if not 1 <= rank <= len(blended):
        raise click.UsageError(f"a candidate is a number from 1 to {len(blended)}")
    ids = [piece.step.id for piece in chat.steps[:index]]
    chosen = blended[rank - 1].id
    vocabulary = chat.session.pair.base.vocabulary
    if chosen == vocabulary.stop:
        raise click.UsageError("that candidate ends the answer; take another")
    if not _is_text(vocabulary.bytes_of([*ids, chosen])):
        raise click.UsageError("that candidate is part of a character; take another")
    chat.answer_again([*ids, chosen])


def _is_text(written: bytes) -> bool:
    try:
        written.decode()
    except UnicodeDecodeError:
        return False
    return True


def dial(chat: Conversation, argument: str) -> None:
    """weigh the guide less from now on: 0 is the base alone, 1 as the method says"""
    if not argument:
        say(f"the dial is at {chat.session.settings.dial:g}; it goes from 0 to 1")
        return
    try:
        value = float(argument)
    except ValueError:
        raise click.UsageError("a dial goes from 0 to 1: /dial 0.5") from None
    try:
        chat.session.configure(replace(chat.session.settings, dial=value))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    say(f"the dial is at {value:g}", chat.view.quiet)


def method(chat: Conversation, argument: str) -> None:
    """change the method from now on"""
    if not argument:
        say(f"the method is {chat.session.settings.method}, one of {', '.join(METHODS)}")
        return
    if argument not in METHODS:
        raise click.UsageError(f"a method is one of {', '.join(METHODS)}")
    before = chat.session.settings
    chat.session.configure(with_method(before, argument))
    now = chat.session.settings
    lost = [name[2:] for n, name in SPELLED.items() if getattr(before, n) != getattr(now, n)]
    without = f", without {' and '.join(lost)}, set for {before.method}" if lost else ""
    say(f"the method is {argument}{without}", chat.view.quiet and not lost)


def show(chat: Conversation, argument: str) -> None:
    """show the text alone, or the blend"""
    if argument and argument not in SHOW:
        raise click.UsageError(f"/show takes one of {', '.join(SHOW)}")
    if argument:
        chat.view = replace(chat.view, show=argument)
    say(f"answers are shown as {chat.view.show}", chat.view.quiet and bool(argument))


def think(chat: Conversation, argument: str) -> None:
    """show thinking like the rest of the text, dim it, or hide it"""
    if argument and argument not in THINK:
        raise click.UsageError(f"/think takes one of {', '.join(THINK)}")
    if argument:
        chat.view = replace(chat.view, think=argument)
    now = {"show": "shown", "dim": "dimmed", "hide": "hidden"}[chat.view.think]
    say(f"thinking is {now}", chat.view.quiet and bool(argument))


def _list_tokens(chat: Conversation) -> None:
    parts = (f"{n}:{visible(piece.text)}" for n, piece in enumerate(chat.steps))
    say("  ".join(parts))


def _is_index(written: str) -> bool:
    """Return whether a word can be the number of a token or a candidate."""
    return written.isdecimal() and len(written) < 10


def _token_index(chat: Conversation, argument: str) -> int:
    """Return the index of the token with that number, or of the one where that text begins."""
    if _is_index(argument) and int(argument) < len(chat.steps):
        return int(argument)
    start = "".join(piece.text for piece in chat.steps).find(argument)
    end = 0
    for index, piece in enumerate(chat.steps):
        end += len(piece.text)
        if 0 <= start < end:
            return index
    last = len(chat.steps) - 1
    raise click.UsageError(
        f"{argument!r} is not a token of the last answer; they go from 0 to {last}"
    )


def _decided(step: Step, position: Position, asks: bool) -> str:
    """Describe who decided; if the guide was not asked, its weight if it had been."""
    if step.guidance is not None:
        if step.base is None:
            return "the guide wrote alone: the base was not run"
        choice = "kept" if step.id == step.base.id else "overrode"
        return f"α {step.guidance.alpha:.2f}: the {step.source} {choice} the base's choice"
    if step.source == "aligned":
        return f"the guide found the answer over, P(end) {step.stop_prob:.2f}"
    if not asks:
        return "the base decides alone"
    if position.alpha is None:
        return "the base decided; the guide could not be asked"
    return f"the base was sure and decided; the guide would have had α {position.alpha:.2f}"


def _shown(chat: Conversation, candidate: Candidate, role: str) -> str:
    pair = chat.session.pair
    return _shown_of(pair.base if role == "base" else pair.voter, candidate)


def _shown_of(model: LanguageModel, candidate: Candidate) -> str:
    vocabulary = model.vocabulary
    if candidate.id == vocabulary.stop:
        return f"{candidate.prob:.3f} (end)"
    written = vocabulary.bytes_of([candidate.id]).decode(errors="replace")
    return f"{candidate.prob:.3f} {visible(written)}"
