"""A prompt cache in a file gives the same answer as reading the prompt again, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blendin_mlx.backend.mlx import mx
from blendin_mlx.errors import PromptCacheError
from blendin_mlx.generation import PromptCache, read_beginning
from blendin_mlx.model import Pair
from blendin_mlx.prompt_cache import load_prompt_cache, make_prompt_cache, save_prompt_cache
from blendin_mlx.prompts import build_prompt
from counting import count_reads
from scripted import answer, scripted_tokenizer
from tiny import tiny_model

DOCUMENT = "The cat sat on the mat, and the dog ran to the hat. " * 12
QUESTIONS = ("Where is the cat?", "Who ran?")
ARCHITECTURES = ("llama", "qwen3", "gemma3_text", "mamba2", "lfm2", "falcon_h1")


def made_pair(architecture: str, seed: int = 1, **options: object) -> Pair:
    tokenizer = scripted_tokenizer()
    return Pair(
        tiny_model(tokenizer, architecture, seed=seed, sharpness=3.0, name="one", **options),
        tiny_model(tokenizer, architecture, seed=seed + 1, sharpness=3.0, name="two", **options),
    )


def prompts(pair: Pair):
    return [
        build_prompt(pair, [{"role": "user", "content": DOCUMENT + question}])
        for question in QUESTIONS
    ]


def kept(pair: Pair, path: Path, **options: int) -> PromptCache:
    cache = make_prompt_cache(pair, **options)
    read_beginning(cache, prompts(pair))
    save_prompt_cache(path, cache)
    return cache


@pytest.fixture
def pair() -> Pair:
    return made_pair("llama")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_answer_from_a_file_is_that_of_a_fresh_prompt_and_reads_the_rest_alone(
    tmp_path, architecture
):
    file = tmp_path / "kept.safetensors"
    pair = made_pair(architecture)
    beginning = len(kept(pair, file).base.tokens)
    assert beginning > 100
    for prompt in prompts(pair):
        assert_goes_on(pair, prompt, file, beginning)


def assert_goes_on(pair: Pair, prompt, file: Path, beginning: int) -> None:
    """From the file comes the answer of a fresh prompt, for so many tokens read fewer."""
    caches = make_prompt_cache(pair), load_prompt_cache(file, pair)
    reads = [count_reads(cache.base) for cache in caches]
    fresh, got = (
        answer(pair, prompt, max_tokens=12, method="fixed", prompt_cache=cache) for cache in caches
    )
    assert [step.id for step in got.steps] == [step.id for step in fresh.steps]
    assert sum(reads[1]) == sum(reads[0]) - beginning
    assert caches[1].base.rereads == 0


def test_a_window_that_is_full_goes_on_from_where_the_prompts_differ(tmp_path):
    file = tmp_path / "kept.safetensors"
    pair = made_pair("gemma3_text", sliding_window=16)
    beginning = len(kept(pair, file).base.tokens)
    assert not load_prompt_cache(file, pair).base.can_trim()
    assert_goes_on(pair, prompts(pair)[1], file, beginning)


def test_quantized_caches_are_kept_as_they_are(pair, tmp_path):
    file = tmp_path / "kept.safetensors"
    before = kept(pair, file, kv_bits=8)
    after = load_prompt_cache(file, pair, kv_bits=8)
    assert after.base.tokens == before.base.tokens
    question = prompts(pair)[0].base.ids
    rest = before.base.move_to(question)
    assert mx.array_equal(before.base.read(rest), after.base.read(after.base.move_to(question)))
    with pytest.raises(PromptCacheError, match="kv-bits"):
        load_prompt_cache(file, pair)


def test_a_quantized_layer_beside_one_that_cannot_be_rewound_is_read_back(tmp_path):
    file = tmp_path / "kept.safetensors"
    hybrid = made_pair("lfm2", num_attention_heads=1)
    before = kept(hybrid, file, kv_bits=8)
    after = load_prompt_cache(file, hybrid, kv_bits=8)
    assert mx.array_equal(before.base.read([7]), after.base.read([7]))


def test_another_model_is_refused_by_role(pair, tmp_path):
    file = tmp_path / "kept.safetensors"
    kept(pair, file)
    other = made_pair("llama", seed=7)
    with pytest.raises(PromptCacheError, match="the base model: it was made with another model"):
        load_prompt_cache(file, Pair(other.base, pair.aligned))
    with pytest.raises(PromptCacheError, match="the aligned model: it was made with another model"):
        load_prompt_cache(file, Pair(pair.base, other.aligned))


def rewritten(file: Path, change) -> None:
    """The file with its arrays and metadata changed, its header as it should be."""
    arrays, metadata = mx.load(str(file), return_metadata=True)
    change(arrays, metadata)
    mx.eval(arrays)
    mx.save_safetensors(str(file), arrays, metadata)


def tampered_token(arrays, metadata):
    tokens = arrays["base.tokens"].tolist()
    arrays["base.tokens"] = mx.array([*tokens[:-1], tokens[-1] + 1], dtype=mx.int32)


def tampered_state(arrays, metadata):
    name = next(name for name, array in arrays.items() if array.ndim == 4)
    arrays[name] = arrays[name] + 1


def tampered_counts(arrays, metadata):
    described = json.loads(metadata["base"])
    described["counts"] = {**described["counts"], "0.2": 3}
    metadata["base"] = json.dumps(described)


@pytest.mark.parametrize("change", [tampered_token, tampered_state, tampered_counts])
def test_what_was_changed_is_refused(pair, tmp_path, change):
    file = tmp_path / "kept.safetensors"
    kept(pair, file)
    rewritten(file, lambda arrays, metadata: None)
    load_prompt_cache(file, pair)  # written again as it was
    rewritten(file, change)
    with pytest.raises(PromptCacheError, match="changed or damaged"):
        load_prompt_cache(file, pair)


@pytest.mark.parametrize("kv_bits", [None, 8])
def test_a_cache_shorter_than_its_tokens_is_refused_whatever_its_digest(pair, tmp_path, kv_bits):
    from blendin_mlx.prompt_cache import _digest

    file = tmp_path / "kept.safetensors"
    kept(pair, file, kv_bits=kv_bits)

    def cut(arrays, metadata):
        for name, array in arrays.items():
            if name.startswith("base.0") and array.ndim == 4:
                arrays[name] = array[:, :, :5]
        del metadata["digest"]
        metadata["digest"] = _digest(arrays, metadata)

    rewritten(file, cut)
    with pytest.raises(PromptCacheError, match=r"cannot be used for the base model: .* tokens"):
        load_prompt_cache(file, pair, kv_bits=kv_bits)


def test_another_version_says_so(pair, tmp_path):
    file = tmp_path / "kept.safetensors"
    kept(pair, file)
    rewritten(file, lambda arrays, metadata: metadata.update(version="2"))
    with pytest.raises(PromptCacheError, match="version 2, this is 1"):
        load_prompt_cache(file, pair)


@pytest.mark.parametrize("length", [0, 4, 8, 300, -1])
def test_a_file_that_was_cut_or_is_none_is_refused(pair, tmp_path, length):
    file = tmp_path / "kept.safetensors"
    kept(pair, file)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(PromptCacheError, match=r"kept\.safetensors is not a prompt cache"):
        load_prompt_cache(file, pair)


def test_weights_are_no_prompt_cache(pair, tmp_path):
    file = tmp_path / "model.safetensors"
    mx.save_safetensors(str(file), {"lm_head.weight": mx.zeros((2, 2))})
    with pytest.raises(PromptCacheError, match="not a prompt cache"):
        load_prompt_cache(file, pair)


def test_a_class_named_in_a_file_is_not_looked_up(pair, tmp_path):
    """Counts are compared with those of the model's own cache; a name is none of them."""
    from blendin_mlx.prompt_cache import _digest, _read

    file = tmp_path / "kept.safetensors"
    kept(pair, file)
    arrays, metadata = _read(file)
    del metadata["digest"]
    described = json.loads(metadata["base"])
    described["counts"] = dict.fromkeys(described["counts"], "ArraysCache")
    metadata["base"] = json.dumps(described)
    metadata["digest"] = _digest(arrays, metadata)
    mx.save_safetensors(str(file), arrays, metadata)
    with pytest.raises(PromptCacheError, match="'ArraysCache'"):
        load_prompt_cache(file, pair)


def test_nothing_is_left_where_writing_fails(pair, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mx, "save_safetensors", full)
    with pytest.raises(OSError, match="No space"):
        kept(pair, tmp_path / "kept.safetensors")
    assert not list(tmp_path.iterdir())
