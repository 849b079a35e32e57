"""Tasks written from question sets ask what the harness's own tasks of these names ask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import harness_tasks
from blendin_cli.eval.tasks import load_tasks

BOOK = {"question": "Fog is ", "options": "A. dry\nB. a cloud. low", "answer": "B. a cloud. low"}
CHOICE = {"question": "Why?", "A": "so", "B": "no", "C": "never", "D": "", "answer": "C"}
LOST = {"question": "Why?", "A": "", "B": "", "C": "", "D": "", "answer": "2"}
HOW = {"question": "Open it.", "A": "push", "B": "pull", "answer": "A"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(harness_tasks, "openbook_lines", lambda: [BOOK])
    for file, lines in (("arc_challenge_test", [CHOICE, LOST]), ("piqa_dev", [HOW])):
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    harness_tasks.write_tasks(tmp_path / "tasks", tmp_path)
    return tmp_path / "tasks"


@pytest.mark.parametrize(
    ("name", "requests"),
    [
        ("openbookqa", [("Fog is", " dry"), ("Fog is", " a cloud. low")]),
        (
            "arc_challenge",
            [("Question: Why?\nAnswer:", f" {one}") for one in ("so", "no", "never")],
        ),
        ("piqa", [("Question: Open it.\nAnswer:", f" {one}") for one in ("push", "pull")]),
    ],
)
def test_what_is_asked(folder, name, requests):
    (task,) = load_tasks([f"local_{name}"], folder)["tasks"]
    task.set_config(key="num_fewshot", value=0)
    task.build_all_requests()
    assert [one.args for one in task.instances] == requests
    assert task.instances[0].doc["answer"] == {"openbookqa": 1, "arc_challenge": 2, "piqa": 0}[name]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("openbookqa", "openbookqa/openbookqa.yaml"),
        ("arc_challenge", "arc/arc_easy.yaml"),
        ("piqa", "piqa/piqa.yaml"),
    ],
)
def test_form_and_metrics_are_the_harness_own(folder, name, file):
    import lm_eval

    theirs = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks" / file).read_text())
    ours = yaml.safe_load((folder / f"{name}.yaml").read_text())
    assert ours["metric_list"] == theirs["metric_list"]
    assert ours["output_type"] == theirs["output_type"]
    named = {"openbookqa": "question_stem", "arc_challenge": "{{question}}", "piqa": "{{goal}}"}
    asked = theirs["doc_to_text"].replace(named[name], "{{question}}")
    assert ours["doc_to_text"] == asked


def test_without_a_folder_there_is_one_task(tmp_path, monkeypatch):
    monkeypatch.setattr(harness_tasks, "openbook_lines", lambda: [BOOK])
    assert harness_tasks.write_tasks(tmp_path, None) == ["local_openbookqa"]
