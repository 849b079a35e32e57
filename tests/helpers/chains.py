"""Folders of models that write what they are told to: each token makes the next one certain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from blendin_mlx.backend.mlx import mx
from blendin_mlx.tokens.vocabulary import _BYTE_OF
from tiny import SHAPES, network
from tiny_folders import SPECIAL, write_tokenizer_settings

END = b"<|end|>"
WIDTH = 384  # a direction for each token
UNSURE = 0.2  # of a logit that makes certain
WORDS = [b" one", b" two", b" three", b" four", b" five", b" six", b" seven", b" eight"]
_CHAR_OF = {byte: char for char, byte in _BYTE_OF.items()}


def write_chain(
    folder: Path,
    tokens: Sequence[bytes],
    *,
    chat_template: bool = True,
    end: bytes = END,
    unsure_after: Sequence[bytes] = (),
    spoilt: Mapping[bytes, float] | None = None,
    padding: int = 0,
    **config: object,
) -> Path:
    """Write a llama that answers anything with these tokens, then ``end``.

    Args:
        tokens: what it writes, each of them once; any bytes, also half a character.
        end: the token after the last one: one of ``tokens`` to go round for ever.
        unsure_after: tokens after which the next one is hardly likelier than all others.
        spoilt: what the embeddings of some tokens are filled with, as ``{b" two": math.nan}``.
        padding: logits beyond the tokenizer's last token, each higher than all others.
        config: entries of config.json besides the usual ones.
    """
    from mlx.utils import tree_flatten, tree_map

    folder.mkdir(parents=True)
    ids = _write_tokenizer(folder, tokens, chat_template)
    size = len(ids) + padding
    model = network("llama", size, 0, 1.0, hidden_size=WIDTH, num_hidden_layers=1)
    zeros = tree_map(lambda weight: mx.zeros_like(weight) + (weight.ndim == 1), model.parameters())
    model.update(zeros)  # what is left of a pass: the last token's embedding, normalised
    embeddings = mx.eye(size, WIDTH)
    for damaged, value in (spoilt or {}).items():
        embeddings[ids[damaged]] = value
    following = dict.fromkeys(range(size), ids[tokens[0]])
    chain = [*tokens, end]
    following.update((ids[a], ids[b]) for a, b in zip(tokens, chain[1:], strict=True))
    output = mx.zeros((size, WIDTH))
    for token, after in following.items():
        output[after, token] = 1.0
        output[len(ids) :, token] = 2.0
    for left in unsure_after:
        output[:, ids[left]] *= UNSURE
    model.model.embed_tokens.weight = embeddings
    model.lm_head.weight = output
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    shape = {**SHAPES["llama"], "hidden_size": WIDTH, "num_hidden_layers": 1, "vocab_size": size}
    made = {**shape, "eos_token_id": ids[END], **config}
    (folder / "config.json").write_text(json.dumps(made))
    return folder


def _write_tokenizer(
    folder: Path, tokens: Sequence[bytes], chat_template: bool
) -> dict[bytes, int]:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    single = [bytes([byte]) for byte in range(256)]
    written = [*single, *(token for token in tokens if len(token) > 1)]
    spelled = ["".join(_CHAR_OF[byte] for byte in token) for token in written]
    vocabulary = {token: n for n, token in enumerate([*SPECIAL, *spelled])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_tokenizer_settings(folder, chat_template)
    return {token: n for n, token in enumerate([*(s.encode() for s in SPECIAL), *written])}
