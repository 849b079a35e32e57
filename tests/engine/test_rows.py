"""No model is handed an id that its embedding has no row for."""

from __future__ import annotations

import mlx.nn as nn
import pytest
from transformers import PreTrainedTokenizerFast

from blendin_mlx.backend.mlx import mx
from blendin_mlx.errors import PairError, PromptError
from blendin_mlx.generation import stream_generate
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.reading.context import Context
from blendin_mlx.tokens.embeddings import token_rows
from blendin_mlx.trace.verify import verify_trace
from tiny import network, sentencepiece_tokenizer
from tiny_folders import CHATML

SIZE = 300


def tokenizer(*added: str) -> PreTrainedTokenizerFast:
    """A tokenizer with control tokens more than the models below have rows for."""
    made = sentencepiece_tokenizer("prepend")
    made.add_special_tokens({"extra_special_tokens": [f"<{n}>" for n in range(SIZE - len(made))]})
    made.add_special_tokens({"extra_special_tokens": list(added)})
    assert len(made) == SIZE + len(added)
    made.chat_template = CHATML
    return made


def model(size: int, *added: str, seed: int = 1) -> LanguageModel:
    config = {"eos_token_id": [2], "max_position_embeddings": 4096}
    made = network("llama", size, seed, 2.0)
    return LanguageModel(made, tokenizer(*added), config, name="tiny")


def test_the_smallest_embedding_of_tokens_counts():
    made = network("llama", SIZE, 1, 2.0)
    made.model.embed_tokens = nn.Embedding(SIZE - 5, 32)  # fewer than there are logits
    assert token_rows(made) == SIZE - 5
    made.model.embed_tokens = made.model.embed_tokens.to_quantized(group_size=32, bits=4)
    assert token_rows(made) == SIZE - 5
    assert LanguageModel(made, None, {}).rows == SIZE - 5
    assert token_rows(lambda ids: ids) is None


def test_a_vocabulary_is_as_wide_as_the_smallest_embedding():
    short = model(SIZE + 8, "<more>", "<most>")
    short.network.model.embed_tokens = nn.Embedding(SIZE, 32)
    assert (short.logit_size, short.vocabulary.size) == (SIZE + 8, SIZE)


def test_positions_are_not_tokens():
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(SIZE, 8)
            self.wpe = nn.Embedding(64, 8)

    assert token_rows(Network()) == SIZE


@pytest.mark.parametrize("reading", ["encode", "encode_marked"])
def test_the_spelling_of_a_token_without_a_row_is_text(reading):
    known, short = model(SIZE + 2, "<more>", "<most>"), model(SIZE, "<more>", "<most>")
    text = "the <more><most> the<more>"
    assert max(known.vocabulary.encode_marked(text)) == SIZE + 1
    ids = getattr(short.vocabulary, reading)(text)
    assert max(ids) < SIZE
    assert short.vocabulary.bytes_of(ids).decode().strip() == text


def test_a_tokenizer_of_another_model_is_refused():
    size = 280  # fewer rows than there are ordinary tokens
    made = LanguageModel(network("llama", size, 1, 2.0), tokenizer(), {"eos_token_id": 2}, "tiny")
    with pytest.raises(PairError, match="tiny: its tokenizer has tokens up to"):
        made.vocabulary  # noqa: B018


@pytest.mark.parametrize("token", [-1, SIZE, 2**31])
def test_an_id_without_a_row_is_refused(token):
    context = Context(model(SIZE))
    with pytest.raises(PromptError, match=f"tiny has no token {token}"):
        context.read([5, token])
    with pytest.raises(PromptError, match=f"tiny has no token {token}"):
        context.prefill([5, token])


def test_a_base_writes_a_token_that_its_guide_has_no_row_for(monkeypatch):
    """As Gemma 3 4B beside 1B: one tokenizer, and one control token more in the base."""
    base, aligned = model(SIZE + 1, "<more>"), model(SIZE, seed=2)
    head = base.network.lm_head
    head.weight = mx.concatenate([mx.zeros((SIZE, 32)), mx.ones((1, 32))])
    pair = Pair(base, aligned)
    assert pair.projection().identity
    read = []
    inner = Context._forward

    def forward(self, ids):
        read.extend(ids if self.model is aligned else [])
        return inner(self, ids)

    monkeypatch.setattr(Context, "_forward", forward)
    *_, last = stream_generate(pair, "the", method="fixed", max_tokens=4)
    assert SIZE in last.statistics.token_ids
    assert max(read) < SIZE


def test_a_trace_that_names_tokens_without_rows_is_refused():
    pair = Pair(model(SIZE), model(SIZE, seed=2))
    run = {"type": "run", "method": "base", "stop_policy": "base", "tau": None, "projection": None}
    run |= {"base_prompt": {"ids": [5, 10**6]}, "aligned_prompt": {"ids": [5]}}  # type: ignore[dict-item]
    step = {"type": "step", "id": 5, "alpha": None, "stop_check": False}
    with pytest.raises(PromptError, match="tiny has no token 1000000"):
        verify_trace(pair, [run, step])
