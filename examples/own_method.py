"""Decode by a method of one's own: ask the guide where the base's two best tokens are close.

python examples/own_method.py "Why is the sky blue?"
"""

import sys
from dataclasses import dataclass
from typing import ClassVar

from blendin_mlx import Advice, Method, Target, View, generate, mx
from blendin_models import load_pair


@dataclass(frozen=True)
class MarginGate(Method):
    """An even mixture wherever the base's lead is below ``margin``."""

    name: ClassVar[str] = "margin-gate"
    margin: float = 0.2

    def unsure(self, view: View, greedy: bool) -> mx.array:
        best = mx.topk(view.probs, 2, axis=-1)  # [..., 2], in no order
        return best.max(axis=-1) - best.min(axis=-1) < self.margin

    def target(self, base: View, aligned: Advice) -> Target:
        return Target((base.probs + aligned.probs) / 2, mx.full(base.confidence.shape, 0.5))


question = " ".join(sys.argv[1:]) or "Why is the sky blue?"
print(generate(load_pair("demo"), question, method=MarginGate(), max_tokens=48))
