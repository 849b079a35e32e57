"""The pairs that are known by name."""

from __future__ import annotations

import re

import pytest

from blendin_models import catalogue, store
from blendin_models.errors import ModelError


@pytest.mark.parametrize("pair", catalogue.pairs().values(), ids=catalogue.pairs())
def test_every_pair_is_well_formed(pair):
    assert store.NAME.match(pair.name)
    assert pair.description == pair.description.strip() != ""
    for model in pair.models:
        assert store.NAME.match(model.name)
        assert model.file.endswith(".gguf")
        assert "/" not in model.file
        assert re.fullmatch("[0-9a-f]{64}", model.sha256)
        assert model.bytes > 0
        assert model.license
        # Only a pinned release is sure to hold the file that the checksum is of.
        assert model.packages
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+", package) for package in model.packages)


def test_names_are_of_one_model_each():
    assert not catalogue.pairs().keys() & catalogue.models().keys()
    models = [model for pair in catalogue.pairs().values() for model in pair.models]
    assert {catalogue.models()[model.name] for model in models} == set(models)


def test_a_name_is_a_pair_or_a_model():
    demo = catalogue.find_pair("demo")
    assert catalogue.find_models("demo") == (demo.base, demo.aligned)
    assert catalogue.find_models(demo.aligned.name) == (demo.aligned,)


def test_unknown_names_get_a_hint():
    with pytest.raises(ModelError, match=r"no pair is called 'dmo'; did you mean demo\?$"):
        catalogue.find_pair("dmo")
    with pytest.raises(ModelError, match=r"'gemma-270m'; did you mean gemma-3-270m\?$"):
        catalogue.find_models("gemma-270m")
    with pytest.raises(ModelError, match=r"'§'; known: demo, "):
        catalogue.find_models("§")


def test_a_model_is_no_pair():
    with pytest.raises(ModelError, match="no pair is called"):
        catalogue.find_pair(catalogue.find_pair("demo").base.name)
