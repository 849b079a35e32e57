"""What ``blendin_models`` exports is a decision: this is the list."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import blendin_mlx
import blendin_models

NAMES = [
    *("LocalModel", "MemoryNeededError", "ModelError", "PairSpec", "Progress", "UnsuitableError"),
    *("load_pair", "load_spec", "locate"),
]


def test_the_public_names() -> None:
    assert blendin_models.__all__ == NAMES
    assert all(hasattr(blendin_models, name) for name in NAMES)


def classes(hint: Any) -> Iterator[type]:
    """Every class in a type, those of its arguments too."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        yield hint
    for part in typing.get_args(hint):
        yield from classes(part)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "Progress"])
def test_types_of_public_signatures_are_public(name: str) -> None:
    packages = (blendin_mlx, blendin_models)
    public = [getattr(package, one) for package in packages for one in package.__all__]
    known = {one for one in public if isinstance(one, type)}
    made = getattr(blendin_models, name)
    members = vars(made).values() if isinstance(made, type) else ()
    for one in (made, *filter(inspect.isfunction, members)):
        scope = {"Pair": blendin_mlx.Pair}  # imported for its type alone
        for hint in typing.get_type_hints(one, localns=scope).values():
            foreign = {c for c in classes(hint) if not c.__module__.startswith("blendin_")}
            assert set(classes(hint)) - foreign <= known
