"""Build the tokenizer that a GGUF file describes, with the `tokenizers` library."""

from __future__ import annotations

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers.models import BPE

from ..errors import ModelError
from .file import GgufFile
from .vocabulary import (
    BYTE,
    CONTROL,
    SPACE_PIECE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    numbers,
    texts,
)

# SentencePiece's score of user-defined pieces; GGUF files store -1000 instead.
_USER_DEFINED_SCORE = 0.0


def _word_pattern(digits: str) -> str:
    """Return the word pattern of GPT-4 and its followers, which differ in how they group digits."""
    contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    letters, symbols = r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"
    spaces = r"\s*[\r\n]+|\s+(?!\S)|\s+"
    return f"{contractions}|{letters}|{digits}|{symbols}|{spaces}"


# tokenizer.ggml.pre → the step before the byte-level one; None: GPT-2's own word pattern.
_SPLITS: dict[str, pre_tokenizers.PreTokenizer | None] = {
    "default": None,
    "gpt-2": None,
    "smollm": pre_tokenizers.Digits(individual_digits=True),
    "llama-bpe": pre_tokenizers.Split(Regex(_word_pattern(r"\p{N}{1,3}")), "isolated"),
    "qwen2": pre_tokenizers.Split(Regex(_word_pattern(r"\p{N}")), "isolated"),
}
# These split words themselves, so the byte-level step must not.
_OWN_WORDS = ("llama-bpe", "qwen2")


def build_tokenizer(file: GgufFile, vocabulary: Vocabulary) -> Tokenizer:
    """Build the tokenizer that encodes and decodes as `file` says.

    Raises:
        ModelError: merges or scores are missing or do not fit the vocabulary.
    """
    build = _sentencepiece if vocabulary.model == "llama" else _byte_level
    try:
        tokenizer = build(file, vocabulary)
        _add_tokens(tokenizer, vocabulary)
        _add_template(tokenizer, vocabulary)
    except ModelError:
        raise
    except Exception as error:  # the library raises bare exceptions
        reason = " ".join(str(error).split())
        raise ModelError(f"{file.path}: damaged GGUF tokenizer ({reason})") from error
    return tokenizer


def _sentencepiece(file: GgufFile, vocabulary: Vocabulary) -> Tokenizer:
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    unknown = vocabulary.special("unknown")
    model = BPE(
        vocab=ids,
        merges=_merges_from_scores(file, vocabulary, ids),
        unk_token=unknown,
        fuse_unk=True,
        byte_fallback=BYTE in vocabulary.types,
    )
    tokenizer = Tokenizer(model)
    prefix = vocabulary.flag("add_space_prefix", True)
    visible = normalizers.Replace(" ", SPACE_PIECE)
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend(SPACE_PIECE), visible]) if prefix else visible
    )
    steps = [decoders.Replace(SPACE_PIECE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    return tokenizer


def _merges_from_scores(
    file: GgufFile, vocabulary: Vocabulary, ids: dict[str, int]
) -> list[tuple[str, str]]:
    """Return all BPE merges, ordered by SentencePiece's preference.

    SentencePiece merges the pair whose result has the best score. Among equal scores (user-defined
    pieces such as runs of spaces) the pair with the longer left part goes first, then the one with
    the longer right part, as in Hugging Face's conversions, so that the longest runs are found.
    """
    if "tokenizer.ggml.scores" not in file.fields:
        raise ModelError(f"{file.path}: incomplete GGUF file: it has no tokenizer.ggml.scores")
    scores = numbers(file, "scores", len(ids), 0.0)
    merges: list[tuple[float, int, int, str, str]] = []
    for token, index in ids.items():
        kind = vocabulary.types[index]
        score = _USER_DEFINED_SCORE if kind in (CONTROL, USER_DEFINED) else scores[index]
        pairs = [
            (ids[token[:cut]], ids[token[cut:]], cut)
            for cut in range(1, len(token))
            if token[:cut] in ids and token[cut:] in ids
        ]
        for _, _, cut in sorted(pairs):
            merges.append((-score, -cut, cut - len(token), token[:cut], token[cut:]))
    merges.sort(key=lambda merge: merge[:3])
    return [(left, right) for *_, left, right in merges]


def _byte_level(file: GgufFile, vocabulary: Vocabulary) -> Tokenizer:
    # Unused tokens only pad the vocabulary to the size of the embedding.
    ids = {
        token: index
        for index, token in enumerate(vocabulary.tokens)
        if vocabulary.types[index] != UNUSED
    }
    merges = []
    for merge in texts(file, "merges"):
        left, _, right = merge.partition(" ")
        merges.append((left, right))
    # Llama 3 encodes a word that is a token as that token, even where the merges differ.
    tokenizer = Tokenizer(BPE(ids, merges, ignore_merges=vocabulary.pre == "llama-bpe"))
    if vocabulary.pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    split = _SPLITS[vocabulary.pre]
    own_words = vocabulary.pre in _OWN_WORDS
    level = pre_tokenizers.ByteLevel(
        add_prefix_space=vocabulary.flag("add_space_prefix", False), use_regex=not own_words
    )
    tokenizer.pre_tokenizer = level if split is None else pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _add_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """Add control tokens as special, and user-defined ones as tokens that are never split."""
    pairs = list(zip(vocabulary.tokens, vocabulary.types, strict=True))
    special = [token for token, kind in pairs if kind in (CONTROL, UNKNOWN)]
    whole = [token for token, kind in pairs if kind == USER_DEFINED]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in whole])


def _add_template(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    before = _named(vocabulary, "bos") if vocabulary.adds_bos else {}
    after = _named(vocabulary, "eos") if vocabulary.adds_eos else {}
    if not before | after:
        return
    single = [*(f"{token}:0" for token in before), "$A:0", *(f"{token}:0" for token in after)]
    second = [*(f"{token}:1" for token in before), "$B:1", *(f"{token}:1" for token in after)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=single + second, special_tokens=list((before | after).items())
    )


def _named(vocabulary: Vocabulary, name: str) -> dict[str, int]:
    index = vocabulary.special_id(name)
    return {} if index is None else {vocabulary.tokens[index]: index}
