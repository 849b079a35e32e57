"""What an answer shall be: its method, its limits, how its tokens are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..blend.method import Method
from ..blend.methods import make_method
from ..blend.sampling import LogitsProcessor, Sampler
from ..tokens.projection import ProjectionRule
from .json_constraint import JsonConstraint
from .rules import StopPolicy, policy_in_force


@dataclass(frozen=True)
class AnswerOptions:
    """Options of one answer; :func:`.generation.stream_generate` says what each is.

    Raises:
        ValueError: an option out of range.

    Example:
        >>> AnswerOptions(method="nudging", max_tokens=64)
    """

    method: str | Method = "blendin"
    max_tokens: int = 256
    sampler: Sampler | None = None
    logits_processors: Sequence[LogitsProcessor] = ()
    stop: Sequence[str] = ()
    stop_policy: StopPolicy = "either"
    projection: ProjectionRule = "prefix"
    constraint: JsonConstraint | None = None
    candidates: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if self.candidates < 0:
            raise ValueError(f"candidates must not be negative, not {self.candidates}")
        if self.constraint is not None and self.stop:
            raise ValueError("an answer held to a JSON schema ends with its JSON; leave out stop")
        policy_in_force(self.stop_policy, self.constraint is not None)
        self.made_method()

    def made_method(self) -> Method:
        """Return the method, made if only its name was given."""
        return make_method(self.method) if isinstance(self.method, str) else self.method

    @property
    def policy(self) -> StopPolicy:
        """The stop policy in force."""
        return policy_in_force(self.stop_policy, self.constraint is not None)
