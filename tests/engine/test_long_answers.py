"""Long answers are the oracle's to the last token: full windows, states, rewound guides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from test_oracle import without_stops

from blendin_mlx.answer_statistics import Statistics
from blendin_mlx.backend.mlx import mx
from blendin_mlx.blend.methods import make_method
from blendin_mlx.generation import Response, stream_generate
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.prompts import PairPrompt, build_prompt
from blendin_mlx.reading.context import Context
from oracle import NEAR_TIE, Oracle, assert_follows
from scripted import scripted_tokenizer
from tiny import load_tokenizer, tiny_model

LENGTH = 260
EVERYWHERE = make_method("blendin", tau=1.0)
SMALL_WINDOW = {"sliding_window": 32}
WINDOW = {"sliding_window": 96}  # full before the middle of an answer
ONE_HEAD = {"num_attention_heads": 1}  # as wide as what is quantized together
QUANTIZED = 5e-3
DEMO_LENGTH = 16
DEMO_COMPARED = 3  # one position in so many: its vocabulary has 262,144 tokens
DAY = "On day {} I walked along the coast and counted {} gulls and {} seals, then went home. "
DIARY = "".join(DAY.format(n, 2 * n, n + 3) for n in range(1, 20)) + "Go on with my diary."
TWO = ["".join(letters) for letters in product("abcdefghi", repeat=2)]
THREE = ["".join(letters) for letters in product("abcdefg", repeat=3)]
WORDS = (*(f" {start}{end}" for start in TWO for end in "abcdefghi"), *THREE, *TWO)
# The same words, joined in another order: what one writes, the other often splits anew.
VOCABULARIES = {"one": (WORDS, False), "two": (WORDS[::-2], True)}


@dataclass(frozen=True)
class Made:
    """How a tiny model is made."""

    architecture: str
    tokenizer: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        size = "".join(f"-{value}" for value in self.options.values())
        return f"{self.architecture}{size}-{self.tokenizer}"


@dataclass(frozen=True)
class Long:
    """A finished answer and what it was made from."""

    pair: Pair
    prompt: PairPrompt
    responses: Sequence[Response]

    @property
    def statistics(self) -> Statistics:
        return self.responses[-1].statistics

    @property
    def pieces(self) -> list[Any]:
        return [piece for response in self.responses for piece in response.pieces]

    @property
    def ids(self) -> list[int]:
        return self.statistics.token_ids

    @property
    def prompts(self) -> tuple[list[int], list[int]]:
        return list(self.prompt.base.ids), list(self.prompt.aligned.ids)


MakePair = Callable[[Made, Made, int], Pair]


@pytest.fixture(scope="module")
def make_pair(published_tokenizer: Callable[[str], Path]) -> MakePair:
    def tokenizer(name: str) -> Any:
        if name in VOCABULARIES:
            words, reverse = VOCABULARIES[name]
            return scripted_tokenizer(words, reverse=reverse)
        return load_tokenizer(published_tokenizer(name))

    def model(made: Made, seed: int, name: str) -> LanguageModel:
        options = {"seed": seed, "sharpness": 2.0, "name": name, **made.options}
        return tiny_model(tokenizer(made.tokenizer), made.architecture, **options)

    return lambda base, guide, seed: Pair(
        model(base, seed, "tiny base"), model(guide, seed + 1, "tiny guide")
    )


def long_answer(pair: Pair, question: str = "Name a colour.", **options: Any) -> Long:
    """An answer with interventions wherever the guide can read; it must not end early or loop."""
    length = options.setdefault("max_tokens", LENGTH)
    prompt = without_stops(build_prompt(pair, question, base_template="plain"))
    responses = list(stream_generate(pair, prompt, method=EVERYWHERE, **options))
    statistics = responses[-1].statistics
    assert statistics.completion_tokens == length
    assert statistics.interventions > 0.75 * length
    assert len(set(statistics.token_ids)) > length / 15
    return Long(pair, prompt, responses)


def compared(long: Long) -> int:
    """How many positions were compared with the oracle's."""
    oracle = Oracle(long.pair, "blendin", tau=EVERYWHERE.tau)  # type: ignore[attr-defined]
    oracle.read_ahead(*long.prompts, long.ids)
    reference = oracle.decode(*long.prompts, len(long.ids))
    return assert_follows([piece.step for piece in long.pieces], reference)


@pytest.mark.parametrize(
    ("base", "guide", "seed"),
    [
        (Made("llama", "one"), Made("gemma3_text", "one", WINDOW), 3),
        (Made("gemma3_text", "one", WINDOW), Made("qwen3", "one"), 1),
        (Made("qwen3", "one"), Made("llama", "one"), 1),
    ],
    ids=str,
)
def test_with_one_tokenizer_every_token_is_the_oracles(
    make_pair: MakePair, base: Made, guide: Made, seed: int
) -> None:
    long = long_answer(make_pair(base, guide, seed))
    assert compared(long) >= 220
    assert long.statistics.base.rereads == long.statistics.aligned.rereads == 0


@pytest.mark.parametrize(
    ("base", "guide", "seed"),
    [
        (Made("mamba2", "one"), Made("gemma3_text", "two", WINDOW), 3),
        (Made("gemma3_text", "one", SMALL_WINDOW), Made("mamba2", "two"), 1),
        (Made("lfm2", "one"), Made("falcon_h1", "two"), 1),
        (Made("falcon_h1", "one"), Made("lfm2", "two"), 1),
    ],
    ids=str,
)
def test_with_two_tokenizers_every_token_is_the_oracles(
    make_pair: MakePair, base: Made, guide: Made, seed: int
) -> None:
    """The guide goes back where its last tokens are split anew; no cache here can be trimmed."""
    long = long_answer(make_pair(base, guide, seed))
    assert compared(long) >= 220
    statistics = long.statistics
    assert (statistics.base.rereads, statistics.aligned.rewinds_by) == (0, "snapshot")
    assert statistics.aligned.rereads > 8


DIRECTIONS = [
    (Made("qwen3", "llama3_1"), Made("gemma3_text", "qwen3", SMALL_WINDOW)),
    (Made("gemma3_text", "gemma3"), Made("qwen3", "qwen3")),
]
# Random networks write all scripts; what they read has to be as varied.
VARIED = "漢字かな 👩\u200d🚀 e\u0301 def f(x): return 12345 नमस्ते\n\n| a | b |"


@pytest.mark.parametrize(("base", "guide"), DIRECTIONS, ids=str)
def test_published_vocabularies_are_followed_to_each_other(
    make_pair: MakePair, base: Made, guide: Made
) -> None:
    long = long_answer(make_pair(base, guide, 1), VARIED, max_tokens=32)
    assert compared(long) >= 26
    assert long.statistics.base.rereads == 0


@pytest.mark.parametrize(
    ("base", "guide"), [(Made("llama", "one"), Made("gemma3_text", "two", SMALL_WINDOW))], ids=str
)
def test_a_drawn_answer_was_drawn_from_the_oracles_distributions(
    make_pair: MakePair, base: Made, guide: Made
) -> None:
    from mlx_lm.sample_utils import make_sampler

    mx.random.seed(3)
    pair = make_pair(base, guide, 1)
    long = long_answer(pair, VARIED, max_tokens=40, sampler=make_sampler(0.8))
    oracle = Oracle(pair, "blendin", tau=EVERYWHERE.tau)  # type: ignore[attr-defined]
    oracle.read_ahead(*long.prompts, long.ids)
    for n, piece in enumerate(long.pieces):
        expected, step = oracle.step(*long.prompts, long.ids[:n]), piece.step
        assert step.base.prob == pytest.approx(expected.confidence, abs=1e-4)
        assert (step.guidance is None) == (expected.alpha is None)
        if expected.alpha is not None:
            assert step.guidance.alpha == pytest.approx(expected.alpha, abs=1e-4)
        assert step.prob == pytest.approx(expected.probs[step.id], abs=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "lfm2", "falcon_h1", "mamba2"])
def test_reading_ahead_changes_nothing_for_the_oracle(
    make_pair: MakePair, architecture: str
) -> None:
    """It rests on no hidden state depending on later tokens, which is tried here."""
    pair = make_pair(Made(architecture, "one"), Made(architecture, "two"), 1)
    long = long_answer(pair, max_tokens=40)
    ahead, anew = Oracle(long.pair, tau=1.0), Oracle(long.pair, tau=1.0)
    ahead.read_ahead(*long.prompts, long.ids)
    for n in range(len(long.ids)):
        one, other = (oracle.step(*long.prompts, long.ids[:n]) for oracle in (ahead, anew))
        assert one.id == other.id
        assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
        assert one.alpha == pytest.approx(other.alpha, abs=1e-5)


@pytest.mark.parametrize(
    ("guide", "seed"), [(Made("llama", "two"), 1), (Made("lfm2", "two", ONE_HEAD), 2)], ids=str
)
def test_quantized_caches_say_what_caches_never_rewound_say(
    make_pair: MakePair, guide: Made, seed: int
) -> None:
    """Rounded keys give other numbers than the oracle's, so that is not asked here.

    The reference is the engine's own quantized cache, but a fresh one for each position looked at:
    it reads the prompt as the engine does and then what was written, and is never rewound. So this
    shows that rewinding and going on token by token leave nothing behind; not that 8 bits suffice.
    """
    pair = make_pair(Made("llama", "one"), guide, seed)
    long = long_answer(pair, max_tokens=200, kv_bits=8)
    steps = [piece.step for piece in long.pieces]
    base_prompt, aligned_prompt = long.prompts
    for n in range(3, 200, 12):
        assert steps[n].base.prob == pytest.approx(
            fresh_confidence(pair.base, base_prompt, long.ids[:n]), abs=QUANTIZED
        )
        if steps[n].guidance is not None:
            written = pair.base.vocabulary.bytes_of(long.ids[:n]).decode(errors="replace")
            followed = pair.aligned.vocabulary.encode(written)
            assert steps[n].guidance.top.prob == pytest.approx(
                fresh_confidence(pair.aligned, aligned_prompt, followed), abs=QUANTIZED
            )
    trims = guide.architecture == "llama"
    assert (long.statistics.aligned.rereads == 0) == trims
    assert long.statistics.aligned.rewinds_by == ("trim" if trims else "snapshot")


def fresh_confidence(model: LanguageModel, prompt: list[int], written: list[int]) -> float:
    """The top probability by a quantized cache that was only ever extended."""
    context = Context(model, kv_bits=8)
    context.prefill(prompt[:-1])
    logits = context.read([prompt[-1], *written])
    return float(model.vocabulary.distribution(logits).max().item())


def test_a_long_answer_of_the_demo_pair_follows_without_any_cache(demo_pair: Pair) -> None:
    """Its window of 512 is full long before the end; every token needs both models.

    No tiny model has a published window, quantized weights and a vocabulary of this size at once.
    """
    long = long_answer(demo_pair, DIARY, max_tokens=DEMO_LENGTH, stop_policy="blend")
    base_prompt, aligned_prompt = long.prompts
    assert len(base_prompt) < 512 < len(base_prompt) + DEMO_LENGTH - 6
    oracle = Oracle(demo_pair, tau=1.0, stop_policy="blend")
    oracle.read_ahead(base_prompt, aligned_prompt, long.ids)
    for n in range(0, DEMO_LENGTH, DEMO_COMPARED):
        step = long.pieces[n].step
        said = oracle.distribution(demo_pair.base, base_prompt + long.ids[:n])
        assert said.max() == pytest.approx(step.base.prob, abs=1e-3)
        assert said.max() - said[step.base.id] < NEAR_TIE
        if n % (DEMO_COMPARED * 4) == 0:
            assert_follows([step], [oracle.step(*long.prompts, long.ids[:n])])
