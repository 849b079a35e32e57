"""Open a context where its model's network runs."""

from __future__ import annotations

from ..model import LanguageModel
from .context import Context


def open_context(
    model: LanguageModel, *, kv_bits: int | None = None, prefill_step_size: int | None = None
) -> Context:
    """Return an empty context of a model, on the machine that its network runs on.

    Args:
        model: the model.
        kv_bits: see :class:`.context.Context`.
        prefill_step_size: see :class:`.context.Context`.
    """
    if model.elsewhere is None:
        return Context(model, kv_bits=kv_bits, prefill_step_size=prefill_step_size)
    made: Context = model.elsewhere.context(model, kv_bits, prefill_step_size)
    return made
