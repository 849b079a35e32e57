"""A base loaded in parts: who reads which weights, what must fit where, and what all must hold."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from blendin_mlx.backend.mlx import mx
from blendin_mlx.distributed.channel import Frame, Kind
from blendin_mlx.distributed.leader import Leader
from blendin_mlx.distributed.split_base import Parts, serve_part
from blendin_mlx.errors import MachineError, PairError
from blendin_mlx.generation import generate
from blendin_models.errors import MemoryNeededError, ModelError
from blendin_models.loading import memory
from blendin_models.loading.network_part import Place, part_of
from blendin_models.loading.preflight import inspect
from blendin_models.pair import PairSpec, load_spec
from blendin_models.split_base import check_part, load_part, load_split
from blendin_models.storage.folder_digest import folder_digest
from terminals import DEADLINE_S
from tiny_folders import write_model
from two_machines import channels, served

HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = write_model(folder / "base", 1, shape=HEADS)
    return base, write_model(folder / "aligned", 2)


@pytest.fixture
def spec(folders):
    base, aligned = map(str, folders)
    return PairSpec(base=base, aligned=aligned, tokens=16)


def join(connection):
    """A ring of this process alone: each has the whole network, and nothing is summed."""
    return mx.distributed.init()


def serve(channel):
    """Do what the other rank does."""
    located, report = check_part(channel.receive(), channel, Place(1, 2))
    channel.describe(Kind.CHECKED, None)
    assert channel.receive().kind is Kind.JOIN
    serve_part(channel, load_part(located, report, channel, join(channel)), print)


@pytest.mark.parametrize("guided", ["aligned", "itself"])
def test_all_read_the_base_and_rank_0_its_guide(spec, guided):
    if guided == "itself":
        spec = replace(spec, aligned=spec.base)
    alone = generate(load_spec(spec), "hello", max_tokens=12)
    said = []
    with served(serve) as channel:
        parts = Parts([channel], DEADLINE_S)
        pair = load_split(spec, parts, Leader(parts), join, lambda *news: said.append(news))
        assert pair.base.network is None
        assert pair.aligned.network is not None
        assert generate(pair, "hello", max_tokens=12) == alone
    assert {label for label, *_ in said} >= {"loading base", "rank 1: loading base"}


def test_only_the_part_and_the_guide_must_fit(spec, folders, monkeypatch):
    base, aligned = map(inspect, folders)
    part = part_of(base, Place(0, 2), "base")
    needed = memory.need([part, aligned], 16).total
    assert needed < memory.need([base, aligned], 16).total
    monkeypatch.setattr(memory, "recommended", lambda: needed)
    with served(serve) as channel:
        parts = Parts([channel], DEADLINE_S)
        load_split(spec, parts, Leader(parts), join)
    monkeypatch.setattr(memory, "recommended", lambda: needed - 1)
    with channels() as (here, _):
        parts = Parts([here], DEADLINE_S)
        with pytest.raises(MemoryNeededError, match="both models need"):
            load_split(spec, parts, Leader(parts), join)
    monkeypatch.setattr(memory, "recommended", lambda: memory.need([part], 16).total - 1)
    refused(MemoryNeededError, "the model needs", wanted(folders[0]))


def wanted(folder, **changes):
    """What rank 0 asks for."""
    asked = {"name": str(folder), "digest": folder_digest(folder)}
    return {"split": asked | changes, "tokens": 16, "kv_bits": None, "force": False}


def refused(kind, said, message):
    """Rank 1 refuses to load what it is asked for."""
    frame = Frame(Kind.LOAD, payload=json.dumps(message).encode())
    with channels() as (_, there), pytest.raises(kind, match=said):
        check_part(frame, there, Place(1, 2))


def test_other_files_are_refused(folders):
    refused(ModelError, "is not the base of rank 0", wanted(folders[0], digest="0"))


def test_what_rank_1_cannot_load_is_said_by_rank_0(spec):
    def refusing(channel):
        channel.receive()
        channel.send(Kind.ERROR, payload=b"the files differ")

    with served(refusing) as channel:
        parts = Parts([channel], DEADLINE_S)
        with pytest.raises(MachineError, match=r"^rank 1: the files differ$"):
            load_split(spec, parts, Leader(parts), join)


def test_a_base_with_an_adapter_is_refused(spec, tmp_path):
    with channels() as (here, _):
        parts = Parts([here], DEADLINE_S)
        with pytest.raises(PairError, match="leave out --shard"):
            load_split(replace(spec, base_adapter=tmp_path), parts, Leader(parts), join)
