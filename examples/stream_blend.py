"""Stream a blend, and mark what the guide changed.

python examples/stream_blend.py "How many legs does a spider have?"
"""

import sys

from blendin_mlx import build_prompt, stream_generate
from blendin_models import load_pair

question = " ".join(sys.argv[1:]) or "How many legs does a spider have?"
pair = load_pair("demo")
prompt = build_prompt(pair, question, base_template="examples")

for response in stream_generate(pair, prompt, method="blendin", max_tokens=64):
    for piece in response.pieces:  # one decided token, and the characters that it completed
        text = f"[{piece.text}]" if piece.step.is_override else piece.text
        print(text, end="", flush=True)

statistics = response.statistics
print(f"\n{statistics.completion_tokens} tokens, the guide was asked at {statistics.interventions}")
