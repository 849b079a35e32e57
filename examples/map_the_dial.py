"""Map the dial: which gate and which constant weight make good answers likeliest?

python examples/map_the_dial.py
"""

from blendin_mlx import Dial, build_prompt, dial_map
from blendin_models import load_pair

GOOD = {
    "What is the capital of Australia?": "The capital of Australia is Canberra.",
    "How many legs does a spider have?": "A spider has eight legs.",
    "Name three primary colors.": "1. Red\n2. Yellow\n3. Blue",
}
TAUS, ALPHAS = (0.2, 0.4, 0.6, 0.8, 1.0), (0.0, 0.25, 0.5, 0.75, 1.0)

pair = load_pair("demo")
examples = [
    (build_prompt(pair, question, base_template="examples"), answer)
    for question, answer in GOOD.items()
]
read = dial_map(pair, examples, complete=False)  # one pass; the rest is arithmetic
tokens = read.counts.sum()

print("nats a token   " + "".join(f"α {alpha:<7}" for alpha in ALPHAS))
for tau in TAUS:
    totals = read.totals([Dial(tau=tau, alpha=alpha) for alpha in ALPHAS])
    print(f"τ {tau:<13}" + "".join(f"{total / tokens:<9.3f}" for total in totals.sum(axis=1)))
print("three answers prove nothing: `blendin tune` says how sure it is")
