"""φ is made once for two tokenizers, and again where what is kept is not what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blendin_mlx import model as engine_model
from blendin_mlx.model import LanguageModel, Pair
from blendin_models import kept_phi as module
from blendin_models.kept_phi import FOLDER, kept_phi
from scripted import always, scripted_pair


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Return the list of what was made; the cache folder is fresh."""
    done, phi = list[Any](), engine_model.made_phi
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(engine_model, "made_phi", lambda *two: done.append(two) or phi(*two))
    return done


def pair_in(folder: Path, **options: Any) -> Pair:
    """Return a pair with two tokenizers, whose folders hold them."""
    pair = scripted_pair(always({}), always({}), tokenizers=2, **options)
    for role, model in pair.models().items():
        own = folder / role
        own.mkdir(exist_ok=True)
        (own / "tokenizer.json").write_text(model.tokenizer.backend_tokenizer.to_str())
        model.path = str(own)
    pair.phi = kept_phi
    return pair


def table(pair: Pair) -> list[int]:
    return pair.projection().table


def test_it_is_made_once_for_two_tokenizers(made: list[Any], tmp_path: Path) -> None:
    first, again = table(pair_in(tmp_path)), table(pair_in(tmp_path))
    assert first == again == scripted_pair(always({}), always({}), tokenizers=2).projection().table
    assert len(made) == 1
    assert len(list((tmp_path / "home" / FOLDER).iterdir())) == 1


def test_what_it_depends_on_is_another_one(
    made: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_in(tmp_path)
    table(pair)
    table(Pair(pair.aligned, pair.base, None, kept_phi))  # the other way round
    for name in ("stop_ids", "turn_ids"):
        other = pair_in(tmp_path)
        other.aligned.__dict__[name] = frozenset({3})
        table(other)
    with (tmp_path / "base" / "tokenizer.json").open("a") as file:
        file.write("\n")
    table(Pair(pair.base, pair.aligned, None, kept_phi))
    monkeypatch.setattr(module, "_FORMAT", 0)
    table(pair_in(tmp_path))
    assert len(made) == 6
    assert len(list((tmp_path / "home" / FOLDER).iterdir())) == 6


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "text", "binary", "folder"])
def test_a_damaged_file_is_made_again(made: list[Any], tmp_path: Path, damage: str) -> None:
    expected = table(pair_in(tmp_path))
    (file,) = (tmp_path / "home" / FOLDER).iterdir()
    good = file.read_text()
    bad = {"empty": "", "cut": good[:-9], "changed": good.replace(" 5,", " 6,"), "text": "[1, 2]"}
    file.unlink()
    if damage == "folder":
        file.mkdir()
    else:
        file.write_bytes(bad.get(damage, "").encode() or b"\xff\x00"[: 2 * (damage == "binary")])
    assert table(pair_in(tmp_path)) == expected
    assert len(made) == 2
    if damage != "folder":
        assert file.read_text() == good


def test_models_without_a_folder_keep_nothing(made: list[Any], tmp_path: Path) -> None:
    pair = pair_in(tmp_path)
    pair.aligned.path = None
    assert table(pair) == table(pair_in(tmp_path))
    assert len(made) == 2


def test_where_nothing_can_be_written_it_is_made(made: list[Any], tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    assert len(table(pair_in(tmp_path))) == pair_in(tmp_path).aligned.vocabulary.size


def test_the_models_of_a_pair_are_the_ones_that_it_maps(tmp_path: Path) -> None:
    seen = list[tuple[LanguageModel, LanguageModel]]()
    pair = pair_in(tmp_path, reference=always({}))
    pair.phi = lambda *two: seen.append(two) or kept_phi(*two)
    pair.projection(), pair.projection("shared"), pair.reference_projection()
    assert [(one.name, two.name) for one, two in seen] == [
        *(2 * [("scripted base", "scripted guide")]),
        ("scripted base", "scripted reference"),
    ]
