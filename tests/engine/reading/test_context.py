"""A context says what a cache-free pass over the same tokens says, whatever was done before."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pytest

from blendin_mlx.backend.mlx import mx
from blendin_mlx.model import LanguageModel
from blendin_mlx.reading.context import HEAD_ROWS, SNAPSHOTS, Context
from counting import count_reads
from tiny import network

SIZE = 64
WINDOW = 16
OPTIONS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma3_text": {"sliding_window": WINDOW},
    "mamba2": {},
    "lfm2": {"num_attention_heads": 1},
    "falcon_h1": {},
}
every_architecture = pytest.mark.parametrize("architecture", OPTIONS)
REWINDS = ("llama", "qwen3")
TOLERANCE = 2e-3


@cache
def model(architecture: str) -> LanguageModel:
    """A tiny random network; a context needs no tokenizer."""
    made = network(architecture, SIZE, 1, 1.0, **OPTIONS.get(architecture, {}))
    return LanguageModel(made, None, name=architecture)


def exact(architecture: str, tokens: list[int], rows: int = 1) -> Any:
    """Logits of the last rows, without any cache."""
    return np.array(model(architecture).network(mx.array([tokens]))[0, -rows:])


def draw(rng: random.Random, n: int) -> list[int]:
    return [rng.randrange(SIZE) for _ in range(n)]


def assert_says(context: Context, logits: mx.array, rows: int = 1) -> None:
    expected = exact(context.model.name, context.tokens, rows)
    np.testing.assert_allclose(np.array(logits), expected, atol=TOLERANCE, rtol=TOLERANCE)


@every_architecture
@pytest.mark.parametrize("seed", range(4))
def test_any_history_gives_the_logits_of_a_pass_without_cache(architecture: str, seed: int) -> None:
    rng = random.Random(seed)
    context = Context(model(architecture), prefill_step_size=rng.choice([3, 8, 64]))
    expected: list[int] = []
    for _ in range(45):
        action = rng.choice(["read", "read", "read", "rows", "prefill", "rewind", "move", "again"])
        if action == "rewind":
            length = max(0, len(expected) - rng.choice([0, 1, 2, 3, 9, 40]))
            context.rewind(length)
            expected = expected[:length]
            continue
        if action == "move":
            wanted = [*expected[: rng.randrange(len(expected) + 1)], *draw(rng, rng.randrange(5))]
            left = context.move_to(wanted)
            assert context.tokens + left == wanted
            if not wanted:
                expected = []
                continue
            logits, rows, expected = context.read(left), 1, wanted
        elif action == "again" and expected:
            logits, rows = context.read([]), 1
        else:
            more = draw(rng, rng.choice([1, 1, 1, 2, 3, 5, 12, 40]))
            expected = expected + more
            if action == "prefill":
                context.prefill(more[:-1])
                more = more[-1:]
            rows = rng.randrange(1, len(more) + 1) if action == "rows" else 1
            logits = context.read(more, rows)
        assert context.tokens == expected
        assert logits.shape == (rows, SIZE)
        if len(expected) > 250:
            context.rewind(0)
            expected = []
            continue
        assert_says(context, logits, rows)


@every_architecture
def test_short_rewinds_token_by_token_stay_true(architecture: str) -> None:
    """As a guide does whose last tokens are split anew: one or two back, a few forward."""
    rng = random.Random(7)
    context = Context(model(architecture))
    context.prefill(draw(rng, 20))
    for _ in range(40):
        context.rewind(len(context.tokens) - rng.randrange(3))
        assert_says(context, context.read(draw(rng, rng.randrange(1, 4))))


@every_architecture
def test_rereads_count_the_tokens_that_had_to_be_read_twice(architecture: str) -> None:
    rng = random.Random(3)
    context = Context(model(architecture))
    reads, read = count_reads(context), 0
    for _ in range(30):
        length = max(0, len(context.tokens) - rng.randrange(4))
        context.rewind(length)
        more = draw(rng, rng.randrange(1, 5))
        before = sum(reads)
        context.read(more)
        read += len(more)
        assert sum(reads) - before >= len(more)
        assert context.rereads == sum(reads) - read
    if architecture in REWINDS:
        assert context.rereads == 0
    else:
        assert context.rereads > 0


@pytest.mark.parametrize("architecture", REWINDS)
def test_a_plain_cache_is_rewound_without_reading_anything_again(architecture: str) -> None:
    context = Context(model(architecture))
    reads = count_reads(context)
    context.read(list(range(50)))
    context.rewind(10)
    assert_says(context, context.read([5]))
    assert (sum(reads), context.rereads) == (51, 0)


def test_a_sliding_window_that_is_not_full_is_rewound_without_reading_again() -> None:
    context = Context(model("gemma3_text"))
    context.read(list(range(WINDOW - 1)))
    context.rewind(4)
    assert_says(context, context.read([5]))
    assert context.rereads == 0


@pytest.mark.parametrize("read", [1, 4, WINDOW - 1, WINDOW])
@pytest.mark.parametrize("more", [0, 1, 3, WINDOW])
def test_what_a_window_can_forget_is_known_before_it_is_read(read: int, more: int) -> None:
    context = Context(model("gemma3_text"))
    context.read(list(range(read)))
    foretold = context.can_trim(read + more)
    mx.eval(context.read([7] * more, rows=max(1, more)))
    assert foretold == (read + more < WINDOW) == context.can_trim()
    if foretold:
        context.rewind(read)
        assert_says(context, context.read([5]))
        assert context.rereads == 0


@every_architecture
def test_logits_of_forgotten_tokens_are_forgotten(architecture: str) -> None:
    """The next tokens are others; what was said after the first ones is not said again."""
    context = Context(model(architecture))
    context.after([1, 2, 3], draft=[4, 5])
    assert context.knows([1, 2, 3, 4, 5])
    context.rewind(3)
    context.prefill([6, 7])
    assert not context.knows([1, 2, 3, 6])
    assert not context.knows([1, 2, 3, 6, 7])
    assert_says(context, context.after([1, 2, 3, 6, 7]))


@pytest.mark.parametrize("architecture", ["gemma3_text", "mamba2", "lfm2", "falcon_h1"])
def test_rewinding_far_back_reads_again_from_the_start(architecture: str) -> None:
    rng = random.Random(1)
    context = Context(model(architecture))
    for _ in range(SNAPSHOTS + 20):
        context.read(draw(rng, 1))
    context.rewind(5)
    assert context.rereads == 0  # nothing was read yet
    assert_says(context, context.read([9]))
    assert context.rereads == 5


@pytest.mark.parametrize("architecture", ["gemma3_text", "mamba2", "lfm2", "falcon_h1"])
def test_an_early_rewind_then_a_late_one_never_meets_a_stale_snapshot(architecture: str) -> None:
    rng = random.Random(2)
    context = Context(model(architecture))
    for length in (3, 6, 9, 12):
        context.read(draw(rng, 3))
        assert len(context.tokens) == length
    context.rewind(4)
    for _ in range(30):
        context.read(draw(rng, 2))
    context.rewind(len(context.tokens) - 1)
    assert_says(context, context.read(draw(rng, 1)))
    context.rewind(10)
    assert_says(context, context.read(draw(rng, 1)))


@every_architecture
@pytest.mark.parametrize("step", [1, 5, 200])
def test_a_prefill_in_many_steps_equals_one(architecture: str, step: int) -> None:
    tokens = draw(random.Random(4), 90)
    seen: list[tuple[int, int]] = []
    context = Context(model(architecture), prefill_step_size=step)
    context.prefill(tokens[:-1], lambda done, total: seen.append((done, total)))
    assert seen[-1] == (89, 89)
    assert [done for done, _ in seen] == sorted(set(range(step, 89, step)) | {89})
    assert_says(context, context.read(tokens[-1:]))
    assert context.rereads == 0


@every_architecture
def test_a_long_pass_gives_as_many_rows_as_asked(architecture: str) -> None:
    tokens = draw(random.Random(5), HEAD_ROWS * 2 + 3)
    for rows in (1, 2, HEAD_ROWS, HEAD_ROWS + 5):
        context = Context(model(architecture))
        logits = context.read(tokens, rows)
        assert logits.shape == (rows, SIZE)
        assert_says(context, logits, rows)


@every_architecture
def test_reading_nothing_gives_the_last_logits_again(architecture: str) -> None:
    context = Context(model(architecture))
    first = context.read([1, 2, 3, 4])
    passes = context.passes
    assert context.read([]).tolist() == first.tolist()
    assert context.passes == passes  # they were still known
    context.prefill([5])
    assert_says(context, context.read([]))
    context.rewind(3)
    assert_says(context, context.read([]))
    assert context.tokens == [1, 2, 3]


@every_architecture
def test_rows_of_tokens_that_were_read_before_are_read_again(architecture: str) -> None:
    context = Context(model(architecture))
    context.read([1, 2, 3, 4])
    logits = context.read([5], rows=3)
    assert context.tokens == [1, 2, 3, 4, 5]
    assert_says(context, logits, 3)
    assert context.rereads >= 2


def test_more_rows_than_tokens_are_refused() -> None:
    context = Context(model("llama"))
    with pytest.raises(ValueError, match="rows must be at most 0, not 1"):
        context.read([])
    context.read([1, 2])
    with pytest.raises(ValueError, match="rows must be at most 3, not 4"):
        context.read([3], rows=4)
    assert context.tokens == [1, 2]


@every_architecture
@pytest.mark.parametrize("fail_at", [0, 1])
def test_an_interrupt_in_a_pass_never_leaves_layers_out_of_step(
    architecture: str, fail_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some layers may have taken the tokens when Ctrl-C comes."""
    context = Context(model(architecture), prefill_step_size=4)
    context.read([1, 2, 3])
    kind = type(model(architecture).network)
    honest, calls = kind.__call__, []

    def interrupted(self: Any, ids: mx.array, cache: Any = None) -> mx.array:
        calls.append(ids)
        logits: mx.array = honest(self, ids, cache=cache)
        if len(calls) > fail_at:
            raise KeyboardInterrupt
        return logits

    with monkeypatch.context() as patch:
        patch.setattr(kind, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            context.prefill(list(range(10, 20)))
    wanted = [1, 2, 3, 10, 30]
    assert_says(context, context.read(context.move_to(wanted)))
    assert context.tokens == wanted


@every_architecture
def test_a_prefill_that_its_progress_stops_can_be_taken_up_again(architecture: str) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    tokens = draw(random.Random(6), 30)
    context = Context(model(architecture), prefill_step_size=8)
    reads = count_reads(context)
    context.read([1])
    with pytest.raises(KeyboardInterrupt):
        context.prefill(tokens, stop)
    assert_says(context, context.read(context.move_to([1, *tokens, 2])))
    assert context.rereads == 0
    assert sum(reads) == 32


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "lfm2", "gemma3_text", "falcon_h1"])
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_cache_agrees_with_a_fresh_one_after_any_rewind(
    architecture: str, bits: int
) -> None:
    rng = random.Random(bits)
    context = Context(model(architecture), kv_bits=bits)
    context.read(draw(rng, 12))
    for _ in range(12):
        context.rewind(len(context.tokens) - rng.randrange(4))
        logits = context.read(draw(rng, rng.randrange(1, 4)))
    fresh = Context(model(architecture), kv_bits=bits)
    expected = [fresh.read([token]) for token in context.tokens][-1]
    # The first pass attends to keys as they are, later ones to quantized keys.
    np.testing.assert_allclose(np.array(logits), np.array(expected), atol=0.25)
    kinds = [type(layer).__name__ for layer in context._cache]
    assert "KVCache" not in kinds
    if architecture in REWINDS:
        assert set(kinds) == {"QuantizedKVCache"}
        assert context.rereads == 0


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantized_cache_is_smaller_and_close(bits: int) -> None:
    tokens = draw(random.Random(9), 200)
    plain, quantized = (Context(model("llama"), kv_bits=b) for b in (None, bits))
    for context in (plain, quantized):
        context.prefill(tokens)
    assert quantized.nbytes < plain.nbytes / (2 if bits == 8 else 3)
    one, other = (np.array(context.read([1]))[0] for context in (plain, quantized))
    assert np.corrcoef(one, other)[0, 1] > (0.999 if bits == 8 else 0.9)


def test_heads_that_cannot_be_quantized_are_refused_by_the_models_name() -> None:
    narrow = network("lfm2", SIZE, 1, 1.0, num_attention_heads=2)
    context = Context(LanguageModel(narrow, None, name="narrow"), kv_bits=8)
    with pytest.raises(ValueError, match="kv_bits cannot be used with narrow: the width of its"):
        context.read([1, 2])


@pytest.mark.parametrize("bits", [0, 3, 16])
def test_other_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"kv_bits must be 4 or 8, not {bits}"):
        Context(model("llama"), kv_bits=bits)


@every_architecture
def test_snapshots_are_few_and_hold_no_plain_keys(architecture: str) -> None:
    context = Context(model(architecture))
    for _ in range(60):
        context.read([3])
    assert len(context._snapshots) <= (0 if architecture in REWINDS else SNAPSHOTS)
    held = [
        part.nbytes
        for _, states in context._snapshots
        for state in states
        for part in _arrays(state)
    ]
    assert sum(held) <= SNAPSHOTS * context.nbytes
    if architecture == "falcon_h1":  # its keys grow with the text; its state does not
        keys = [leaf for layer in context._cache for leaf in layer.caches[1:]]
        assert sum(held) < SNAPSHOTS * (context.nbytes - sum(leaf.nbytes for leaf in keys)) + 1


def _arrays(state: Any) -> list[mx.array]:
    if isinstance(state, mx.array):
        return [state]
    if isinstance(state, list | tuple):
        return [array for part in state for array in _arrays(part)]
    return []


def test_a_cache_that_forgets_its_front_is_never_trimmed() -> None:
    """Llama 4's chunked cache says that it can be trimmed, but may have dropped what is needed."""
    from mlx_lm.models.cache import ChunkedKVCache

    from blendin_mlx.reading.cache_layers import trims_at

    assert ChunkedKVCache(8).is_trimmable()
    assert not trims_at(ChunkedKVCache(8), 0)


@pytest.mark.parametrize("length", [-1, 4])
def test_a_length_that_was_not_read_is_refused(length: int) -> None:
    context = Context(model("llama"))
    context.read([1, 2, 3])
    with pytest.raises(ValueError, match=f"length must be between 0 and 3, not {length}"):
        context.rewind(length)


def test_empty_and_one_token_prompts_can_be_read() -> None:
    context = Context(model("llama"))
    context.prefill([])
    assert context.tokens == []
    assert_says(context, context.read([7]))
    assert context.move_to([]) == []
    assert_says(context, context.read([8]))
