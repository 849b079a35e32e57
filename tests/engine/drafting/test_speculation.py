"""Whatever is proposed, the answer is that of the plain loop, and no draft is left behind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, get_args
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.sample_utils import make_logits_processors, make_sampler

from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend.methods import METHODS
from blendin_mlx.decoding.rules import StopPolicy
from blendin_mlx.drafting.drafter import Drafter
from blendin_mlx.drafting.proposers import LookupProposer
from blendin_mlx.generation import PromptCache, stream_generate
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import make_prompt_cache
from blendin_mlx.prompts import PairPrompt, build_prompt
from blendin_mlx.reading.context import Context
from oracle import NEAR_TIE
from scripted import STOP, Answer, always, answer, assert_holds, says, scripted_pair, writes

DRAWN = {"sampler": make_sampler(temp=1.0)}
PENALTY = {"logits_processors": make_logits_processors(repetition_penalty=1.5)}
Propose = Callable[[list[int], int], list[int]]  # from the answer so far and a count


def put_in(patch: pytest.MonkeyPatch, propose: Propose) -> None:
    """Let the lookup propose what it is told to."""
    patch.setattr(LookupProposer, "propose", lambda self, text, n: propose(list(text.ids), n))


@contextmanager
def proposing(propose: Propose) -> Iterator[None]:
    """The same, and all that a context says or forgets is compared with a fresh one."""
    after, rewind = Context.after, Context.rewind

    def says_the_same(self: Context, tokens: Sequence[int], draft: Sequence[int] = ()) -> mx.array:
        logits = after(self, tokens, draft)
        assert len(self.tokens) <= (self.model.context_limit or 10**9)
        if hasattr(self.model.network, "script"):
            assert np.array_equal(np.array(logits[0]), self.model.network._logits(tokens))
        else:
            fresh = np.array(Context(self.model).read(tokens))
            np.testing.assert_allclose(np.array(logits), fresh, atol=5e-3, rtol=2e-3)
        return logits

    def holds_the_same(self: Context, length: int) -> None:
        rewind(self, length)
        (layer, *others) = self._cache
        if not others and self._cached:  # of a scripted model; its keys are the tokens
            assert layer.keys[0, 0, : layer.offset, 0].tolist() == self.tokens[: self._cached]

    with pytest.MonkeyPatch.context() as patch:
        put_in(patch, propose)
        patch.setattr(Context, "after", says_the_same)
        patch.setattr(Context, "rewind", holds_the_same)
        yield


def drafted(pair: Pair, prompt: Any, propose: Propose | None, most: int, **options: Any) -> Answer:
    """An answer with drafts of this proposer, or of the guide."""
    drafter = Drafter("lookup" if propose else "guide", most)
    with proposing(propose or (lambda ids, count: [])):
        return answer(pair, prompt, draft=drafter, **options)


def proposers(pair: Pair, prompt: Any, right: list[int], seed: int = 0) -> dict[str, Propose]:
    """Proposers of every kind for an answer of which the ids are known."""
    rng, size = random.Random(seed), pair.base.vocabulary.size
    odd = [0, *pair.base.stop_ids, size - 1]

    def perfect(ids: list[int], n: int) -> list[int]:
        return right[len(ids) : len(ids) + n]

    def base(ids: list[int], n: int) -> list[int]:
        top = pair.base.network._logits([*prompt.base.ids, *ids]).argmax() if n else None
        return [] if top is None else [int(top), *base([*ids, int(top)], n - 1)]

    return {
        "empty": lambda ids, n: [],
        "random": lambda ids, n: rng.choices(range(size), k=rng.randrange(n + 1)),
        "wrong": lambda ids, n: [(token + 1) % size for token in perfect(ids, n)],
        "odd": lambda ids, n: rng.choices([*perfect(ids, 1), *odd], k=n),
        "perfect": perfect,
        "half": lambda ids, n: [*perfect(ids, n // 2), *rng.choices(odd, k=n)][:n],
        "now and then": lambda ids, n: perfect(ids, n) if rng.random() < 0.4 else [],
        "too long": lambda ids, n: [*perfect(ids, 20), *rng.choices(odd, k=8)],
        "base": base,
    }


KINDS = [*proposers(scripted_pair(says({}), says({})), None, [])]
COMMON = (" ", b"a", ".", "\n\n", " blue", " EN", b"D", STOP, *(b"\xf0", b"\x9f", b"\x8c", b"\x8a"))


def chaos(seed: int, tokens: Sequence[Any]) -> Any:
    """A model that may write anything, surely or not: ends, markers, parts of characters."""

    def row(written: bytes) -> dict[Any, float]:
        rng = random.Random(crc32(written, seed))
        first, second = rng.sample(tokens, 2)
        return {first: rng.choice((0.3, 0.45, 0.9)), second: rng.choice((0.05, 0.25))}

    return row


def taking_back(tokenizers: int = 1) -> Pair:
    """Of its answer a marker and an early end are taken back."""
    base = writes("The", " sea", "\n\n", "# Query:", "\n\n", otherwise={STOP: 0.9})
    table = {"The sea": {b" ": 0.9}, "The sea\n\n": {b"Y": 0.9}, "The sea\n\nY": {b"e": 0.9}}
    return scripted_pair(base, says(table, {STOP: 0.9}), tokenizers=tokenizers)


def sentence(tokenizers: int = 1) -> Pair:
    """Some words, unsure of the second and fourth; the guide knows better about the fourth."""
    base = says(
        {"": {"The": 0.9}, "The": {" sea": 0.3}, "The sea": {" is": 0.9}}
        | {"The sea is": {" wide": 0.3}, "The sea is blue": {".": 0.9}},
        {STOP: 0.9},
    )
    guide = says({"The": {b" ": 0.2}, "The sea is": {" blue": 0.9}}, otherwise={STOP: 0.9})
    return scripted_pair(base, guide, tokenizers=tokenizers)


def assert_same(got: Answer, plain: Answer) -> None:
    """The same answer, to the last record and the last response."""
    assert got.steps == plain.steps
    assert got.finish_reason == plain.finish_reason
    assert [one.text for one in got.responses] == [one.text for one in plain.responses]


def assert_no_draft(cache: PromptCache, prompt: PairPrompt, got: Answer) -> None:
    """Both contexts hold prompt and answer, or less, and say what fresh ones would say."""
    written = [step.id for step in got.steps if not step.is_stop]
    base, aligned = cache.base.model.vocabulary, cache.aligned.model.vocabulary
    same = aligned.token_bytes == base.token_bytes
    read = written if same else aligned.encode(got.pieces_text)
    reads = [*prompt.base.ids, *written], *2 * ([*prompt.aligned.ids, *read],)
    for context, ids in zip(cache.contexts().values(), reads, strict=False):
        if held := len(context.tokens):  # a model that is never asked reads nothing
            assert_holds(context, ids[:held])
    if got.statistics.base.passes:
        unread = len(reads[0]) - len(cache.base.tokens)
        assert unread <= (got.finish_reason != "stop")  # the last token, unless it was a draft


class TestAnyProposer:
    @pytest.mark.parametrize("policy", get_args(StopPolicy))
    @settings(max_examples=30, deadline=None)
    @given(
        st.sampled_from(sorted(METHODS)),
        st.integers(0, 2**20),
        st.sampled_from([*KINDS, "guide", "guide"]),
        st.integers(1, 16),
        st.sampled_from((1, 2, 5, 24)),
        st.sampled_from(({}, {}, DRAWN, PENALTY, DRAWN | PENALTY)),
    )
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_every_step_is_that_of_the_plain_loop(
        self, tokenizers: int, policy: Any, method: str, seed: int, kind: str, most: int,
        max_tokens: int, choosing: dict[str, Any],
    ) -> None:  # fmt: skip
        script = chaos(seed, (*COMMON, "The", " sea", "# Query:", "# Query:", "END"))
        guide, twin = (chaos(seed + n, COMMON) for n in (1, 2))
        pair = scripted_pair(script, guide, reference=twin, tokenizers=tokenizers)
        prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
        options = {"method": method, "stop_policy": policy, "max_tokens": max_tokens, **choosing}
        mx.random.seed(seed)
        plain = answer(pair, prompt, stop=["END"], prompt_cache=cache, **options)
        propose = proposers(pair, prompt, plain.statistics.token_ids, seed).get(kind)
        mx.random.seed(seed)
        got = drafted(pair, prompt, propose, most, stop=["END"], prompt_cache=cache, **options)
        assert_same(got, plain)
        assert_no_draft(cache, prompt, got)
        assert got.statistics.base.rereads == got.statistics.aligned.rereads == 0
        assert got.statistics.base.passes <= plain.statistics.base.passes
        assert got.statistics.aligned == plain.statistics.aligned or kind == "guide"
        assert got.statistics.reference == plain.statistics.reference
        if kind == "empty" and method != "aligned":  # which finds in the cache what it needs
            assert got.statistics.base == plain.statistics.base

    @pytest.mark.parametrize("kind", ["perfect", "base", "half"])
    @pytest.mark.parametrize("who", ["base", "aligned"])
    @pytest.mark.parametrize("room", [1, 2, 4])
    def test_drafts_stay_within_the_context(self, kind: str, who: str, room: int) -> None:
        pair = sentence()
        prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
        propose = proposers(pair, prompt, answer(pair, prompt).statistics.token_ids)[kind]
        limit = len(getattr(prompt, who).ids) + room
        getattr(pair, who).config["max_position_embeddings"] = limit
        got = drafted(pair, prompt, propose, 8, prompt_cache=cache)
        assert_same(got, answer(pair, prompt))
        assert got.finish_reason == "context"
        assert_no_draft(cache, prompt, got)


@pytest.mark.parametrize("made", ["llama of qwen3", "gemma3_text of qwen3"])
def test_on_real_networks_nothing_changes_but_the_last_bits(
    made: str, tiny_pair: Callable[..., Pair]
) -> None:
    architecture, aligned = made.split(" of ")
    pair = tiny_pair("qwen3", aligned, 2.5, architecture=architecture)
    prompt = build_prompt(pair, "Why is the sea blue?")
    plain = answer(pair, prompt, max_tokens=12)
    assert {step.source for step in plain.steps} == {"base", "blend"}
    propose = proposers(pair, prompt, plain.statistics.token_ids)["half"]
    got = drafted(pair, prompt, propose, 8, max_tokens=12)
    for one, other in zip(got.steps, plain.steps, strict=True):
        if one.id != other.id:  # only where two tokens are all but equal; then the rest differs
            assert min(abs(one.gap), abs(one.gate_margin or 1)) < NEAR_TIE
            return
        assert one.prob == pytest.approx(other.prob, abs=1e-4)
        alphas = [step.guidance and step.guidance.alpha for step in (one, other)]
        assert alphas[0] == pytest.approx(alphas[1], abs=1e-4)
    assert got.statistics.base.passes < 6
    assert got.statistics.base.rereads == got.statistics.aligned.rereads == 0


class TestHalfAnAnswer:
    """Whenever an answer is left, the next one over the same cache is as from scratch."""

    @pytest.mark.parametrize("kind", ["perfect", "half", "wrong", "base"])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_interrupts_and_takebacks_leave_no_draft(self, kind: str, tokenizers: int) -> None:
        pair = taking_back(tokenizers)
        prompt = build_prompt(pair, "Hi")
        plain = answer(pair, prompt, stop_policy="guide")
        propose = proposers(pair, prompt, plain.statistics.token_ids)[kind]
        for moment in count():
            cache, ticks = make_prompt_cache(pair, prefill_step_size=64), count()
            options = {"stop_policy": "guide", "most": 8, "prompt_cache": cache}
            late = {"should_stop": lambda n=moment, ticks=ticks: next(ticks) >= n}
            left = drafted(pair, prompt, propose, **options, **late)
            if left.finish_reason == "stop":
                break
            if left.steps:
                assert_no_draft(cache, prompt, left)
            assert_same(drafted(pair, prompt, propose, **options), plain)
            assert_no_draft(cache, prompt, plain)
        assert_same(left, plain)
        assert (left.text, left.steps[3].instead_of) == ("The sea\n\nYe", left.steps[3].base.id)

    @pytest.mark.parametrize("kind", ["perfect", "half", "base"])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_closing_the_stream_leaves_no_draft(self, kind: str, tokenizers: int) -> None:
        pair = sentence(tokenizers)
        prompt = build_prompt(pair, "Hi")
        plain = answer(pair, prompt)
        propose = proposers(pair, prompt, plain.statistics.token_ids)[kind]
        for n in range(1, len(plain.responses)):
            cache = make_prompt_cache(pair)
            drafter = Drafter("lookup", 8)
            with proposing(propose):
                stream = stream_generate(pair, prompt, prompt_cache=cache, draft=drafter)
                seen = [next(stream) for _ in range(n)]
                stream.close()  # type: ignore[attr-defined]
            assert_no_draft(cache, prompt, Answer(seen))
            assert_same(drafted(pair, prompt, propose, 4, prompt_cache=cache), plain)

    @pytest.mark.parametrize("draft", ["lookup", "guide", "auto"])
    @pytest.mark.parametrize("tokenizers", [1, 2])
    def test_a_conversation_with_drafts_is_one_without(self, draft: Any, tokenizers: int) -> None:
        pair = sentence(tokenizers)
        cache, drafter, messages = make_prompt_cache(pair), Drafter(draft, 4), []
        for question in ("Why is the sea blue?", "And the sky?", "Is the sea blue?"):
            messages.append({"role": "user", "content": question})
            prompt = build_prompt(pair, messages)
            got = answer(pair, prompt, prompt_cache=cache, draft=drafter)
            assert_same(got, answer(pair, prompt))
            assert_no_draft(cache, prompt, got)
            messages.append({"role": "assistant", "content": got.text})
        assert drafter.accepted > 0


class TestPasses:
    @pytest.mark.parametrize("most", [1, 2, 3, 5, 16])
    @pytest.mark.parametrize("words", [1, 6, 40])
    def test_perfect_drafts_take_a_pass_for_k_plus_1_tokens(self, most: int, words: int) -> None:
        pair = scripted_pair(writes(*words * [" sea"]), always({STOP: 0.6}))
        prompt, cache = build_prompt(pair, "Hi"), make_prompt_cache(pair)
        right = words * pair.base.vocabulary.encode(" sea")
        propose = proposers(pair, prompt, right)["perfect"]
        got = drafted(pair, prompt, propose, most, prompt_cache=cache).statistics
        assert got.base.passes == math.ceil((words + 1) / (most + 1))
        assert (got.token_ids[:-1], cache.base.tokens) == (right, [*prompt.base.ids, *right])
        assert sum(pair.base.network.calls) == len(cache.base.tokens)

    @pytest.mark.parametrize("method", ["aligned", "nudging", "blendin"])
    @pytest.mark.parametrize("most", [1, 3, 8])
    def test_a_guide_that_drafted_is_not_asked_again(self, method: str, most: int) -> None:
        words = (" sea", " is", " blue") * 4
        pair = scripted_pair(writes(*words, sure=0.3), writes(*words))
        plain = answer(pair, method=method, stop_policy="blend")
        got = answer(pair, method=method, stop_policy="blend", draft=Drafter("guide", most))
        assert_same(got, plain)
        assert got.statistics.aligned.passes == plain.statistics.aligned.passes == len(words) + 1
        passes = 0 if method == "aligned" else math.ceil((len(words) + 1) / (most + 1))
        assert got.statistics.base.passes == passes
