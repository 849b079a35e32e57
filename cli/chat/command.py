"""``blendin chat``: a conversation; both models' caches are kept between turns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import INTERRUPTED, explain
from ..options.extra import refuse_extra
from ..options.groups import blend_options, shard_option
from ..options.settings import Settings
from ..pair_loading import pair_of
from ..session import Session
from ..terminal.answer_view import View, show_options
from ..terminal.output import say
from . import conversation_files
from .completion import make_completer
from .conversation import Conversation
from .slash_commands import SHORT_HELP, Leave, handle

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

LAST = "last"


@click.command(context_settings={"allow_extra_args": True})
@blend_options
@shard_option
@click.option(
    "--resume",
    is_flag=False,
    flag_value=LAST,
    metavar="[FILE]",
    help="Go on with the last conversation, or with one saved by /save.",
)
@show_options
@click.pass_context
def chat(ctx: click.Context, settings: Settings, resume: str | None, view: View) -> int:
    """Talk with a pair of models. Ctrl-C stops an answer; /help lists the commands.

    \b
    Examples:
      blendin chat
      blendin chat --base HuggingFaceTB/SmolLM2-360M --aligned smollm2-135m-instruct
      blendin chat --resume
      echo "How do I boil an egg?" | blendin chat

    Without a terminal, each line of standard input is a message.
    """
    from blendin_models.storage import paths

    refuse_extra(ctx, "messages are typed after the start")
    typed, quiet = sys.stdin.isatty(), view.quiet
    folder = paths.home() / "conversations"
    resumed = None
    if resume is not None:  # what is wrong with it is said before the models are loaded
        resumed = conversation_files.last_file(folder) if resume == LAST else Path(resume)
        conversation_files.read(resumed)
    session = Session(settings, quiet)
    session.keep_beginning()
    names = f"{session.pair.base.name}, guided by {session.pair.guide_name}"
    say(f"{names}.  {SHORT_HELP}", quiet)
    if typed and resumed is None:
        _suggest_questions(settings, quiet)
    talk = Conversation(session, view, folder if typed else None, ends_loops=typed)
    if resumed is not None:
        talk.read(resumed, keep_system=settings.system is not None)
    return _converse(talk, _typed()) if typed else _answer_lines(talk)


def _suggest_questions(settings: Settings, quiet: bool) -> None:
    """Name the questions of the catalogue's pair that are worth trying first."""
    from blendin_models.catalogue import entries

    named = pair_of(settings)
    if named is not None and (questions := entries.find_pair(named).questions):
        say(f"Try:  {'  ·  '.join(questions)}", quiet)


def _converse(talk: Conversation, lines: Iterator[str]) -> int:
    """Handle what is typed; whatever goes wrong with a line, the conversation goes on."""
    from blendin_mlx.chat_template.render import RenderingInterrupt
    from blendin_mlx.errors import BlendinError, PromptError

    for line in lines:
        try:
            handle(talk, line)
        except Leave:
            break
        except RenderingInterrupt:
            say("stopped before the models read the message; it was dropped")
        except click.Abort:  # Ctrl-C at a question
            say("nothing was changed")
        except BrokenPipeError:  # nobody reads the answers any more
            raise
        except (click.ClickException, BlendinError, ValueError, OSError, RuntimeError) as error:
            also = ", or /clear" if isinstance(error, PromptError) else ""
            say(f"{explain(error)[0]}{also}")
    return 0


def _answer_lines(talk: Conversation) -> int:
    """Handle the lines of standard input; Ctrl-C ends it with what was answered so far."""
    from blendin_mlx.errors import BlendinError

    code = 0
    for line in _piped():
        try:
            handle(talk, line)
        except Leave:
            break
        except (click.ClickException, BlendinError, ValueError) as error:
            said, code = explain(error)
            say(said)
        if talk.interrupted:
            return INTERRUPTED
    return code


def _typed() -> Iterator[str]:
    """Messages typed on a terminal; Ctrl-C twice on an empty line quits, as Ctrl-D does."""
    prompt = _prompt_session()
    pressed = False
    while True:
        try:
            line = prompt.prompt("> ")
        except KeyboardInterrupt:
            if pressed and not prompt.default_buffer.text:
                return
            pressed = True
            say("press Ctrl-C again to quit")
        except EOFError:
            return
        else:
            pressed = False
            yield line


def _prompt_session() -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.output import create_output
    from prompt_toolkit.utils import is_dumb_terminal

    from blendin_models.storage import paths

    bindings = KeyBindings()

    @bindings.add("escape", "enter")
    def new_line(event: Any) -> None:
        event.current_buffer.insert_text("\n")

    class KeptWhereItCan(FileHistory):
        """A disk that is full or read-only costs the history, not the conversation."""

        def load_history_strings(self) -> list[str]:
            try:
                return list(super().load_history_strings())
            except OSError:
                return []

        def store_string(self, string: str) -> None:
            with suppress(OSError):
                super().store_string(string)

    with suppress(OSError):
        paths.home().mkdir(parents=True, exist_ok=True)
    return PromptSession(
        history=KeptWhereItCan(str(paths.home() / "history")),
        completer=make_completer(),
        complete_while_typing=False,
        key_bindings=bindings,
        # Where stdout goes into a pipe, the prompt is shown on stderr. A dumb terminal gets a plain
        # prompt, which prompt_toolkit sees to if it chooses the output.
        output=None if is_dumb_terminal() else create_output(always_prefer_tty=True),
    )


def _piped() -> Iterator[str]:
    from blendin_mlx.input_text import decoded

    offset = 0
    for line in sys.stdin.buffer:
        yield decoded(line, "standard input", offset)
        offset += len(line)
