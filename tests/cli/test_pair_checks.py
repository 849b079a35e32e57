"""What is refused, recommended and told before a weight is read."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from blendin_cli import session
from blendin_mlx.errors import PairError
from blendin_models import pair
from blendin_models.catalogue import entries
from blendin_models.errors import ModelError
from blendin_models.loading import loader, memory, preflight
from blendin_models.loading.preflight import CacheCost
from tiny_folders import write_model


@pytest.fixture
def no_weights(monkeypatch):
    def read(*_):
        raise AssertionError("a weight was read")

    monkeypatch.setattr(loader, "evaluate_weights", read)


def test_a_pair_that_does_not_fit_is_refused_with_figures(run, tiny, monkeypatch, no_weights):
    monkeypatch.setattr(memory, "recommended", lambda: 1000)
    result = run("generate", *tiny, "hi")
    assert result.code == 5
    assert "and 0.0 MB are free here" in result.error()
    assert "--force" in result.error()


def test_force_goes_on(run, tiny, monkeypatch):
    monkeypatch.setattr(memory, "recommended", lambda: 1000)
    assert run("generate", *tiny, "--force", "-m", 2, "hi").code == 0


def test_a_longer_answer_needs_more(run, tiny, monkeypatch):
    asked = []
    check = memory.check_memory
    monkeypatch.setattr(memory, "check_memory", lambda *a: asked.append(a[1]) or check(*a))
    run("generate", *tiny, "-m", 2, "hi")
    run("generate", *tiny, "-m", 1002, "--stop", "t", "hi")
    assert asked[1] - asked[0] == 1000


def test_quantized_caches_need_less(run, tiny, monkeypatch):
    needs = []
    check = memory.check_memory
    monkeypatch.setattr(memory, "check_memory", lambda *a: needs.append(check(*a)) or needs[-1])
    for bits in ([], ["--kv-bits", 8], ["--kv-bits", 4]):
        assert run("generate", *tiny, *bits, "-m", 2, "hi").code == 0
    told = run("models", "check", tiny[1], tiny[3], "--json", "--tokens", 4098, "--kv-bits", 8)
    # of 32 numbers of 32 bits: 32 of 8 bits, or 4, and a scale and a bias
    assert [need.caches / needs[0].caches for need in needs] == [1, 40 / 128, 24 / 128, 40 / 128]
    assert json.loads(told.text)["caches_bytes"] == needs[1].caches


def test_a_reference_model_is_reckoned_with(run, tiny, monkeypatch):
    needs = []
    check = memory.check_memory
    monkeypatch.setattr(memory, "check_memory", lambda *a: needs.append(check(*a)) or needs[-1])
    assert run("generate", *tiny, "-m", 2, "hi").code == 0
    twin = ("--method", "proxy-tuning", "--reference", tiny[3])
    assert run("generate", *tiny, *twin, "-m", 2, "hi").code == 0
    assert needs[1].weights == needs[0].weights  # the aligned model once more: read once
    assert needs[1].caches > needs[0].caches


def test_the_reference_of_a_catalogue_pair_is_used_where_the_method_needs_one(run, monkeypatch):
    asked = []

    def locate_all(names, progress):
        asked.append(tuple(names))
        raise ModelError("far enough")

    monkeypatch.setattr(pair, "locate_all", locate_all)
    for method in ("proxy-tuning", "blendin"):
        run("generate", "--pair", "smollm2-large", "--method", method, "hi")
    named = ("smollm2-1.7b", "smollm2-360m-instruct")
    assert asked == [(*named, "smollm2-360m"), named]
    other = ("--aligned", "smollm2-135m-instruct")  # whose twin that is not
    told = run("generate", "--pair", "smollm2-large", *other, "--method", "proxy-tuning", "hi")
    assert (told.code, len(asked)) == (2, 2)
    assert "pass --reference MODEL" in told.error()


def test_check_reports_a_usable_pair(run, tiny, no_weights):
    told = json.loads(run("models", "check", tiny[1], tiny[3], "--json").text)
    assert (told["vocabularies"], told["shared_tokens"], told["fits"]) == ("same", 1.0, True)
    assert told["base"]["chat_template"] is False
    assert told["aligned"]["chat_template"] is True
    assert told["aligned"]["context_limit"] == told["base"]["context_limit"]
    assert told["weights_bytes"] == told["base"]["memory_bytes"] + told["aligned"]["memory_bytes"]
    longer = json.loads(run("models", "check", tiny[1], tiny[3], "--json", "--tokens", 8192).text)
    assert longer["caches_bytes"] == 2 * told["caches_bytes"]
    assert run("models", "check", "a", "b", "c").code == 2


def test_check_reports_and_refuses_an_unusable_pair(run, tiny, tmp_path, monkeypatch):
    raw = str(write_model(tmp_path / "raw", 3, chat_template=False))
    short = str(write_model(tmp_path / "short", 4, max_position_embeddings=512))
    refusals = [
        ((tiny[1], raw), 4, "raw has no chat template"),
        ((tiny[1], short, "--tokens", 513), 4, "short reads 512 tokens at most, not 513"),
        ((tiny[1], tiny[3], "--tokens", 10**9), 4, "reads 4096 tokens at most"),
    ]
    for arguments, code, said in refusals:
        result = run("models", "check", *arguments, "--json")
        assert result.code == code
        assert json.loads(result.text)["aligned"]["name"] in (raw[-3:], short[-5:], "aligned")
        assert said in result.err
    assert run("models", "check", tiny[1], short).code == 0
    told = json.loads(run("models", "check", tiny[1], short, "--json").text)
    assert (told["tokens"], told["caches_known"]) == (512, True)
    monkeypatch.setattr(memory, "recommended", lambda: 1000)
    result = run("models", "check", *tiny[1::2])
    assert result.code == 5
    assert "fits             no\n" in result.text
    assert "both models need " in result.err


def test_a_pair_without_a_chat_template_is_refused_before_a_weight(tiny, tmp_path, no_weights):
    raw = str(write_model(tmp_path / "raw", 3, chat_template=False))
    with pytest.raises(PairError, match=r"^raw has no chat template, .* --aligned-template FILE"):
        pair.load_pair(base=tiny[1], aligned=raw, needs_chat_template=True)
    with pytest.raises(AssertionError, match="a weight was read"):
        pair.load_pair(base=tiny[1], aligned=raw)
    with pytest.raises(AssertionError, match="a weight was read"):
        pair.load_pair(base=raw, aligned=tiny[3], needs_chat_template=True)


def test_a_cache_that_nobody_can_reckon_is_said(run, tiny, monkeypatch):
    monkeypatch.setattr(preflight, "_cache_cost", lambda network: CacheCost(known=False))
    told = run("models", "check", *tiny[1::2])
    assert told.code == 0
    assert "caches known     no\n" in told.text
    monkeypatch.setattr(memory, "recommended", lambda: 1000)
    said = "tokens (not counting all that base and aligned caches), and "
    assert said in run("models", "check", *tiny[1::2]).err


def test_recommended_settings_are_defaults(run, monkeypatch):
    entry = entries.PairEntry(
        name="mine", description="", base="b", aligned="a", tau=0.2, stop_policy="base"
    )
    monkeypatch.setattr(entries, "pairs", lambda: {"mine": entry})
    seen = []

    class Loaded(Exception):  # noqa: N818
        pass

    def stop(self, settings, quiet=False):
        seen.append((settings.tau, settings.stop_policy))
        raise Loaded

    monkeypatch.setattr(session.Session, "__init__", stop)
    run("generate", "--pair", "mine", "hi")
    run("generate", "--pair", "mine", "--tau", 0.4, "hi")
    run("generate", "--pair", "mine", "--base", "other", "hi")
    assert seen == [(0.2, "base"), (0.4, "base"), (None, "either")]


class Metal:
    """What of mlx matters for the wired limit."""

    def __init__(self) -> None:
        self.limit = 7
        self.metal = self
        self.seen: list[int] = []

    def is_available(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass

    def set_wired_limit(self, count: int) -> int:
        before, self.limit = self.limit, count
        self.seen.append(count)
        return before


def test_the_wired_limit_is_put_back(monkeypatch):
    metal = Metal()
    monkeypatch.setattr(memory, "mx", metal)
    monkeypatch.setattr(memory, "recommended", lambda: 100)
    with suppress(KeyError), memory.wired(500):
        assert metal.limit == 100
        raise KeyError
    assert metal.limit == 7
    with memory.wired(50):
        assert metal.limit == 50
    assert metal.limit == 7
    assert metal.seen == [100, 7, 50, 7]


def test_an_aligned_model_without_a_chat_template_is_refused_before_its_weights(
    run, tiny, no_weights
):
    result = run("generate", "--base", tiny[3], "--aligned", tiny[1], "hi")
    assert result.code == 4
    assert "pass one with --aligned-template" in result.error()
