"""Look into a trace: where the guide changed the base's mind, and what else was in question.

blendin generate --trace run.jsonl "Why is the sky blue?"
python examples/read_trace.py run.jsonl
"""

import sys
from pathlib import Path

from blendin_mlx import read_trace

run, *steps, end = read_trace(Path(sys.argv[1]))
print(f"{run['models']['base']['name']} guided by {run['models']['aligned']['name']}")
for step in steps:
    if step["alpha"] is None or step["id"] == step["base"]["id"]:
        continue  # the base's own choice
    base, guide = step["base"], step["aligned"]
    print(f"token {step['index']}: {step['text']!r} in place of {base['text']!r};", end=" ")
    print(f"the guide wanted {guide['text']!r} ({guide['prob']:.2f}), α {step['alpha']:.2f}")
print(f"{end['blend']['overrides']} of {len(steps)} tokens were overridden")
