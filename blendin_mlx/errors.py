"""The errors that this library raises on purpose; the command turns them into exit codes."""

from __future__ import annotations


class BlendinError(Exception):
    """An error that a user can act upon; the message says what, where and what to do."""


class PromptError(BlendinError):
    """The prompt cannot be used: empty, or longer than a model's context."""


class PairError(BlendinError):
    """These two models cannot be blended as they are (no chat template, unknown token bytes, …)."""


class PromptCacheError(BlendinError):
    """A prompt cache file is damaged, or does not belong to this pair."""


class SchemaError(BlendinError):
    """Answers cannot be constrained to this JSON schema."""


class NumericalError(BlendinError):
    """A model produced logits that are not finite, or all equal."""


class TraceError(BlendinError):
    """A trace cannot be read, or is not a trace."""


class MachineError(Exception):
    """Another machine ended, hangs, or does not hold what this one does.

    It is not a :class:`BlendinError`, after which a program goes on with its next prompt: nothing
    can go on after this.
    """


def no_chat_template(name: str) -> PairError:
    """Return the error for a model that cannot be an aligned one without a chat template."""
    return PairError(
        f"{name} has no chat template, so it cannot be the aligned model; "
        "pass one with --aligned-template FILE, or choose an instruct model"
    )
