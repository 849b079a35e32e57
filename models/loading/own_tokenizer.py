"""Load the tokenizer of a model folder exactly as its ``tokenizer.json`` describes it.

For some combinations of ``tokenizer_class`` and ``model_type`` transformers replaces the file's
rules by its own, which gives other ids ("2023" as four digits instead of groups of three). Here the
file decides; the other settings only name special tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ModelError, first_line
from ..storage.small_files import load_json, read_regular

# The parts of a tokenizer that decide about ids, besides vocabulary and merges.
RULES = ("normalizer", "pre_tokenizer", "decoder")
_NO_VOCABULARY = {"type": "BPE", "vocab": {}, "merges": []}
_GAP = re.compile(r"[\s:,]*")  # between the members of a JSON object
# Files that transformers adds to the tokens of tokenizer.json, and the setting in place of them.
_ADDED_FILES, _ADDED = ("special_tokens_map.json", "added_tokens.json"), "added_tokens_decoder"
# Texts that every tokenizer must encode: numbers, scripts, emoji, code, long runs.
BATTERY = (
    "The year 2023: 1234567 items, it's 12.5% more.\n\n",
    "漢字かな交じり文。 Привет, мир! مرحبا नमस्ते 👩🏽‍🚀🇫🇷",
    "def f(x):\n    return  x  # \ttabs\r\n<|end|> <s> </s>",
    *(char * 500 for char in "a1 =\n"),
)


def load_tokenizer(folder: Path, eos_token_ids: Any = None) -> Any:
    """Load the tokenizer of a folder in mlx-lm's wrapper. Code of the folder is never run.

    Args:
        folder: the model folder.
        eos_token_ids: the ids of the model's config, one or several.

    Raises:
        ModelError: ``tokenizer.json`` is damaged.
        Exception: transformers cannot read the other tokenizer files.
    """
    from mlx_lm.tokenizer_utils import TokenizerWrapper
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from blendin_mlx.tokens.encoder import contained

    file = folder / "tokenizer.json"
    # Without settings, the classes of transformers know the special tokens of a family.
    named = (folder / "tokenizer_config.json").is_file()
    kind = PreTrainedTokenizerFast if named else AutoTokenizer
    with contained():
        # Explicit, because by default transformers may ask on the terminal whether to run code.
        more = _nothing_added(folder) if named else {}
        tokenizer = kind.from_pretrained(folder, trust_remote_code=False, **more)
    restore(tokenizer, file, rebuilt=not named)
    probe(tokenizer.backend_tokenizer, file)
    ends = [eos_token_ids] if isinstance(eos_token_ids, int) else eos_token_ids
    # mlx-lm looks up a few tokens in a dictionary of all, which takes a while to make.
    tokenizer.get_vocab = partial(TokenIds, tokenizer.backend_tokenizer)
    wrapped = TokenizerWrapper(tokenizer, eos_token_ids=ends)
    del tokenizer.get_vocab
    return wrapped


class TokenIds(Mapping[str, int]):
    """The ids of a tokenizer's tokens by their text, looked up one by one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __getitem__(self, text: str) -> int:
        token: int | None = self._tokenizer.token_to_id(text)
        if token is None:
            raise KeyError(text)
        return token

    def __iter__(self) -> Iterator[str]:
        return iter(self._tokenizer.get_vocab(with_added_tokens=True))

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))


def read_tokenizer(file: Path) -> Any:
    """Read the tokenizer of a ``tokenizer.json``.

    Raises:
        ModelError: the file is damaged.
    """
    from tokenizers import Tokenizer

    from blendin_mlx.tokens.encoder import contained

    try:
        with contained():
            return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{file} is not a valid tokenizer: {first_line(error)}") from error


def restore(tokenizer: Any, file: Path, rebuilt: bool) -> None:
    """Restore the file's own rules in a tokenizer whose rules transformers replaced.

    Args:
        tokenizer: the tokenizer of transformers; changed in place.
        file: its ``tokenizer.json``.
        rebuilt: True if vocabulary and merges may have been replaced too.

    Raises:
        ModelError: the file is damaged, or the tokenizer does not come from it.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"{file} is not used: its settings ask for a {type(tokenizer).__name__} instead"
        )
    if rebuilt or _rules(backend) != _rules(_without_vocabulary(file)):
        tokenizer._tokenizer = own = read_tokenizer(file)
        for name, token in tokenizer.special_tokens_map.items():
            if isinstance(token, str) and own.token_to_id(token) is None:
                setattr(tokenizer, name, None)  # a default of its class


def _rules(tokenizer: Any) -> list[bytes | None]:
    parts = (getattr(tokenizer, name) for name in RULES)
    return [None if part is None else part.__getstate__() for part in parts]


def _nothing_added(folder: Path) -> dict[str, Any]:
    """Return settings that spare transformers from parsing tokenizer.json a second time.

    It looks there for added tokens, which the tokenizer has from that file already.
    """
    settings = load_json(folder / "tokenizer_config.json")
    told = _ADDED in settings or any((folder / name).exists() for name in _ADDED_FILES)
    return {} if told else {_ADDED: {}}


def _without_vocabulary(file: Path) -> Any:
    """Build the tokenizer of a file without its vocabulary, which takes almost no time."""
    from tokenizers import Tokenizer

    try:
        members = _before_the_model(read_regular(file))
    except (OSError, ValueError, RecursionError):
        members = {}
    if not {*RULES} <= {*members}:
        members = load_json(file)
    bare = {**members, "model": _NO_VOCABULARY, "added_tokens": [], "post_processor": None}
    return Tokenizer.from_str(json.dumps(bare))


def _before_the_model(text: str) -> dict[str, Any]:
    """Parse the members of a JSON object up to ``model``: megabytes, and usually the last one.

    Example:
        >>> _before_the_model('{"decoder": null, "model": {"vocab": {}}}')
        {'decoder': None}
    """
    parse, members = json.JSONDecoder().raw_decode, dict[str, Any]()
    place = text.index("{") + 1
    while True:
        name, place = parse(text, _skipped(text, place))
        if name == "model":
            return members
        members[name], place = parse(text, _skipped(text, place))


def _skipped(text: str, place: int) -> int:
    found = _GAP.match(text, place)
    return found.end() if found else place


def probe(tokenizer: Any, file: Path) -> None:
    """Raise if a tokenizer fails on ordinary text.

    Raises:
        ModelError: it fails.
    """
    from blendin_mlx.tokens.encoder import Encoder, TokenizingError, contained

    encoder = Encoder(tokenizer, str(file))
    try:
        with contained():
            for text in BATTERY:
                encoder.encode(text)
    except TokenizingError as error:
        raise ModelError(f"{file} is not a usable tokenizer: {first_line(error)}") from error
