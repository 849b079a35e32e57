"""Pass costs are measured once for a pair and a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blendin_mlx.drafting.pass_costs import Costs
from blendin_models import pass_costs
from scripted import always, scripted_pair

MEASURED = Costs(((1, 0.5), (9, 0.75)), 0.125)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Return the list of pairs measured; the cache folder is fresh."""
    pairs: list[Any] = []
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    monkeypatch.setattr(pass_costs, "measure", lambda pair: pairs.append(pair) or MEASURED)
    return pairs


def pair(name: str = "base") -> Any:
    made = scripted_pair(always({}), always({}))
    made.base.name = name
    return made


def test_a_pair_is_measured_once(measured: list[Any]) -> None:
    assert pass_costs.kept_costs(pair()) == pass_costs.kept_costs(pair()) == MEASURED
    assert len(measured) == 1


def test_another_pair_is_measured_too_and_both_are_kept(measured: list[Any]) -> None:
    for name in ("base", "other", "base", "other"):
        pass_costs.kept_costs(pair(name))
    assert len(measured) == 2


def test_another_number_of_threads_is_another_machine(
    measured: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pass_costs.kept_costs(pair())
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    pass_costs.kept_costs(pair())
    assert len(measured) == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"x": 1}', "\x00"])
def test_a_damaged_file_is_measured_again(measured: list[Any], tmp_path: Path, damage: str) -> None:
    pass_costs.kept_costs(pair())
    (tmp_path / pass_costs.FILE).write_text(damage)
    assert pass_costs.kept_costs(pair()) == MEASURED
    assert len(measured) == 2
    json.loads((tmp_path / pass_costs.FILE).read_text())


@pytest.mark.parametrize("entry", [None, {}, {"base": [[1]]}, {"base": [[1, -1]], "guide": 1}])
def test_a_damaged_entry_is_measured_again(
    measured: list[Any], tmp_path: Path, entry: object
) -> None:
    pass_costs.kept_costs(pair())
    file = tmp_path / pass_costs.FILE
    (key,) = json.loads(file.read_text())
    file.write_text(json.dumps({key: entry}))
    assert pass_costs.kept_costs(pair()) == MEASURED
    assert len(measured) == 2


def test_a_cache_that_cannot_be_written_does_no_harm(
    measured: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "file"))
    assert pass_costs.kept_costs(pair()) == MEASURED
