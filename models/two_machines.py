"""Load a pair on two machines: the base here, the guide's weights on the other one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ModelError
from .pair import check_models, check_pair, open_models, open_pair
from .pair_spec import PairSpec
from .progress import Progress
from .storage.folder_digest import folder_digest

if TYPE_CHECKING:
    from blendin_mlx.distributed.channel import Channel, Frame
    from blendin_mlx.distributed.leader import Leader
    from blendin_mlx.model import LanguageModel, Pair
    from blendin_mlx.roles import Role

    from .storage.local_model import LocalModel


def load_base(spec: PairSpec, leader: Leader, progress: Progress | None = None) -> Pair:
    """Load the base; let the other machine load the models that guide it.

    Of those, this machine reads everything but the weights: they must be in its folders too.

    Args:
        spec: the pair.
        leader: what rank 0 has of the other machine.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: a model is unknown, missing or damaged here.
        MemoryNeededError: the base does not fit the memory.
        MachineError: the other machine ended, hangs, or holds other models.
        PairError: an adapter does not belong to its model.
    """
    from blendin_mlx.distributed.remote_context import RemoteModel

    from .loading.loader import read_weights

    spec = _heard(spec)
    checked = check_pair(spec, progress, lambda reports: reports[:1])
    parts = zip(checked.by_role().items(), spec.parts(), strict=True)
    wanted = [
        {"role": role, "name": name, "adapter": str(folder or ""), "digest": digest_of(one)}
        for (role, one), (name, folder) in parts
        if role != "base"
    ]
    options = {"tokens": spec.tokens, "kv_bits": spec.kv_bits, "force": spec.force}
    leader.load({"models": wanted, **options})
    pair = open_pair(checked, progress)
    read_weights(pair.base, progress)
    lengths = leader.wait_until_loaded(progress)

    there = {
        role: without_network(model, RemoteModel(leader, role, lengths[role]))
        for role, model in pair.models().items()
        if role != "base"
    }
    aligned, reference = there.pop("aligned"), there.pop("reference", None)
    return replace(pair, aligned=aligned, reference=reference, others=tuple(there.values()))


def _heard(spec: PairSpec) -> PairSpec:
    """Return a pair without the guides of weight 0, which need not be loaded."""
    if 0 not in spec.weights:
        return spec
    heard = [one for one in zip(spec.guides, spec.weights, strict=True) if one[1]]
    return replace(spec, aligned=[name for name, _ in heard], weights=[n for _, n in heard])


def digest_of(located: LocalModel) -> str:
    """Return a digest of a model's files, and of those of its adapter."""
    from .loading.adapters import adapter_digest

    adapter = "" if located.adapter is None else adapter_digest(located.adapter)
    return folder_digest(located.folder) + adapter


def load_guides(message: Frame, channel: Channel) -> dict[Role, LanguageModel]:
    """Load the models that rank 0 asks for, with all weights in memory.

    Args:
        message: what rank 0 asks for.
        channel: the connection to rank 0, which is told how far this is.

    Raises:
        ModelError: a model is unknown, missing or damaged here, or is not the one meant.
        MemoryNeededError: the models do not fit the memory.
        MachineError: rank 0 ended, or asks for something else.
    """
    from blendin_mlx.distributed.channel import Kind
    from blendin_mlx.errors import MachineError

    from .loading.loader import read_weights
    from .loading.memory import check_memory

    if message.kind is not Kind.LOAD:
        raise MachineError(f"rank 0 sent {message.kind.name}, not the models to load")
    asked: Mapping[str, Any] = message.described
    wanted = asked["models"]
    progress = Told(channel)
    parts = [(one["name"], Path(one["adapter"]) if one["adapter"] else None) for one in wanted]
    located, reports = check_models(parts, progress)
    for one, of_rank_0 in zip(located, wanted, strict=True):
        check_digest(one, of_rank_0["digest"])
    check_memory(reports, asked["tokens"], asked["force"], asked["kv_bits"])
    models = open_models(located, reports)
    for model in models:
        read_weights(model, progress)
    return dict(zip((one["role"] for one in wanted), models, strict=True))


def check_digest(located: LocalModel, digest: str) -> None:
    """Raise if a model's files are not those of rank 0.

    Raises:
        ModelError: they are not.
    """
    if digest_of(located) != digest:
        raise ModelError(
            f"{located.folder} is not the {located.title} of rank 0: its files differ; copy the "
            "folder of one machine to the other"
        )


class Told:
    """Progress of which rank 0 is told: each new label, and each percent."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._said: tuple[str, int] = "", -1

    def __call__(self, label: str, done: int, total: int) -> None:
        """Tell rank 0 if there is news."""
        from blendin_mlx.distributed.channel import Kind

        news = label, 100 * done // total if total else 0
        if news != self._said:
            self._said = news
            self._channel.describe(Kind.PROGRESS, [label, done, total])


def without_network(model: LanguageModel, place: Any) -> LanguageModel:
    """Return a model whose network runs elsewhere; what is asked of it here is known already."""
    there = replace(model, network=None, elsewhere=place)
    there.logit_size, there.rows = model.logit_size, model.rows
    return there
