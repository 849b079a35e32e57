"""Every fault at every request, once or persistent, ends in complete files or a one-line error."""

from __future__ import annotations

import pytest

from pulling import REQUESTS, WANTED, pull, refused

ALL = range(1, REQUESTS + 1)
FILES = ALL[2:]
KINDS = dict.fromkeys(("500", "429", "reset", "cut", "reset half-way"), ALL)
KINDS["short"] = FILES
STALLS = dict.fromkeys(("stall", "stall half-way"), ALL)
FEW = 24  # three tries, and those that made progress


def each(kinds: dict[str, range]) -> pytest.MarkDecorator:
    """Return every kind of fault at every request."""
    cases = [(kind, at) for kind, places in kinds.items() for at in places]
    return pytest.mark.parametrize(("kind", "at"), cases)


@pytest.fixture
def silent(caplog, capfd):
    """Assert that no other host is asked, and that stderr stays empty."""
    yield
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def once(server, here, kind: str, at: int) -> None:
    server.fault(kind, at=at)
    pull()
    here.assert_complete()
    assert REQUESTS < len(server.requests) < REQUESTS + FEW


def for_ever(server, here, kind: str, at: int) -> None:
    server.fault(kind, at=at, for_ever=True)
    message = refused()
    assert any(message.startswith(f"{repo}: ") for repo in WANTED)
    assert "blendin models pull org/" in message
    assert at < len(server.requests) < at + FEW
    assert here.orphans() == []
    server.heal()
    pull()
    here.assert_complete()


@each(KINDS)
def test_a_single_fault_is_retried(server, here, silent, kind, at):
    once(server, here, kind, at)


@each(STALLS)
def test_a_single_stall_is_retried(server, here, silent, impatient, kind, at):
    once(server, here, kind, at)


@each(KINDS)
def test_a_persistent_fault_is_one_line_and_a_later_pull_succeeds(server, here, silent, kind, at):
    for_ever(server, here, kind, at)


@each(STALLS)
def test_a_persistent_stall_is_one_line_and_a_later_pull_succeeds(
    server, here, silent, impatient, kind, at
):
    for_ever(server, here, kind, at)
