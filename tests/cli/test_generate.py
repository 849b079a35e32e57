"""What ``blendin generate`` writes where: the answer, the JSON object, the trace, the figures."""

from __future__ import annotations

import json
import re
import sys

import pytest

from blendin_cli.options import settings, types
from blendin_models import load_pair
from tiny_folders import write_model

RESULT = {
    "text": str,
    "finish_reason": str,
    "usage": {"base_prompt_tokens": int, "aligned_prompt_tokens": int, "completion_tokens": int},
    "blend": {
        "method": str,
        "tau": float,
        "alpha": str,
        "gate": str,
        "interventions": int,
        "intervention_rate": float,
        "overrides": int,
        "stop_checks": int,
        "mean_alpha": float,
        "exact_mass": float,
        "stop_policy": str,
        "lambda": float,
    },
    "passes": {"base": int, "aligned": int},
    "draft": {"proposed": int, "accepted": int, "off_because": (str, type(None))},
    "cache": {
        "base": {"rewinds_by": str, "reread_tokens": int},
        "aligned": {"rewinds_by": str, "reread_tokens": int},
    },
    "timing": {"load_s": float, "prefill_s": float, "decode_s": float, "tokens_per_s": float},
    "memory": {"peak_bytes": int},
    "models": {"base": str, "aligned": str},
    "seed": int,
    "token_ids": list,
}
STEP = {"type", "index", "id", "text", "source", "base", "aligned", "alpha", "prob"}
STEP |= {"exact_mass", "stop_prob"}


def check_shape(value, shape):
    """The same keys, down to the types."""
    if isinstance(shape, dict):
        assert value.keys() == shape.keys()
        for key, inner in shape.items():
            check_shape(value[key], inner)
    else:
        assert isinstance(value, shape)


def test_stdout_is_the_answer_and_stderr_the_figures(run, tiny):
    result = run("generate", *tiny, "-m", 12, "hi")
    assert result.code == 0
    assert result.text.endswith("\n")
    assert result.text.strip().isascii()
    figures = r"12 tokens · [\d.]+/s · guide asked \d+× · cut at --max-tokens\n"
    assert re.fullmatch(figures, result.err)
    every = r"12 tokens, [\d.]+ tokens/s, \d+ interventions \([\d.]+%\), mean α [\d.]+, end: "
    assert re.fullmatch(every + "length\n", run("generate", *tiny, "-vm", 12, "hi").err)


def test_quiet_writes_the_answer_only(run, tiny):
    loud, quiet = run("generate", *tiny, "-m", 5, "hi"), run("generate", *tiny, "-qm", 5, "hi")
    assert (quiet.out, quiet.err) == (loud.out, "")


@pytest.mark.parametrize("draft", ["auto", "guide", "lookup"])
def test_drafting_never_changes_the_answer(run, tiny, tmp_path, monkeypatch, draft):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    plain = json.loads(run("generate", *tiny, "-m", 24, "--json", "hi").text)
    drafted = json.loads(run("generate", *tiny, "-m", 24, "--json", "--draft", draft, "hi").text)
    assert (drafted["token_ids"], drafted["text"]) == (plain["token_ids"], plain["text"])
    assert plain["draft"] == {"proposed": 0, "accepted": 0, "off_because": None}
    assert (tmp_path / "costs.json").exists()


def test_drafts_of_a_fixed_length_need_no_measurement_and_are_counted(
    run, tiny, tmp_path, monkeypatch
):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    options = ("--draft", "guide", "--num-draft-tokens", 3)
    result = run("generate", *tiny, "-vm", 24, *options, "hi")
    taken, proposed = re.search(r"(\d+) of (\d+) drafted tokens accepted", result.err).groups()
    assert 0 <= int(taken) <= int(proposed)
    assert int(proposed) > 3
    assert not (tmp_path / "costs.json").exists()


def test_that_drafting_does_not_pay_is_said_once(run, tiny, monkeypatch):
    from blendin_mlx.drafting.pass_costs import Costs
    from blendin_models import pass_costs

    # Verifying costs as much as reading one by one, and the guide as much as the base.
    monkeypatch.setattr(pass_costs, "kept_costs", lambda pair: Costs(((1, 1.0), (9, 9.0)), 1.0))
    result = run("chat", *tiny, "--draft", "auto", "-m", 6, stdin=b"one\ntwo\n")
    assert result.err.count("drafting is off: it does not pay") == 1
    quiet = run("chat", *tiny, "--draft", "auto", "-qm", 6, stdin=b"one\ntwo\n")
    assert quiet.err == ""


@pytest.mark.parametrize("show", ["text", "blend"])
def test_why_drafting_is_off_begins_a_line(run, tiny, monkeypatch, show):
    from blendin_mlx.drafting.pass_costs import Costs
    from blendin_models import pass_costs

    monkeypatch.setattr(pass_costs, "kept_costs", lambda pair: Costs(((1, 1.0), (9, 9.0)), 1.0))
    as_on_a_terminal = lambda line, quiet: sys.stdout.buffer.write(line.encode())  # noqa: E731
    monkeypatch.setattr("blendin_cli.session.say", as_on_a_terminal)
    result = run("generate", *tiny, "--draft", "auto", "--show", show, "-m", 6, "hi")
    assert "\ndrafting is off" in result.text


def test_json_object(run, tiny):
    result = run("generate", *tiny, "-m", 24, "--json", "--seed", 7, "--temp", 0.5, "hi")
    assert result.text.count("\n") == 1
    answer = json.loads(result.text)
    check_shape(answer, RESULT)
    assert answer["models"] == {"base": "base", "aligned": "aligned"}
    assert answer["seed"] == 7
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == len(answer["token_ids"]) == 24
    blend = answer["blend"]
    assert blend["tau"] == 0.4
    assert blend["interventions"] == round(blend["intervention_rate"] * 24)
    assert 0 < blend["overrides"] <= blend["interventions"] < 24
    base = load_pair(base=tiny[1], aligned=tiny[3]).base
    assert base.tokenizer.decode(answer["token_ids"]) == answer["text"]


def test_json_text_is_the_plain_answer(run, tiny):
    told = json.loads(run("generate", *tiny, "-m", 9, "--json", "hi").text)
    assert run("generate", *tiny, "-m", 9, "hi").text == told["text"] + "\n"


def test_a_seed_repeats_an_answer_and_one_is_reported(run, tiny):
    sampled = (*tiny, "-m", 30, "--json", "--temp", 2)
    first = json.loads(run("generate", *sampled, "hi").text)
    again = json.loads(run("generate", *sampled, "--seed", first["seed"], "hi").text)
    other = json.loads(run("generate", *sampled, "--seed", first["seed"] ^ 1, "hi").text)
    assert again["token_ids"] == first["token_ids"] != other["token_ids"]


def test_trace_agrees_with_the_json_object(run, tiny, tmp_path):
    file = tmp_path / "t.jsonl"
    plain = run("generate", *tiny, "-m", 24, "hi").text
    options = ("-m", 24, "--json", "--stop", plain[5:12] + "§")  # withheld, then shown at once
    answer = json.loads(run("generate", *tiny, *options, "--trace", file, "hi").text)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    first, *steps, last = records
    assert [first["type"], *{step["type"] for step in steps}, last["type"]] == [
        "run",
        "step",
        "end",
    ]
    assert first["models"]["base"] == {"name": "base", "path": tiny[1], "revision": None}
    assert first["base_prompt"]["text"].endswith("# Answer:\n")
    assert "hi" in first["aligned_prompt"]["text"]
    assert len(first["aligned_prompt"]["ids"]) == answer["usage"]["aligned_prompt_tokens"]
    assert {"version", "tau", "alpha", "method", "seed", "max_tokens", "temp"} <= first.keys()
    for index, step in enumerate(steps):
        assert step.keys() >= STEP
        assert step["index"] == index
        assert (step["source"] == "base") == (step["alpha"] is None)
    assert [step["id"] for step in steps] == answer["token_ids"]
    assert "".join(step["text"] for step in steps) == answer["text"]
    blend = answer["blend"]
    assert sum(step["alpha"] is not None for step in steps) == blend["interventions"]
    changed = [s for s in steps if s["alpha"] is not None and s["id"] != s["base"]["id"]]
    assert len(changed) == blend["overrides"]
    text = answer.pop("text")
    assert text
    assert last == {"type": "end", **answer}


def test_stop_string_ends_before_it(run, tiny):
    whole = run("generate", *tiny, "-m", 20, "hi").text[:-1]
    cut = json.loads(run("generate", *tiny, "-m", 20, "--json", "--stop", whole[9:12], "hi").text)
    assert cut["finish_reason"] == "stop_string"
    assert cut["text"] == whole[: whole.index(whole[9:12])]


def prompts(run, tiny, tmp_path, *arguments, stdin=b""):
    file = tmp_path / "t.jsonl"
    assert run("generate", *tiny, "-m", 1, "--trace", file, *arguments, stdin=stdin).code == 0
    record = json.loads(file.read_text().splitlines()[0])
    return record["base_prompt"]["text"], record["aligned_prompt"]["text"]


def test_standard_input_and_argument_are_joined(run, tiny, tmp_path):
    base, aligned = prompts(run, tiny, tmp_path, "second", stdin="fïrst\n".encode())
    assert "# Query:\nfïrst\n\nsecond\n" in base
    assert "fïrst\n\nsecond" in aligned


def test_dash_is_standard_input(run, tiny, tmp_path):
    base, _ = prompts(run, tiny, tmp_path, "-", stdin=b"piped")
    assert "# Query:\npiped\n" in base


def test_system_prompt_and_template_reach_the_models(run, tiny, tmp_path):
    file = tmp_path / "t.jinja"
    file.write_text("[{{ system }}] {{ messages[0].content }} ->")
    base, aligned = prompts(
        run, tiny, tmp_path, "--system", "be kind", "--base-template", file, "hi"
    )
    assert base == "[be kind] hi ->"
    assert "<|system|>\nbe kind" in aligned


def test_options_come_from_the_environment(run, tiny, monkeypatch):
    monkeypatch.setenv("BLENDIN_GENERATE_TAU", "0.25")
    monkeypatch.setenv("BLENDIN_GENERATE_MAX_TOKENS", "3")
    answer = json.loads(run("generate", *tiny, "--json", "hi").text)
    assert answer["blend"]["tau"] == 0.25
    assert answer["usage"]["completion_tokens"] == 3
    told = json.loads(run("generate", *tiny, "--json", "--tau", "0", "hi").text)
    assert told["blend"]["tau"] == 0.0  # the command line comes first, and 0 is a value
    assert told["blend"]["interventions"] == 0
    monkeypatch.setenv("BLENDIN_GENERATE_TAU", "7")
    assert "7" in run("generate", *tiny, "hi").error()


def test_alpha_zero_is_a_value(run, tiny):
    answer = json.loads(run("generate", *tiny, "--json", "-m", 9, "--alpha", "0", "hi").text)
    assert answer["blend"]["method"] == "fixed"
    assert answer["blend"]["alpha"] == answer["blend"]["mean_alpha"] == 0.0
    assert answer["blend"]["overrides"] == 0


def test_quantized_caches(run, tiny):
    assert run("generate", *tiny, "-m", 3, "--kv-bits", 8, "hi").code == 0


@pytest.mark.parametrize("method", settings.METHODS)
def test_every_method_answers(run, tiny, method):
    twin = ("--reference", tiny[3]) if method == "proxy-tuning" else ()
    asked = run("generate", *tiny, *twin, "-m", 3, "--json", "--method", method, "hi")
    answer = json.loads(asked.text)
    assert answer["blend"]["method"] == method
    assert ("reference" in answer["models"]) == ("reference" in answer["passes"]) == bool(twin)


@pytest.mark.parametrize(("method", "value"), [("blendin", 0.3), ("kad", 0.3), ("kad", 0.0)])
def test_lambda_reaches_the_method(run, tiny, method, value):
    given = ("--method", method, "--lambda", value)
    answer = json.loads(run("generate", *tiny, *given, "-m", 3, "--json", "hi").text)
    assert answer["blend"]["lambda"] == value


def test_proxy_tuning_without_a_reference_is_a_usage_error_in_one_line(run, tiny):
    refused = run("generate", *tiny, "--method", "proxy-tuning", "hi")
    assert refused.code == 2
    assert "pass --reference MODEL" in refused.error()


def test_the_names_in_the_options_are_the_engines():
    import typing

    from blendin_mlx import prompts
    from blendin_mlx.blend import gates, methods
    from blendin_mlx.decoding import rules
    from blendin_mlx.drafting import drafter
    from blendin_mlx.tokens import projection

    assert set(settings.METHODS) == set(methods.METHODS)
    assert tuple(gates.GATES) == settings.GATES
    assert typing.get_args(rules.StopPolicy) == settings.STOP_POLICIES
    assert (*prompts.BASE_TEMPLATES, "chat") == types.BASE_TEMPLATES
    assert typing.get_args(drafter.Draft) == settings.DRAFTS
    assert set(settings.PROJECTIONS) == set(typing.get_args(projection.ProjectionRule))


def test_context_lowers_or_raises_the_limit_of_both_models(run, tiny, tmp_path):
    ended = run("generate", *tiny, "--context", 200, "--json", "-m", 250, "hi")
    result = json.loads(ended.text)
    assert result["finish_reason"] == "context"
    refused = run("generate", *tiny, "--context", 4, "hi")
    assert refused.code == 2
    assert "whose context holds 4" in refused.err
    short = write_model(tmp_path / "short", 1, max_position_embeddings=200)
    pair = ("--base", short, "--aligned", tiny[3])
    for given, reason in (((), "context"), (("--context", 4096), "length")):
        ended = run("generate", *pair, *given, "--json", "-m", 250, "hi")
        assert json.loads(ended.text)["finish_reason"] == reason
