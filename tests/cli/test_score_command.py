"""``blendin score``: the answers of a line, scored; a bad line costs nothing but itself."""

from __future__ import annotations

import json

import pytest

BAD = (
    ({"prompt": "hi"}, 'either "answer" or "answers"'),
    ({"prompt": "hi", "anwser": "a"}, 'did you mean "answer" by "anwser"?'),
    ({"prompt": "hi", "answer": "a", "answers": ["b"]}, 'either "answer" or "answers"'),
    ({"answer": "a"}, 'either "prompt" or "messages"'),
    ({"prompt": "hi", "answers": []}, "at least one"),
    ({"prompt": "hi", "answers": "ab"}, "a list of texts"),
    ({"prompt": "hi", "answer": 7}, "an answer must be a text"),
    ({"prompt": "hi", "answer": "a", "temp": 1}, "'temp' is not an option"),
    ({"prompt": "hi", "answer": "a", "tau": 2}, "tau"),
    ({"prompt": "hi", "answer": "x" * 9000}, "whose context holds"),
)


@pytest.fixture
def lines(run, tiny):
    """``lines({"prompt": …, "answer": …})``: what comes out, the exit code and stderr."""

    def call(*given, options=()):
        data = b"".join(json.dumps(line).encode() + b"\n" for line in given)
        result = run("score", *tiny, *options, "-", stdin=data)
        return [json.loads(line) for line in result.text.splitlines()], result.code, result.err

    return call


def test_answers_are_scored_and_the_best_is_named(lines):
    found, code, err = lines(
        {"id": 7, "prompt": "hi", "answers": ["yes", "no, never at all", "yes"]},
        {"messages": [{"role": "user", "content": "hi"}], "answer": "yes", "method": "base"},
    )
    assert code == 0
    first, second = found
    assert (first["line"], first["id"], second["line"]) == (1, 7, 2)
    scores = first["scores"]
    assert scores[0]["log_likelihood"] == pytest.approx(sum(scores[0]["log_probs"]))
    assert scores[2]["log_likelihood"] == pytest.approx(scores[0]["log_likelihood"], abs=1e-3)
    totals = [one["log_likelihood"] for one in scores]
    assert totals[first["best"]] == max(totals)
    by_byte = [one["bits_per_byte"] for one in scores]
    assert by_byte[first["best_by_byte"]] == min(by_byte)
    assert second["scores"][0]["interventions"] == 0
    everything = sum(totals) + second["scores"][0]["log_likelihood"]
    assert f"4 answers, log-likelihood {everything:.2f} nats" in err
    assert "2 lines, 0 failed" in err


@pytest.mark.parametrize("command", ["score", "tune"])
def test_stop_policy_is_not_an_option(run, command):
    assert "--stop-policy" not in run(command, "--help").text
    assert "No such option '--stop-policy'" in run(command, "--stop-policy", "base").error()


def test_a_part_of_an_answer_has_no_end(lines):
    (whole,), _, _ = lines({"prompt": "hi", "answer": "yes"})
    (part,), _, _ = lines({"prompt": "hi", "answer": "yes"}, options=("--part",))
    assert part["scores"][0]["token_ids"] == whole["scores"][0]["token_ids"][:-1]
    assert part["scores"][0]["bytes"] == 3


def test_bad_lines_are_named_and_the_others_scored(lines):
    good = {"prompt": "hi", "answer": "yes"}
    found, code, err = lines(*(line for line, _ in BAD), good)
    assert code == 1
    for result, (line, reason) in zip(found, BAD, strict=False):
        assert reason in result["error"], line
    assert "scores" in found[-1]
    assert f"{len(BAD) + 1} lines, {len(BAD)} failed" in err


def test_resume_from_earlier_output(run, tiny, tmp_path):
    given = tmp_path / "in.jsonl"
    given.write_text("".join(json.dumps({"prompt": p, "answer": "a"}) + "\n" for p in "xyz"))
    whole = run("score", *tiny, given).text.splitlines()
    before = tmp_path / "out.jsonl"
    before.write_text(whole[0] + "\n" + '{"line": 2, "error": "no"}\n' + whole[2][:9])
    again = run("score", *tiny, given, "--resume-from", before)
    first, second = (json.loads(line) for line in again.text.splitlines())
    assert (first["line"], second["line"]) == (2, 3)
    expected = json.loads(whole[1])["scores"][0]["log_likelihood"]
    assert first["scores"][0]["log_likelihood"] == pytest.approx(expected, abs=1e-2)
    assert "1 answered before" in again.err
