"""A row says what a pass over its tokens alone says, whatever other rows read, join or leave."""

from __future__ import annotations

from functools import cache
from typing import Any

import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blendin_mlx.backend.mlx import mx
from blendin_mlx.batch.ragged_context import RaggedContext, RaggedRow
from blendin_mlx.errors import PromptError
from blendin_mlx.model import LanguageModel
from tiny import network

SIZE = 64
WINDOW = 16
OPTIONS: dict[str, dict[str, Any]] = {"llama": {}, "gemma3_text": {"sliding_window": WINDOW}}
every_architecture = pytest.mark.parametrize("architecture", OPTIONS)
TOLERANCE = 2e-3


@cache
def model(architecture: str, **options: Any) -> LanguageModel:
    made = network(architecture, SIZE, 1, 1.0, **{**OPTIONS.get(architecture, {}), **options})
    return LanguageModel(made, None, name=architecture)


def assert_says(logits: mx.array, row: RaggedRow) -> None:
    alone = row.model.network(mx.array([row.tokens]))[0, -1]
    np.testing.assert_allclose(np.array(logits), alone, atol=TOLERANCE, rtol=TOLERANCE)


TOKENS = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=40)
# join and read a prompt; leave; rewind some and read on, all or some of the rows
ACTIONS = st.one_of(
    st.tuples(st.just("join"), TOKENS, st.booleans()),
    st.tuples(st.just("leave"), st.integers(0, 9), st.none()),
    st.tuples(st.just("read"), st.lists(st.integers(0, 12), min_size=1), st.integers(0, 30)),
)


@every_architecture
@settings(max_examples=15)
@given(actions=st.lists(ACTIONS, min_size=4, max_size=14), seed=st.integers(0, 99))
def test_any_history_gives_the_logits_of_each_row_alone(
    architecture: str, actions: list[Any], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = RaggedContext(model(architecture), prefill_step_size=8, kept_bytes=10**5)
    for kind, first, second in actions:
        if kind == "join" and len(rows.rows) < 6:
            left = [row.tokens for row in rows.rows] + [row.tokens for row in rows.kept._rows]
            begun = left[seed % len(left)][:20] if second and left else []
            row = rows.join()
            row.prefill(row.move_to([*begun, *first]))
        elif kind == "leave" and rows.rows:
            rows.rows[first % len(rows.rows)].leave()
        elif kind == "read" and rows.rows:
            chosen = dict(zip(rng.permutation(len(rows.rows)), first, strict=False))
            wanted = []
            for number, more in chosen.items():
                row = rows.rows[number]
                kept = row.tokens[: max(1, len(row.tokens) - second)]
                wanted.append((row, [*kept, *rng.integers(SIZE, size=more).tolist()]))
            logits = rows.after(wanted)
            assert logits.shape == (len(wanted), SIZE)
            for n, (row, tokens) in enumerate(wanted):
                assert row.tokens == tokens
                assert_says(logits[n], row)


def test_what_another_row_has_read_is_not_read_again() -> None:
    rows = RaggedContext(model("llama"))
    first = rows.join()
    first.prefill(first.move_to(list(range(30))))
    second = rows.join()
    assert second.move_to([*range(20), 60, 61]) == [60, 61]
    assert second.tokens == list(range(20))
    assert_says(second.after([*range(20), 60, 61])[0], second)


def test_what_a_row_has_read_that_left_is_not_read_again() -> None:
    rows = RaggedContext(model("llama"), kept_bytes=10**6)
    for tokens in (range(30), range(40, 60)):
        row = rows.join()
        row.prefill(row.move_to(list(tokens)))
        row.leave()
    one, two = rows.join(), rows.join()
    assert two.move_to([*range(25), 60]) == [60]
    assert one.move_to([*range(40, 50), 61]) == [61]
    assert_says(two.after([*range(25), 60])[0], two)
    assert_says(one.after([*range(40, 50), 61])[0], one)


def test_what_is_kept_has_a_limit_and_may_be_nothing() -> None:
    rows = RaggedContext(model("llama"), kept_bytes=10**6)
    row = rows.join()
    row.prefill(row.move_to(list(range(9))))
    rows.kept.limit = 9 * rows.bytes_per_token - 1
    row.leave()
    row = rows.join()
    assert row.move_to(list(range(9))) == list(range(9))
    row.prefill(list(range(9)))
    rows.kept.limit += 1
    row.leave(keep=False)
    assert rows.kept.nbytes == 0
    row = rows.join()
    row.prefill(row.move_to(list(range(9))))
    row.leave()
    assert rows.kept.nbytes == rows.kept.limit


def test_the_memory_of_rows_is_given_back_when_the_last_one_leaves() -> None:
    rows = RaggedContext(model("llama"))
    one, two = rows.join(), rows.join()
    for row in (one, two):
        row.prefill(row.move_to(list(range(30))))
    one.leave()
    assert sum(array.nbytes for layer in rows._layers for array in layer.arrays) > 0
    two.leave()
    assert sum(array.nbytes for layer in rows._layers for array in layer.arrays) == 0
    assert rows.bytes_per_token > 0


def test_what_a_broken_row_left_behind_is_not_seen_by_the_next_one() -> None:
    """A mask hides numbers, but not what is no number."""
    rows = RaggedContext(model("llama"))
    broken = rows.join(), rows.join()
    for spoilt in broken:
        spoilt.prefill(spoilt.move_to(list(range(30))))
    for layer in rows._layers:
        layer.keys, layer.values = layer.keys * mx.nan, layer.values * mx.nan
    other = rows.join()  # takes the first place, and the next one the second
    for spoilt in broken:
        spoilt.leave(keep=False)
    row = rows.join()
    assert (other.number, row.number) == (0, 1)
    row.prefill(row.move_to([1, 2, 3]))
    other.prefill(other.move_to(list(range(40, 60))))
    one, two = rows.after([(row, [1, 2, 3, 4]), (other, list(range(40, 61)))])
    assert_says(one, row)
    assert_says(two, other)


def test_a_pass_that_broke_off_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = RaggedContext(model("llama"))
    row = rows.join()
    row.prefill(row.move_to([1, 2, 3]))
    with monkeypatch.context() as patch:
        last = rows.model.network.model.layers[-1]
        patch.setattr(type(last), "__call__", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            row.after([1, 2, 3, 4, 5])
    assert row.tokens == [1, 2, 3]
    assert_says(row.after([1, 2, 3, 6])[0], row)


def _interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_nothing_is_dropped_that_a_rewind_beyond_the_window_needs() -> None:
    rows = RaggedContext(model("gemma3_text"))
    row = rows.join()
    row.prefill(row.move_to(list(range(60))))
    assert_says(row.after([*range(20), 63])[0], row)
    assert row.rereads == 0


def test_an_unread_beginning_is_read_in_steps() -> None:
    rows = RaggedContext(model("llama"), prefill_step_size=4)
    seen: list[tuple[int, int]] = []
    row = rows.join()
    row.prefill(row.move_to(list(range(10))), lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_an_id_without_a_row_in_the_embedding_is_refused() -> None:
    row = RaggedContext(model("llama")).join()
    with pytest.raises(PromptError, match=f"llama has no token {SIZE}"):
        row.prefill([1, SIZE])


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma3_text"])
def test_plain_and_windowed_caches_hold_rows(architecture: str) -> None:
    assert RaggedContext(model(architecture)).obstacle() is None


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("mamba2", {}), ("lfm2", {"num_attention_heads": 1}), ("falcon_h1", {})],
)
def test_a_cache_that_keeps_a_state_is_an_obstacle(architecture: str, options: Any) -> None:
    assert RaggedContext(model(architecture, **options)).obstacle() == (
        f"the cache of {architecture} cannot hold several answers"
    )


class Reversed(nn.Module):
    """A network whose rows look at each other."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def make_cache(self) -> Any:
        from mlx_lm.models.cache import make_prompt_cache

        return make_prompt_cache(self.inner)

    def __call__(self, ids: mx.array, cache: Any = None) -> mx.array:
        return self.inner(ids, cache=cache)[::-1]


def test_a_network_that_mixes_rows_up_is_an_obstacle() -> None:
    mixed = LanguageModel(Reversed(model("llama").network), None, name="mixed")
    assert (
        RaggedContext(mixed).obstacle()
        == "the network of mixed cannot read several answers at once"
    )


def test_a_token_takes_its_keys_and_values_in_every_layer() -> None:
    rows = RaggedContext(model("llama"))
    assert rows.obstacle() is None
    assert rows.rows == []
    assert rows.bytes_per_token == 2 * 2 * 32 * 4  # layers, keys and values, width, float32
