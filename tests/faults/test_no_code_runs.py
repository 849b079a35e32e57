"""No code of a model folder ever runs: not in the checks, not in a real load."""

from __future__ import annotations

import contextlib
import json

import pytest

from blendin_models.errors import ModelError
from blendin_models.loading.preflight import inspect
from tiny_folders import load_model, write_model

MAPS = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", None]}


@pytest.mark.parametrize("check", [inspect, load_model])
@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("config.json", {"auto_map": MAPS}),
        ("config.json", {"auto_map": MAPS, "model_type": "evil"}),
        ("config.json", {"model_type": "../evil"}),
        ("config.json", {"model_file": "evil.py"}),
        ("tokenizer_config.json", {"auto_map": MAPS, "tokenizer_class": "EvilTokenizer"}),
    ],
)
def test_a_sentinel_is_never_written(tmp_path, monkeypatch, check, file, entries):
    folder = write_model(tmp_path / "model", 1)
    told = tmp_path / "it-ran"
    for name in ("evil.py", "llama.py", "__init__.py"):
        (folder / name).write_text(f"open({str(told)!r}, 'w').close()\n")
    monkeypatch.chdir(folder)
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    with contextlib.suppress(ModelError):  # refused or loaded without it, either is well
        check(folder)
    assert not told.exists()
