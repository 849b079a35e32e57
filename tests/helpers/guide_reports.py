"""Reports of guides that were never measured, for tests of what is made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blendin_cli.diagnosis.report import Alone, Blended, Report
from blendin_cli.diagnosis.report import summarise as summarised

ONE = Blended((True, False, False, False), 1, 0, 0, False, 0.5, 0.6, 0.9, False, 4.0)
PROMPTS = 12  # enough to tell


def summarise(name: str, answers: list[Blended], **options: Any) -> Report:
    """The report of these answers; both models alone end by themselves."""
    alone = [Alone(False, 5.0)]
    return summarised(name, answers, alone, alone, **options)


def asked(often: int, tokens: int = 10, **changes: Any) -> Blended:
    """An answer in which the guide was asked so often."""
    return replace(ONE, asked=(True,) * often + (False,) * (tokens - often), **changes)


def guide(name: str, *answers: Blended) -> Report:
    """A report of enough prompts, answered so in turns."""
    return summarise(name, list(answers) * (PROMPTS // len(answers)))
