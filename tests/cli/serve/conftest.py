"""A server with a pair of tiny models, started once for all tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from served_pair import ServedPair, served_pair


@pytest.fixture(scope="session")
def pair_server(tiny: tuple[str, ...]) -> Iterator[ServedPair]:
    """A server that runs."""
    with served_pair(*tiny, "--max-tokens", 40) as server:
        yield server
