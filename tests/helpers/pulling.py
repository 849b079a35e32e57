"""Helpers that the tests of downloads share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from blendin_models.errors import ModelError
from blendin_models.hub import client

BASE, GUIDE = "org/base", "org/guide"
TOKENIZER = b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}'
_NOISE = Random(1)
JUNK = {
    "modeling.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "model.gguf": b"GGUF",
    "weights.npy": b"NUMPY",
    "README.md": b"# A model",
    "consolidated.safetensors": b"the weights a second time",
    "original/model.safetensors": b"the weights a third time",
    "onnx/config.json": b"{}",
}
WANTED = {
    BASE: {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": TOKENIZER,
        "model.safetensors": _NOISE.randbytes(90_000),
    },
    GUIDE: {
        "config.json": b'{"model_type": "llama", "guides": true}',
        "tokenizer.json": TOKENIZER,
        "model.safetensors": _NOISE.randbytes(70_000),
    },
}
REPOS = {repo: {**files, **JUNK} for repo, files in WANTED.items()}
# One for each repo, one for each file.
REQUESTS = 2 + sum(map(len, WANTED.values()))
BYTES = sum(len(data) for files in WANTED.values() for data in files.values())
COMMANDS = (f"blendin models pull {BASE}", f"blendin models pull {GUIDE}")

PULL = """
import sys
from blendin_models.hub import client
from blendin_models.errors import ModelError
try:
    client.fetch([client.look_up(repo) for repo in sys.argv[1:]])
except ModelError as error:
    sys.exit(f"one line: {error}")
except KeyboardInterrupt:
    sys.exit(130)
"""


@dataclass(frozen=True)
class Place:
    """Where things are kept."""

    cache: Path
    home: Path

    def assert_complete(self) -> None:
        """Assert that both models are here as on the hub, and nothing else."""
        for repo, files in WANTED.items():
            folder = client.kept(repo)
            assert folder is not None
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
            blobs = list((folder.parents[1] / "blobs").iterdir())
            assert len(blobs) == len(files), "orphans"
        assert self.orphans() == []

    def orphans(self) -> list[Path]:
        """Return files that a download should have removed."""
        names = ("*.incomplete", "*.part", "*.tmp", "tmp_*")
        places = (self.cache, self.home)
        return [path for place in places for name in names for path in place.rglob(name)]


def pull(*repos: str) -> list[Path]:
    """Fetch both models, or those that are named."""
    return client.fetch([client.look_up(repo) for repo in repos or WANTED])


def refused(*repos: str) -> str:
    """Return the one-line error that a pull ends with."""
    with pytest.raises(ModelError) as raised:
        pull(*repos)
    message = str(raised.value)
    assert "\n" not in message
    return message


def index(*shards: str) -> bytes:
    """Return the index of a sharded model."""
    return json.dumps(
        {"weight_map": {f"layer.{n}": shard for n, shard in enumerate(shards)}}
    ).encode()
