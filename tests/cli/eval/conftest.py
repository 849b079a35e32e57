"""The harness's model over pairs of tiny networks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blendin_cli.eval.arguments import session_of
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from small_pairs import small_pair

Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """The command tells libraries by variables to be quiet, and to leave the network alone."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def make_lm(tiny: tuple[str, ...]) -> Make:
    """``make_lm(pair, method="nudging", tau=0.3)``: that pair as a model of the harness."""

    def make(pair: Pair | None = None, batch: int = 1, **given: Any) -> Any:
        from blendin_cli.eval.model import BlendinLM

        models = {"base": tiny[1], "aligned": tiny[3]}
        session, _ = session_of({**models, "wired_limit": False, **given}, batch)
        pair = pair or small_pair(2)
        pair.limit_context(given.get("context"))
        session.pair = pair
        session.cache = make_prompt_cache(pair)
        return BlendinLM(session, batch, quiet=True)

    return make


@pytest.fixture
def ask() -> Make:
    """``ask(lm, "loglikelihood", ("a", " b"), …)``: the responses to requests."""

    def responses(lm: Any, kind: str, *requests: tuple[Any, ...]) -> list[Any]:
        from lm_eval.api.instance import Instance

        asked = [Instance(kind, {}, one, n) for n, one in enumerate(requests)]
        found: list[Any] = getattr(lm, kind)(asked)
        return found

    return responses
