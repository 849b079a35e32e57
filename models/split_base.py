"""Load a pair whose base is split over all machines; its guides are whole on rank 0."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .pair import check_models, check_pair, open_located, open_pair
from .pair_spec import PairSpec
from .progress import Progress
from .two_machines import Told, check_digest, digest_of, without_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from blendin_mlx.distributed.channel import Channel, Connection, Frame
    from blendin_mlx.distributed.leader import Leader
    from blendin_mlx.distributed.split_base import Parts
    from blendin_mlx.model import LanguageModel, Pair

    from .loading.network_part import Group
    from .loading.preflight import Preflight
    from .storage.local_model import LocalModel

    Join = Callable[[Connection], Group]


def load_split(
    spec: PairSpec, parts: Parts, leader: Leader, join: Join, progress: Progress | None = None
) -> Pair:
    """Load rank 0's part of the base, and all that guides it; let the others load their parts.

    Args:
        spec: the pair.
        parts: all parts of the base.
        leader: asks them.
        join: connects the ring of all machines.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: a model is unknown, missing or damaged here.
        MemoryNeededError: what runs here does not fit the memory.
        MachineError: another machine ended, hangs, or cannot load its part.
        PairError: the base cannot be split, or has an adapter.
    """
    from blendin_mlx.distributed.channel import Kind
    from blendin_mlx.distributed.remote_context import RemoteModel
    from blendin_mlx.errors import PairError

    from .loading.loader import read_weights
    from .loading.network_part import Place, part_of

    name, adapter = spec.parts()[0]
    if adapter is not None:
        raise PairError("a base with an adapter cannot be split; leave out --shard")

    def here(reports: list[Preflight]) -> list[Preflight]:
        return [part_of(reports[0], Place(0, parts.size), name), *reports[1:]]

    checked = check_pair(spec, progress, here)
    digest = digest_of(checked.models[0])
    options = {"tokens": spec.tokens, "kv_bits": spec.kv_bits, "force": spec.force}
    leader.load({"split": {"name": name, "digest": digest}, **options})
    leader.wait_for(Kind.CHECKED, progress)
    parts.send(Kind.JOIN)
    group = join(parts)
    pair = open_pair(checked, progress)
    own = _with_part(pair.base, checked.reports[0], group)
    for model in (own, *(m for role, m in pair.models().items() if role != "base")):
        read_weights(model, progress)
    lengths = leader.wait_until_loaded(progress)
    parts.begin(own)
    place = RemoteModel(leader, "base", lengths["base"])
    return replace(pair, base=without_network(pair.base, place))


def check_part(message: Frame, channel: Channel, place: Group) -> tuple[LocalModel, Preflight]:
    """Find the base that rank 0 asks for, and check that its part fits this machine.

    Args:
        message: what rank 0 asks for.
        channel: the connection to rank 0, which is told how far this is.
        place: which part of how many.

    Raises:
        ModelError: the base is missing or damaged here, or is not the one meant.
        MemoryNeededError: the part does not fit the memory.
        PairError: the base cannot be split.
    """
    from .loading.memory import check_memory
    from .loading.network_part import part_of

    asked: dict[str, Any] = message.described
    wanted = asked["split"]
    (located,), (report,) = check_models([(wanted["name"], None)], Told(channel))
    check_digest(located, wanted["digest"])
    part = part_of(report, place, located.title)
    check_memory([part], asked["tokens"], asked["force"], asked["kv_bits"])
    return located, report


def load_part(
    located: LocalModel, report: Preflight, channel: Channel, group: Group
) -> LanguageModel:
    """Load this machine's part of the base.

    Args:
        located: the base.
        report: the report on it.
        channel: the connection to rank 0, which is told how far this is.
        group: the ring of all machines.

    Raises:
        ModelError: it is damaged.
        MachineError: rank 0 ended.
    """
    from .loading.loader import read_weights

    model = _with_part(open_located(located), report, group)
    read_weights(model, Told(channel))
    return model


def _with_part(model: LanguageModel, report: Preflight, group: Group) -> LanguageModel:
    """Return a model with a part of its network."""
    from .loading.network_part import open_part

    return replace(model, network=open_part(report, group, model.name))
