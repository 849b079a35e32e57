"""Import a GGUF file: write it as a model folder that mlx-lm and transformers load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..progress import Advance
from ..storage import manifest
from ..storage.atomic_folders import building
from ..storage.small_files import write_json
from .config import model_config
from .file import GgufFile
from .parameters import Parameter, parameters
from .split import read_model
from .tied import tied
from .tokenizer import build_tokenizer
from .vocabulary import Vocabulary, read_vocabulary, tokenizer_config
from .weights import quantization, write_weights


def import_gguf(
    source: Path,
    target: Path,
    record: manifest.Manifest | None = None,
    progress: Advance | None = None,
) -> None:
    """Write the model in the GGUF file `source` as an MLX model folder at `target`.

    The folder appears whole or not at all, even if the import is interrupted. Q4_0, Q4_1, Q5_0,
    Q5_1, Q8_0, Q4_K and Q5_K weights keep their values; other matrices are quantized at 8 bits.

    Args:
        source: the file, or any part of a split one; llama, qwen2, qwen3, gemma2 and gemma3 (text)
            architectures.
        target: the folder to create; it must not exist or be empty.
        record: where the file came from; written to the folder as its manifest.
        progress: called with the tensor bytes converted so far and the total.

    Raises:
        ModelError: `source` is missing, damaged or of an unsupported kind, or `target` exists or
            cannot be written. The message is one line.

    Example:
        >>> import_gguf(Path("SmolLM2-135M-Instruct.Q4_1.gguf"), Path("smollm2"))  # doctest: +SKIP
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{target}: already exists; name a new folder")
    file = tied(read_model(source))
    config = model_config(file)
    wanted = parameters(file, config)
    vocabulary = read_vocabulary(file)
    if len(vocabulary.tokens) > config["vocab_size"]:
        raise ModelError(
            f"{source}: damaged GGUF file: {len(vocabulary.tokens)} tokens, "
            f"{config['vocab_size']} embeddings"
        )
    _complete(config, file, wanted, vocabulary)
    try:
        with building(target) as folder:
            _write_tokenizer(folder, file, vocabulary, config)
            write_weights(file, wanted, folder / "model.safetensors", progress)
            write_json(folder / "config.json", config)
            if record is not None:
                manifest.write(folder, record)
    except OSError as error:
        raise ModelError(f"{target}: cannot be written ({error.strerror})") from error


def _write_tokenizer(
    folder: Path, file: GgufFile, vocabulary: Vocabulary, config: dict[str, Any]
) -> None:
    # The tokenizer's own `save` reports a full disk as a bare Exception; `write_text` does not.
    text = build_tokenizer(file, vocabulary).to_str()
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = tokenizer_config(vocabulary, config["max_position_embeddings"])
    write_json(folder / "tokenizer_config.json", settings)


def _complete(
    config: dict[str, Any], file: GgufFile, wanted: list[Parameter], vocabulary: Vocabulary
) -> None:
    """Add the fields that depend on weights and vocabulary to `config`."""
    config["torch_dtype"] = "float32"
    ends = (vocabulary.special_id(name) for name in ("eos", "eot", "eom"))
    if eos := list(dict.fromkeys(end for end in ends if end is not None)):
        config["eos_token_id"] = eos
    if (bos := vocabulary.special_id("bos")) is not None:
        config["bos_token_id"] = bos
    if (settings := quantization(file, wanted)) is not None:
        config["quantization"] = settings
