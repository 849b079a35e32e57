"""A pair loaded on two machines: who reads which weights, and what both must hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blendin_mlx.distributed.channel import Kind
from blendin_mlx.distributed.follower import Follower
from blendin_mlx.errors import MachineError
from blendin_mlx.generation import generate
from blendin_models.errors import MemoryNeededError, ModelError
from blendin_models.loading import memory
from blendin_models.loading.preflight import inspect
from blendin_models.pair import PairSpec, load_spec
from blendin_models.storage.folder_digest import folder_digest
from blendin_models.two_machines import load_base, load_guides
from tiny_folders import write_model
from two_machines import followed


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    names = ("base", "aligned", "reference")
    return [write_model(folder / name, seed) for seed, name in enumerate(names)]


def both(loads):
    """What rank 1 does; it notes what it has loaded."""

    def serve(channel):
        loads.update(load_guides(channel.receive(), channel))
        Follower(channel, loads).serve()

    return serve


@pytest.mark.parametrize("guided", ["aligned", "twin", "itself"])
def test_each_machine_has_its_weights_and_the_answer_is_the_same(folders, guided):
    base, aligned, reference = map(str, folders)
    spec = PairSpec(
        base=base,
        aligned=base if guided == "itself" else aligned,
        reference=reference if guided == "twin" else None,
    )
    method = "proxy-tuning" if guided == "twin" else "blendin"
    alone = generate(load_spec(spec), "hello", method=method, max_tokens=12)
    with followed(both(loads := {})) as leader:
        pair = load_base(spec, leader)
        assert pair.base.network is not None
        there = {role: model for role, model in pair.models().items() if role != "base"}
        assert all(model.network is None for model in there.values())
        assert list(there) == list(loads)
        assert generate(pair, "hello", method=method, max_tokens=12) == alone


def test_rank_0_hears_how_far_rank_1_is(folders):
    said = []
    spec = PairSpec(base=str(folders[0]), aligned=str(folders[1]))
    with followed(both({})) as leader:
        load_base(spec, leader, lambda label, done, total: said.append((label, done, total)))
    there = [(done, total) for label, done, total in said if label == "rank 1: loading aligned"]
    assert there
    assert there[-1][0] == there[-1][1] > 0


def test_only_what_runs_here_must_fit(folders, monkeypatch):
    spec = PairSpec(base=str(folders[0]), aligned=str(folders[1]), tokens=16)
    needed = memory.need([*memory_reports(folders[:1])], 16).total
    monkeypatch.setattr(memory, "recommended", lambda: needed)
    with followed(both({})) as leader:
        load_base(spec, leader)
    with pytest.raises(MemoryNeededError, match="both models need"):
        load_spec(spec)
    monkeypatch.setattr(memory, "recommended", lambda: needed - 1)
    with pytest.raises(MemoryNeededError, match=r"the model needs .* and its cache "):
        memory.check_memory(memory_reports(folders[1:2]), 16)


def memory_reports(some):
    return [inspect(folder) for folder in some]


def test_other_files_are_refused(folders):
    spec = PairSpec(base=str(folders[0]), aligned=str(folders[1]))
    errors = []

    def serve(channel):
        message = channel.receive()
        changed = json.dumps(message.described).replace(str(folders[1]), str(folders[2]))
        with pytest.raises(ModelError, match="is not the reference of rank 0: its files differ"):
            load_guides(replace(message, payload=changed.encode()), channel)
        errors.append("refused")
        channel.send(Kind.ERROR, payload=b"refused")

    with followed(serve) as leader, pytest.raises(MachineError, match="rank 1: refused"):
        load_base(spec, leader)
    assert errors == ["refused"]


@given(size=st.integers(2**12, 2**16), data=st.data())
def test_a_digest_notices_other_content(size, data):
    content = bytes(size)
    place = data.draw(st.integers(0, size - 1))
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr("blendin_models.storage.folder_digest._WHOLE", 2**11)  # it is sampled
        file = Path(name, "model.safetensors")
        file.write_bytes(content)
        before = folder_digest(Path(name))
        Path(name, "blendin.json").write_text("{}")
        assert folder_digest(Path(name)) == before
        file.write_bytes(bytes([*content[:place], 1, *content[place + 1 :]]))
        assert folder_digest(Path(name)) != before
        file.write_bytes(content + b"0")
        assert folder_digest(Path(name)) != before
