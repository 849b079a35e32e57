"""Decode by a method of one's own: both models must find a token likely, wherever one is unsure.

python examples/own_method.py "Why is the sky blue?"
"""

import sys
from dataclasses import dataclass
from typing import ClassVar

from blendin_mlx import Advice, Method, Target, View, generate, mx
from blendin_models import load_pair


@dataclass(frozen=True)
class GeometricMean(Method):
    """The geometric mean of both distributions, wherever the base's confidence is below ``tau``."""

    name: ClassVar[str] = "geometric-mean"
    tau: float = 0.4

    def unsure(self, view: View, greedy: bool) -> mx.array:
        return view.confidence < self.tau

    def target(self, base: View, aligned: Advice) -> Target:
        both = mx.sqrt(base.probs * aligned.probs)
        probs = both / both.sum(axis=-1, keepdims=True)
        return Target(probs, mx.full(base.confidence.shape, 0.5))


question = " ".join(sys.argv[1:]) or "Why is the sky blue?"
print(generate(load_pair("demo"), question, method=GeometricMean(), max_tokens=48))
