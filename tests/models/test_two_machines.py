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
from blendin_mlx.prompt_cache import fingerprint
from blendin_models.errors import MemoryNeededError, ModelError
from blendin_models.loading import memory
from blendin_models.loading.preflight import inspect
from blendin_models.pair import PairSpec, load_spec
from blendin_models.storage.folder_digest import folder_digest
from blendin_models.two_machines import load_base, load_guides
from tiny_adapters import write_adapter
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


@pytest.fixture(scope="module")
def adapters(folders, tmp_path_factory):
    """An adapter of the base, and one of the aligned model."""
    folder = tmp_path_factory.mktemp("adapters")
    return [write_adapter(folder / one.name, one, seed=n) for n, one in enumerate(folders[:2])]


@pytest.mark.parametrize("guided", ["both adapted", "the base adapted", "three", "two of three"])
def test_adapters_and_several_guides_work_there(folders, adapters, guided):
    base, aligned, other = map(str, folders)
    specs = {
        "both adapted": {
            "aligned": aligned,
            "base_adapter": adapters[0],
            "aligned_adapter": adapters[1],
        },
        "the base adapted": {"aligned_adapter": adapters[0]},
        "three": {"aligned": [base, aligned, other], "weights": [0.7, 0.2, 0.1]},
        "two of three": {"aligned": [base, aligned, other], "weights": [0, 3, 1]},
    }
    spec = PairSpec(base=base, **specs[guided])
    alone = load_spec(spec)
    expected = generate(alone, "hello", method="ensemble", max_tokens=12)
    with followed(both(loads := {})) as leader:
        pair = load_base(spec, leader)
        assert pair.weights == alone.weights
        names = {role: model.name for role, model in pair.models().items()}
        assert names == {role: model.name for role, model in alone.models().items()}
        assert list(loads) == [role for role in names if role != "base"]
        for role, model in loads.items():
            assert fingerprint(pair.models()[role]) == fingerprint(model)
            assert fingerprint(model) == fingerprint(alone.models()[role])
        assert generate(pair, "hello", method="ensemble", max_tokens=12) == expected


def test_another_adapter_is_refused(folders, adapters, tmp_path):
    spec = PairSpec(base=str(folders[0]), aligned_adapter=adapters[0])
    changed = write_adapter(tmp_path / "base", folders[0], seed=9)

    def serve(channel):
        message = channel.receive()
        payload = json.dumps(message.described).replace(str(adapters[0]), str(changed))
        try:
            load_guides(replace(message, payload=payload.encode()), channel)
        except ModelError as error:
            channel.send(Kind.ERROR, payload=str(error).encode())

    with followed(serve) as leader, pytest.raises(MachineError, match=r"base\+base of rank 0: its"):
        load_base(spec, leader)


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
