"""Tasks of lm-evaluation-harness over a few questions in a local file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

QUESTIONS: list[dict[str, Any]] = [
    {"q": "Which capital?", "c": ["Paris", "a long banana", "the cat"], "a": 0},
    {"q": "What colour?", "c": ["of stone", "green", "hot water"], "a": 1},
    {"q": "Which animal is it that sat on the mat?", "c": ["a dog", "hats", "the cat"], "a": 2},
]

HEAD = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "Question: {{{{q}}}}\\nAnswer:"
metadata: {{version: 1.0}}
"""
FORMS = {
    "choices": """
output_type: multiple_choice
doc_to_choice: "{{c}}"
doc_to_target: "{{a}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "words": """
output_type: generate_until
doc_to_target: "{{c[a]}}"
generation_kwargs: {max_gen_toks: 8, until: ["o"]}
metric_list: [{metric: exact_match}]
""",
    "texts": """
output_type: loglikelihood_rolling
doc_to_target: "{{q}}"
metric_list: [{metric: bits_per_byte}, {metric: byte_perplexity}]
""",
    "begun": """
output_type: multiple_choice
gen_prefix: "It is"
doc_to_choice: "{{c}}"
doc_to_target: "{{a}}"
metric_list: [{metric: acc}]
""",
    "beams": """
output_type: generate_until
doc_to_target: "{{c[a]}}"
generation_kwargs: {num_beams: 4, until: ["o"]}
metric_list: [{metric: exact_match}]
""",
}


def write_tasks(
    folder: Path,
    names: Sequence[str] = ("choices", "words", "texts", "begun"),
    questions: Sequence[Mapping[str, Any]] = QUESTIONS,
) -> Path:
    """Write task files and their questions; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in questions))
    for name in names:
        head = HEAD.format(name=name, data=data)
        (folder / f"{name}.yaml").write_text(head + FORMS[name])
    return folder
