"""``blendin bench``: the ratios of three programs."""

from __future__ import annotations

import json


def test_ratios_follow_from_the_speeds(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    result = run("bench", *tiny, "--rounds", 1, "-m", 6, "--json")
    assert (result.code, result.err) == (0, "round 1 of 1\n")
    report = json.loads(result.text)
    speed = report["tokens_per_s"]
    assert report["ratios"] == {
        "draft / base": speed["draft"] / speed["base"],
        "draft / plain": speed["draft"] / speed["plain"],
        "plain / base": speed["plain"] / speed["base"],
    }
    assert report["guide_cost"] > 0
    assert report["models"] == {"base": "base", "aligned": "aligned"}


def test_for_a_person_the_ratios_come_first(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDIN_HOME", str(tmp_path))
    result = run("bench", *tiny, "--rounds", 1, "-qm", 6)
    names = [line.split("  ")[0] for line in result.text.splitlines()]
    assert names == ["draft / base", "draft / plain", "plain / base", "tokens/s", "a guide pass"]
    assert result.err == ""


def test_half_a_pair_is_refused(run, tiny):
    result = run("bench", *tiny[:2])
    assert result.code == 2
    assert "--aligned" in result.error()
