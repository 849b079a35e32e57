"""``--dial``, ``--guide-temp``, ``--temper``, ``--gate``: in answers, traces, lines and chats."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from blendin_cli import session, tuned
from blendin_cli.generate import generate
from blendin_cli.options.settings import UNASKED
from blendin_models.catalogue import entries

TURNED = ("--tau", "1", "--dial", "0.4", "--guide-temp", "2", "-m", "12")


@pytest.fixture
def mine(monkeypatch):
    """A pair of the catalogue that was tuned for some weights."""
    entry = entries.PairEntry(
        name="mine", description="", base="b", aligned="a", tau=0.9, dial=0.4, guide_temp=2.0,
        tuned_for="those",
    )  # fmt: skip
    monkeypatch.setattr(entries, "pairs", lambda: {"mine": entry})
    return entry


def test_they_are_in_the_answer_and_its_trace_is_verified(run, tiny, tmp_path):
    file = tmp_path / "run.jsonl"
    answer = json.loads(run("generate", *tiny, *TURNED, "--json", "--trace", file, "hi").text)
    blend = answer["blend"]
    assert (blend["dial"], blend["guide_temp"]) == (0.4, 2.0)
    recorded = json.loads(file.read_text().splitlines()[0])
    assert (recorded["dial"], recorded["guide_temp"]) == (0.4, 2.0)
    assert run("trace", "verify", file).code == 0
    file.write_text(file.read_text().replace('"guide_temp": 2.0', '"guide_temp": 1.0'))
    assert run("trace", "verify", file).code == 1


TEMPERED = ("--method", "nudging", "--gate", "entropy", "--tau", 0.3, "--temper", 0.5, "-m", 12)


def test_gate_and_tempering_are_in_the_answer_and_its_trace_is_verified(run, tiny, tmp_path):
    file = tmp_path / "run.jsonl"
    asked = run("generate", *tiny, *TEMPERED, "--json", "--trace", file, "hi")
    blend = json.loads(asked.text)["blend"]
    assert (blend["method"], blend["gate"], blend["temper"]) == ("nudging", "entropy", 0.5)
    assert run("trace", "verify", file).code == 0
    assert "gate entropy" in run("trace", "view", file).text
    recorded = file.read_text()
    for said, other in (('"temper": 0.5', '"temper": 1.0'), ('"entropy"', '"confidence"')):
        file.write_text(recorded.replace(said, other))
        assert run("trace", "verify", file).code == 1


def test_a_line_may_set_gate_and_tempering_and_a_chat_shows_them(run, tiny):
    line = {"prompt": "hi", "method": "nudging", "gate": "entropy", "tau": 0.3, "temper": 0.5}
    text = json.dumps({**line, "max_tokens": 12}).encode() + b"\n"
    alone = json.loads(run("generate", *tiny, *TEMPERED, "--json", "hi").text)
    assert json.loads(run("run", *tiny, "-", stdin=text).text)["token_ids"] == alone["token_ids"]
    lines = b"/set gate margin\n/set temper 2\n/set\n/method kad\n/set gate margin\n"
    said = run("chat", *tiny, "-q", stdin=lines).err
    assert "gate                     margin (set in this chat)" in said
    assert "temper                   2 (set in this chat)" in said
    assert "without gate, set for blendin" in said
    assert "--method kad has --lambda; it does not take --gate" in said


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--method", "kad", "--gate", "margin"), "it does not take --gate"),
        (("--method", "kad-primal", "--tau", 0.4), "--method kad-primal has --lambda"),
        (("--method", "kad-primal", "--lambda", 1.5), "lambda must be between 0 and 1, not 1.5"),
        (("--method", "contrastive", "--lambda", 2), "lambda must be between 0 and 1, not 2"),
        (("--method", "contrastive", "--alpha", 0.1), "has --beta and --lambda"),
        (("--gate", "surprise"), "'surprise' is not one of 'confidence', 'entropy', 'margin'"),
        (("--temper", 0), "--temper"),
        (("--temper", 20, "--guide-temp", 20), "guide_temp · temper must be between"),
    ],
)
def test_what_a_method_does_not_take_is_refused_in_one_line(run, tiny, options, why):
    refused = run("generate", *tiny, *options, "hi")
    assert refused.code == 2
    assert why in refused.error()


@pytest.mark.parametrize("option", [("--gate", "entropy"), ("--temper", 2)])
def test_tune_knows_one_gate_and_models_as_they_are(run, tiny, option):
    refused = run("tune", *tiny, *option)
    assert refused.code == 2
    assert "leave out what differs" in refused.error()


def test_at_dial_zero_the_base_is_alone(run, tiny):
    off = run("generate", *tiny, "--tau", 1, "--dial", 0, "-m", 12, "hi").text
    assert off == run("generate", *tiny, "--method", "base", "-m", 12, "hi").text
    assert off != run("generate", *tiny, "--tau", 1, "-m", 12, "hi").text


def test_a_line_and_a_chat_may_set_them(run, tiny):
    line = json.dumps({"prompt": "hi", "tau": 1, "dial": 0.4, "guide_temp": 2, "max_tokens": 12})
    of_line = json.loads(run("run", *tiny, "-", stdin=line.encode() + b"\n").text)
    alone = run("generate", *tiny, *TURNED, "--json", "hi").text
    assert of_line["token_ids"] == json.loads(alone)["token_ids"]
    said = run("chat", *tiny, "-q", stdin=b"/set dial 0.3\n/dial\n/dial 0.5\n/set\n").err
    assert "the dial is at 0.3" in said
    assert "dial                     0.5" in said


@pytest.mark.parametrize(
    ("option", "value"), [("--dial", "1.1"), ("--guide-temp", "0"), ("--guide-temp", "nan")]
)
def test_out_of_range(run, tiny, option, value):
    result = run("generate", *tiny, option, value, "hi")
    assert result.code == 2
    assert option in result.err


def test_a_pair_recommends_them_but_no_option_that_a_method_lacks(run, mine, monkeypatch):
    seen = []

    class Loaded(Exception):  # noqa: N818
        pass

    def stop(self, settings, quiet=False):
        seen.append((settings.tau, settings.dial, settings.guide_temp))
        raise Loaded

    monkeypatch.setattr(session.Session, "__init__", stop)
    run("generate", "--pair", "mine", "hi")
    run("generate", "--pair", "mine", "--dial", 1, "--method", "ensemble", "hi")
    assert seen == [(0.9, 0.4, 2.0), (None, 1.0, 2.0)]


@dataclass(frozen=True)
class Some:
    """What of settings matters for a tuning."""

    pair: str | None = "mine"
    tau: float | None = 0.9
    alpha: float | None = None
    dial: float = 0.4
    guide_temp: float = 1.5


def test_a_tuning_for_other_weights_is_left_out_and_that_is_said(mine, monkeypatch):
    monkeypatch.setattr(tuned, "weights_digest", lambda pair: "those")
    assert tuned.without_stale_tuning(Some(), None) == (Some(), None)
    monkeypatch.setattr(tuned, "weights_digest", lambda pair: "others")
    left, said = tuned.without_stale_tuning(Some(), None)
    assert left == Some(tau=None, dial=1.0)  # the temperature is the user's own
    assert "mine was tuned for other weights than these" in said
    assert tuned.without_stale_tuning(Some(pair=None), None) == (Some(pair=None), None)


def test_commands_that_write_no_answer_use_the_defaults_of_its_options():
    """But for drafts: nothing is drafted where nothing is written."""
    values = generate.make_context("generate", ["hi"]).params
    defaults = {name: values[name] for name in UNASKED}
    assert {**defaults, "draft": "off"} == UNASKED
