"""Split a network over machines, each of which computes with its part: mlx-lm's ``shard``.

Heads and hidden units are split; embeddings, norms and the output layer are whole on each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from blendin_mlx.errors import PairError

from ..errors import first_line
from .preflight import Preflight, bytes_of, fitted


class Group(Protocol):
    """What is asked of an ``mx.distributed.Group`` where a network is split."""

    def rank(self) -> int:
        """Return which part this is."""

    def size(self) -> int:
        """Return how many parts there are."""


@dataclass(frozen=True)
class Place:
    """A rank of a group that is not connected yet."""

    number: int
    count: int

    def rank(self) -> int:
        """Return which part this is."""
        return self.number

    def size(self) -> int:
        """Return how many parts there are."""
        return self.count


def part_of(report: Preflight, group: Group, title: str) -> Preflight:
    """Return the report on a model as that on one part of it; no weight is read.

    Args:
        report: the report on the whole model.
        group: which part of how many.
        title: the model's name, for messages.

    Raises:
        PairError: mlx-lm cannot split such a model, or not into so many parts.
    """
    network = fitted(report.folder)
    heads = split(network, group, report.model_type, title)
    cache = report.cache
    if any("kv_heads" in name or "key_value_heads" in name for name in heads):
        cache = cache.shared_by(group.size())
    return replace(report, memory_bytes=bytes_of(network.parameters()), cache=cache)


def open_part(report: Preflight, group: Group, title: str) -> Any:
    """Return the network of a model's folder with this part of its weights, all lazy.

    Raises:
        PairError: see :func:`part_of`.
    """
    network = fitted(report.folder)
    split(network, group, report.model_type, title)
    return network


def split(network: Any, group: Group, model_type: str, title: str) -> set[str]:
    """Leave a lazy network its part of the weights; return the names of what is counted per part.

    Args:
        network: the network.
        group: which part of how many.
        model_type: its architecture.
        title: its name, for messages.

    Raises:
        PairError: mlx-lm cannot split such a network, or not into so many parts.
    """
    if not hasattr(network, "shard"):
        raise PairError(
            f"{title} cannot be split over machines: mlx-lm does not split {model_type} models; "
            "leave out --shard, or choose another base"
        )
    before = _numbers(network)
    try:
        network.shard(group)
    except (ValueError, AttributeError, TypeError) as error:
        raise PairError(
            f"{title} cannot be split over {group.size()} machines: {first_line(error)}"
        ) from None
    after = _numbers(network)
    changed = {key for key, number in before.items() if after.get(key, number) != number}
    for path, name in sorted(changed):
        if before[path, name] % group.size():  # mlx-lm rounds it down
            raise PairError(
                f"{title} cannot be split over {group.size()} machines, which must divide its "
                f"{name}: {before[path, name]}"
            )
    return {name for _, name in changed}


def _numbers(network: Any) -> dict[tuple[str, str], int]:
    """Return the whole numbers that modules keep, by the module's path and their name."""
    return {
        (path, name): value
        for path, module in network.named_modules()
        for name, value in vars(module).items()
        if type(value) is int
    }
