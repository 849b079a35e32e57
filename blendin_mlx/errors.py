"""The errors this library raises on purpose. Only the command line turns them into exit codes."""

from __future__ import annotations


class BlendinError(Exception):
    """Something went wrong that a user can act upon; the message says what, where and what next."""


class PromptError(BlendinError):
    """The prompt cannot be used: empty, or longer than a model's context."""


class PairError(BlendinError):
    """These two models cannot be blended as they are (no chat template, unknown token bytes, …)."""


class PromptCacheError(BlendinError):
    """A file that keeps a prompt cache is damaged, or does not belong to this pair."""


class SchemaError(BlendinError):
    """Answers cannot be held to this JSON schema."""


class NumericalError(BlendinError):
    """A model produced logits that are not finite, or all alike."""


class TraceError(BlendinError):
    """A trace cannot be read, or is none."""
