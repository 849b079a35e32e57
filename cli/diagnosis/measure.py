"""Answer prompts with the base alone, the guide alone and the blend, and count the decisions."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from ..options.method import with_method
from ..session import Session
from ..side_by_side import SideBySide
from ..terminal.interrupts import Interrupt
from ..terminal.output import say
from ..whole_answers import whole_answer
from .guides import Candidate
from .report import Alone, Blended, Report, is_stable, summarise

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_stream import Response
    from blendin_mlx.step import Step


def measure(
    guide: Candidate,
    prompts: Sequence[str],
    base: list[Alone],
    until_stable: bool,
    interrupt: Interrupt,
    quiet: bool,
    size: int = 1,
) -> Report | None:
    """Measure a guide; return its report, or None if no prompt was answered.

    Args:
        guide: the guide.
        prompts: the prompts.
        base: the base's own answers so far, which are the same for all guides; missing ones are
            added.
        until_stable: stop once the rate is known to ±2 %.
        interrupt: stops the measurement when Ctrl-C was pressed.
        quiet: show no progress.
        size: how many prompts are answered at once, by one method at a time; speeds are those of
            an answer among so many.
    """
    from blendin_mlx.answer_statistics import describe_method

    _free()  # memory of the previous guide
    session, name = Session(guide.settings, quiet), guide.name
    settings = session.settings
    blended, aligned = list[Blended](), list[Alone]()
    peak = 0
    several = SideBySide(session, size) if size > 1 else None
    for start in range(0, len(prompts), size):
        some = prompts[start : start + size]
        of_base = base[start : start + size]
        session.configure(with_method(settings, "base"))
        of_base = of_base + _alone(session, several, some[len(of_base) :], interrupt)
        session.configure(with_method(settings, "aligned"))
        of_guide = _alone(session, several, some, interrupt)
        session.configure(settings)
        answers = _answers(session, several, some, interrupt)
        if interrupt.pressed:
            break
        base[start : start + size] = of_base
        aligned += of_guide
        blended += [counted(session, answer) for answer in answers]
        peak = max(peak, *(answer[-1].statistics.peak_bytes for answer in answers))
        say(f"{name}: {len(blended)} of {len(prompts)} prompts", quiet)
        if until_stable and is_stable(blended):
            say(f"{name}: the rate is known to ±2 % after {len(blended)} prompts", quiet)
            break
    if not blended:
        return None
    described = describe_method(session.method)
    tau = described["tau"] if described.get("gate") == "confidence" else None
    of_base = base[: len(blended)]
    return summarise(name, blended, of_base, aligned, peak, described["method"], tau)


def _free() -> None:
    """Free unreferenced memory."""
    from blendin_mlx.backend.mlx import mx

    gc.collect()
    mx.clear_cache()


def _alone(
    session: Session, several: SideBySide | None, prompts: Sequence[str], interrupt: Interrupt
) -> list[Alone]:
    answers = _answers(session, several, prompts, interrupt)
    said = [answer[-1].statistics for answer in answers]
    return [Alone(one.finish_reason == "length", one.tokens_per_s) for one in said]


def _answers(
    session: Session,
    several: SideBySide | None,
    prompts: Sequence[str],
    should_stop: Callable[[], bool],
) -> list[list[Response]]:
    """Return the answers to some prompts, one after the other or side by side."""
    asked = [[{"role": "user", "content": prompt}] for prompt in prompts]
    if several is None:
        return [whole_answer(session, messages, should_stop) for messages in asked]
    return several.answers(map(several.prompt, asked), should_stop)


def counted(session: Session, responses: Sequence[Response]) -> Blended:
    """Count the decisions of an answer."""
    steps = [piece.step for response in responses for piece in response.pieces]
    statistics = responses[-1].statistics
    stops = (session.pair.base.vocabulary.stop, session.pair.voter.vocabulary.stop)
    asked = [step.guidance.top.prob for step in steps if step.guidance is not None]
    run = [step.base.prob for step in steps if step.base is not None]
    return Blended(
        asked=tuple(step.is_intervention for step in steps),
        overrides=statistics.overrides or 0,
        base_ends_lost=sum(base_end_lost(step, stops[0]) for step in steps),
        guide_ends_lost=sum(guide_end_lost(step, stops[1]) for step in steps),
        guide_ended=any(guide_ended(step, stops[0]) for step in steps),
        base_confidence=fmean(run) if run else 0.0,
        guide_confidence=fmean(asked) if asked else None,
        exact_mass=statistics.exact_mass,
        hit_limit=statistics.finish_reason == "length",
        tokens_per_s=statistics.tokens_per_s,
    )


def base_end_lost(step: Step, stop: int) -> bool:
    """Return True if the base's choice was to end, and the guide was asked and it went on.

    A turn marker of the base is known only where it was taken back.

    Args:
        step: a step of the answer.
        stop: the base's STOP token.
    """
    wanted = _wants_end(step, stop) or step.instead_of not in (None, stop)
    return wanted and step.is_intervention and not step.is_stop


def guide_end_lost(step: Step, stop: int) -> bool:
    """Return True if the guide's top token was its STOP token ``stop``, and the answer went on."""
    return step.guidance is not None and step.guidance.top.id == stop and not step.is_stop


def guide_ended(step: Step, stop: int) -> bool:
    """Return True if the guide ended the answer: the base's own choice was not STOP."""
    by_guide = step.source == "aligned" or step.is_intervention
    return step.is_stop and by_guide and not _wants_end(step, stop)


def _wants_end(step: Step, stop: int) -> bool:
    return step.base is not None and step.base.id == stop
