"""Make the guide of an answer: of one aligned model, or of several."""

from __future__ import annotations

from collections.abc import Sequence

from ..blend.dial import guide_temperature
from ..blend.method import Method
from ..errors import PairError
from ..model import Pair
from ..tokens.projection import ProjectionRule
from .advisor import Advisor
from .guide import Guide, Reference
from .mixed_guide import MixedGuide
from .reader import Readers


def make_guide(
    pair: Pair,
    readers: Readers,
    method: Method,
    rule: ProjectionRule,
    prompts: Sequence[Sequence[int]],
) -> Advisor:
    """Return the guide of an answer, with the reference model if the method needs it.

    Args:
        pair: the models.
        readers: their contexts.
        method: what the guide is asked for.
        rule: see :class:`.projection.Projection`.
        prompts: what each guide of the pair reads first.

    Raises:
        PairError: the method needs a reference model, and there is none, or there are several
            guides; or a prompt or a context of a guide is missing.
    """
    if len(prompts) != len(pair.guides) or len(readers.others) != len(pair.others):
        raise PairError("the prompt, or the prompt cache, was made for other guides than these")
    if pair.others:
        return _mixed_guide(pair, readers, method, rule, prompts)
    reference = None
    if method.needs_reference:
        pair.require_reference()
        if readers.reference is None:
            raise PairError("the prompt cache was made for a pair without a reference model")
        reference = Reference(readers.reference, pair.reference_projection(rule))
    temperature = guide_temperature(method)
    return Guide(readers.aligned, pair.projection(rule), prompts[0], reference, temperature)


def _mixed_guide(
    pair: Pair,
    readers: Readers,
    method: Method,
    rule: ProjectionRule,
    prompts: Sequence[Sequence[int]],
) -> MixedGuide:
    if method.needs_reference:
        raise PairError(f"{method.name} needs one guide and its twin; here are several guides")
    temperature = guide_temperature(method)
    parts = zip((readers.aligned, *readers.others), pair.projections(rule), prompts, strict=True)
    guides = [Guide(*part, temperature=temperature) for part in parts]
    return MixedGuide(guides, pair.weights)
