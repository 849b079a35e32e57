"""``blendin score``: how likely given answers are, one JSON object a line in, one a line out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from .json_lines import Line, each_line, meant, messages_of, resume_option
from .options.groups import scoring_options
from .options.override import overridden
from .options.settings import Settings
from .session import Session
from .terminal.interrupts import Interrupt
from .terminal.output import counted, say
from .terminal.quiet import quiet_option

if TYPE_CHECKING:
    from blendin_mlx.scoring.score import Score


@click.command()
@click.argument("file", type=click.File("rb"), metavar="IN.jsonl")
@scoring_options
@click.option(
    "--whole/--part",
    default=True,
    show_default=True,
    help="An answer ends where its text does: its end is scored too.",
)
@resume_option
@quiet_option
def score(
    file: IO[bytes], settings: Settings, whole: bool, resume_from: Path | None, quiet: bool
) -> int:
    """Say how likely the answers of every line of IN.jsonl are ("-" for standard input), in order.

    A line is an object with "prompt" or "messages", "answer" or a list "answers", perhaps an "id",
    and options by their long names: {"prompt": "2 + 2?", "answers": ["4", "5"], "tau": 0.3}. Its
    result has the log-likelihood of each answer in nats, token by token and in all, and which is
    the best: "best" by log-likelihood, "best_by_byte" by bits per byte, which does not favour
    short answers. A bad line gives {"error": …}, and the exit code 1 at the end.

    \b
    Examples:
      blendin score answers.jsonl > scores.jsonl
      echo '{"prompt": "2 + 2?", "answers": ["4", "5"]}' | blendin score - | jq .best
      blendin score answers.jsonl --resume-from scores.jsonl >> scores.jsonl
    """
    session, totals = Session(settings, quiet), _Totals()

    def result(given: Line, interrupt: Interrupt, what: str) -> Line:
        answers = _answers(given)
        messages = messages_of(given)
        session.configure(overridden(settings, given))
        scores = _scores(session, messages, answers, whole)
        totals.add(scores)
        return _as_json(scores)

    code = each_line(file, result, lambda result: "scores" in result, resume_from, quiet)
    if totals.answers:
        say(str(totals), quiet)
    return code


def _answers(given: Line) -> list[str]:
    """Return the answers of a line; take them out of it."""
    one, several = given.pop("answer", None), given.pop("answers", None)
    if (one is None) == (several is None):
        hint = meant(given, "answer", "answers")
        raise ValueError(f'a line needs either "answer" or "answers"{hint}')
    answers = [one] if several is None else several
    if not isinstance(answers, list) or not answers:
        raise ValueError('"answers" must be a list of texts, at least one')
    if not all(isinstance(answer, str) for answer in answers):
        raise ValueError('an answer must be a text: "answer": "…" or "answers": ["…", "…"]')
    return answers


def _scores(
    session: Session, messages: list[dict[str, str]], answers: list[str], whole: bool
) -> list[Score]:
    from blendin_mlx.scoring.score import score as score_answer

    prompt = session.prompt(messages)
    return [
        score_answer(
            session.pair,
            prompt,
            answer,
            method=session.method,
            complete=whole,
            projection=session.settings.projection,
            prompt_cache=session.cache,
        )
        for answer in answers
    ]


def _as_json(scores: list[Score]) -> dict[str, Any]:
    """Return the scores of a line, and which answer is the best, by its place from 0."""
    totals = [one.total for one in scores]
    by_byte = [math.inf if one.bits_per_byte is None else one.bits_per_byte for one in scores]
    return {
        "best": totals.index(max(totals)),
        "best_by_byte": by_byte.index(min(by_byte)),
        "scores": [_score_as_json(one) for one in scores],
    }


def _score_as_json(score: Score) -> dict[str, Any]:
    return {
        "log_likelihood": score.total,
        "bits_per_byte": score.bits_per_byte,
        "is_greedy": score.is_greedy,
        "tokens": len(score.token_ids),
        "bytes": score.num_bytes,
        "interventions": score.interventions,
        "token_ids": list(score.token_ids),
        "log_probs": list(score.log_probs),
    }


@dataclass
class _Totals:
    """Sums over all answers that were scored."""

    answers: int = 0
    tokens: int = 0
    bytes: int = 0
    _log_likelihoods: list[float] = field(default_factory=list)

    def add(self, scores: list[Score]) -> None:
        """Count the answers of a line."""
        self.answers += len(scores)
        self.tokens += sum(len(one.token_ids) for one in scores)
        self.bytes += sum(one.num_bytes for one in scores)
        self._log_likelihoods += [one.total for one in scores]

    def __str__(self) -> str:
        nats = math.fsum(self._log_likelihoods)
        per_byte = f", {-nats / math.log(2) / self.bytes:.3f} bits a byte" if self.bytes else ""
        return (
            f"{counted(self.answers, 'answer')}, log-likelihood {nats:.2f} nats, "
            f"{nats / self.tokens:.3f} a token{per_byte}"
        )
