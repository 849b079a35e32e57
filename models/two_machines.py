"""Load a pair on two machines: the base here, the guide's weights on the other one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .errors import ModelError
from .pair import check_models, check_pair, open_located, open_pair
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
        PairError: adapters, or several guides.
    """
    from blendin_mlx.distributed.remote_context import RemoteModel
    from blendin_mlx.errors import PairError

    from .loading.loader import read_weights

    if len(spec.guides) > 1 or any(folder is not None for _, folder in spec.parts()):
        raise PairError("adapters and several guides work on one machine only")
    checked = check_pair(spec, progress, lambda reports: reports[:1])
    wanted = [
        {"name": name, "digest": folder_digest(one.folder)}
        for name, one in zip(spec.names()[1:], checked.models[1:], strict=True)
    ]
    options = {"tokens": spec.tokens, "kv_bits": spec.kv_bits, "force": spec.force}
    leader.load({"models": wanted, **options})
    pair = open_pair(checked, progress)
    read_weights(pair.base, progress)
    lengths = leader.wait_until_loaded(progress)

    def there(role: Role, model: LanguageModel) -> LanguageModel:
        return without_network(model, RemoteModel(leader, role, lengths[role]))

    return replace(
        pair,
        aligned=there("aligned", pair.aligned),
        reference=pair.reference and there("reference", pair.reference),
    )


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
    from blendin_mlx.distributed.leader import ROLES
    from blendin_mlx.errors import MachineError

    from .loading.loader import read_weights
    from .loading.memory import check_memory

    if message.kind is not Kind.LOAD:
        raise MachineError(f"rank 0 sent {message.kind.name}, not the models to load")
    asked: Mapping[str, Any] = message.described
    progress = Told(channel)
    located, reports = check_models([(one["name"], None) for one in asked["models"]], progress)
    for one, wanted in zip(located, asked["models"], strict=True):
        check_digest(one, wanted["digest"])
    check_memory(reports, asked["tokens"], asked["force"], asked["kv_bits"])
    models = [open_located(one) for one in located]
    for model in models:
        read_weights(model, progress)
    return dict(zip(ROLES[1:], models, strict=False))


def check_digest(located: LocalModel, digest: str) -> None:
    """Raise if a model's files are not those of rank 0.

    Raises:
        ModelError: they are not.
    """
    if folder_digest(located.folder) != digest:
        raise ModelError(
            f"{located.folder} is not the {located.name} of rank 0: its files differ; copy the "
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
