"""The catalogue of pairs and models, and the files that users add to it."""

from __future__ import annotations

import re

import pytest

from blendin_cli.options.settings import STOP_POLICIES
from blendin_cli.options.types import BASE_TEMPLATES
from blendin_models.catalogue import entries
from blendin_models.catalogue.entries import HubModel, PackagedModel
from blendin_models.errors import ModelError
from blendin_models.storage import paths
from blendin_models.storage.local_model import repo_named

MODEL = """
[models.mine]
repo = "me/mine"
license = "MIT"
tokenizer = "mine"
parameters = 10
bytes = 20
"""
PACKAGED = f"""
[models.packed]
file = "m.gguf"
sha256 = "{64 * "0"}"
packages = ["one==1.0"]
license = "MIT"
tokenizer = "mine"
parameters = 10
bytes = 20
"""
PAIR = """
[pairs.ours]
description = "Mine guided by the demo's"
base = "mine"
aligned = "smollm2-135m-instruct"
tau = 0.3
stop_policy = "guide"
"""


@pytest.mark.parametrize("model", entries.models().values(), ids=entries.models())
def test_every_model_is_well_formed(model):
    assert paths.NAME.match(model.name)
    assert model.license
    assert model.tokenizer
    assert 0.3 * model.parameters < model.bytes < 4.1 * model.parameters
    if isinstance(model, HubModel):
        assert repo_named(model.origin)
        return
    assert isinstance(model, PackagedModel)
    assert model.file.endswith(".gguf")
    assert "/" not in model.file
    assert re.fullmatch("[0-9a-f]{64}", model.sha256)
    # Only a pinned release is sure to hold the file that the checksum is of.
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", package) for package in model.packages)


@pytest.mark.parametrize("pair", entries.pairs().values(), ids=entries.pairs())
def test_every_pair_is_well_formed(pair):
    assert paths.NAME.match(pair.name)
    assert pair.description == pair.description.strip() != ""
    assert pair.base != pair.aligned
    assert ("one tokenizer" in pair.description) == pair.one_tokenizer
    assert pair.recommended.get("stop_policy", "either") in STOP_POLICIES
    assert pair.recommended.get("base_template", "query") in BASE_TEMPLATES
    assert 0 <= pair.recommended.get("tau", 0.4) <= 1
    if pair.reference is not None:
        assert entries.models()[pair.reference].tokenizer == pair.models[1].tokenizer


def test_stop_policies_are_those_of_the_engine():
    from typing import get_args, get_type_hints

    from blendin_mlx.decoding.rules import StopPolicy

    policy, _ = get_args(get_type_hints(entries.PairEntry)["stop_policy"])
    assert policy == StopPolicy


def test_names_are_unique():
    assert not entries.pairs().keys() & entries.models().keys()


def test_a_name_is_a_pair_or_a_model():
    demo = entries.find_pair("demo")
    assert [model.name for model in entries.find_models("demo")] == [demo.base, demo.aligned]
    assert entries.find_models(demo.aligned) == (demo.models[1],)


def test_unknown_names_get_a_hint():
    with pytest.raises(ModelError, match=r"no pair is called 'dmo'; did you mean demo\?$"):
        entries.find_pair("dmo")
    with pytest.raises(ModelError, match=r"'gemma-270m'; did you mean gemma-3-270m\?$"):
        entries.find_models("gemma-270m")
    with pytest.raises(ModelError, match=r"'§'; known: demo, "):
        entries.find_models("§")


def test_a_model_is_not_a_pair():
    with pytest.raises(ModelError, match="is a model, not a pair; name both"):
        entries.find_pair(entries.find_pair("demo").base)


def test_a_user_file_adds_pairs(add):
    add("ours.toml", MODEL + PAIR)
    pair = entries.find_pair("ours")
    assert pair.recommended == {"tau": 0.3, "stop_policy": "guide"}
    assert pair.models[0].origin == "me/mine"
    assert not pair.one_tokenizer
    assert "demo" in entries.pairs()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pairs = 3", "pairs is not a table"),
        ("[models]\nx = 3", r"\[models\.x\] is not a table"),
        ("[pair.x]", r"\[models\.NAME\] or \[pairs\.NAME\], not 'pair'"),
        (MODEL + "size = 3", "unknown key 'size'; known: license, "),
        (MODEL.replace('license = "MIT"\n', ""), "lacks license"),
        (MODEL.replace("10", '"10"'), "parameters is of the wrong type: '10'"),
        (MODEL.replace("10", "true"), "parameters is of the wrong type: True"),
        (MODEL.replace("mine]", "demo]"), "the name is taken"),
        (MODEL.replace("mine]", '"a/b"]'), "taken or invalid"),
        (MODEL + "bits = 7", r"\[models\.mine\]: bits must be one of .*, not 7"),
        (MODEL + PAIR.replace("0.3", "1.3"), r"\[pairs\.ours\]: tau must be from 0 to 1, not 1\.3"),
        (MODEL + PAIR + "alpha = -1", r"alpha must be from 0 to 1, not -1"),
        (MODEL + PAIR + "alpha = nan", r"alpha must be from 0 to 1, not nan"),
        (
            MODEL + PAIR.replace('"guide"', '"never"'),
            r"\[pairs\.ours\] stop_policy must be one of blend, base, either, guide, not 'never'",
        ),
        (MODEL + PAIR.replace('"guide"', "3"), "stop_policy is of the wrong type: 3"),
        (PAIR, "pair ours: no model is called 'mine'"),
        *(
            (PACKAGED.replace("one==1.0", package), "packages must be of the form name==version")
            for package in (
                *("one", "one>=1", "--pre", "-r x", "./one==1", "one @ file:///one", "one==1;x"),
                *("one==1 --pre", "https://a.b/c.whl", "one==*", "", "one==1\\n"),
            )
        ),
        (PACKAGED.replace("m.gguf", "../m.gguf"), "file must be a plain file name"),
        (PACKAGED.replace(64 * "0", 64 * "G"), "sha256 must be 64 hexadecimal digits"),
        (MODEL.replace("me/mine", "../mine"), "repo and revision must be those of a hub repo"),
        ("a = [", "cannot be read: "),
    ],
)
def test_a_file_with_a_mistake_is_named(add, text, said):
    path = add("bad.toml", text)
    with pytest.raises(ModelError, match=said) as raised:
        entries.pairs()
    assert "\n" not in str(raised.value)
    assert path in str(raised.value) or "pair ours" in str(raised.value)
