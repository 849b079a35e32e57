"""Compare two guides of one base: how often each is asked, and what the answers become.

python examples/compare_guides.py smollm2-135m-instruct qwen2.5-coder-0.5b-instruct
"""

import sys

from blendin_mlx import build_prompt, stream_generate
from blendin_models import load_pair

BASE = "gemma-3-270m"
QUESTIONS = ["What is the capital of Australia?", "How do I boil an egg?", "Name three colours."]

for guide in sys.argv[1:] or ["smollm2-135m-instruct"]:
    pair = load_pair(base=BASE, aligned=guide)
    asked = tokens = 0
    for question in QUESTIONS:
        prompt = build_prompt(pair, question, base_template="examples")
        *_, last = stream_generate(pair, prompt, max_tokens=48)
        asked += last.statistics.interventions
        tokens += last.statistics.completion_tokens
        print(f"{guide}: {question} {last.statistics.text.strip()!r}")
    print(f"{guide}: asked at {asked / tokens:.0%} of {tokens} tokens\n")
