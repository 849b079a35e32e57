"""Statistics of one answer: cost and decisions, counted step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from .blend.dial import Dialled
from .reading.reader import Reader, RewindsBy
from .step import Step

FinishReason = Literal["stop", "stop_string", "length", "context", "interrupted"]


@dataclass(frozen=True)
class ModelUse:
    """The work of one model.

    Attributes:
        passes: forward passes with the output layer; the steps of a prefill do not count.
        rereads: tokens read a second time because a cache could not be rewound.
        rewinds_by: see :attr:`.context.Context.rewinds_by`.
    """

    passes: int = 0
    rereads: int = 0
    rewinds_by: RewindsBy = "trim"

    def since(self, before: ModelUse) -> ModelUse:
        """Return the work since an earlier state."""
        passes, rereads = self.passes - before.passes, self.rereads - before.rereads
        return ModelUse(passes, rereads, self.rewinds_by)

    def as_json(self) -> dict[str, Any]:
        """Return the cache's part of the ``--json`` object."""
        return {"rewinds_by": self.rewinds_by, "reread_tokens": self.rereads}


def use_of(context: Reader) -> ModelUse:
    """Return the work that the model of a context has done so far."""
    return ModelUse(context.passes, context.rereads, context.rewinds_by)


@dataclass
class Statistics:
    """Counts of one answer; :meth:`as_json` gives the groups of the ``--json`` object.

    Times are in seconds, memory in bytes; ``drafted`` and ``accepted`` are tokens, and so are
    ``kept_tokens``: those at the beginning that were decided earlier (see :meth:`after`).
    ``overrides`` is None once the base was not run for a token, ``others`` the work of further
    guides by role.
    """

    method: dict[str, Any]
    stop_policy: str
    base_prompt_tokens: int
    aligned_prompt_tokens: int
    prefill_s: float = 0.0
    decode_s: float = 0.0
    peak_bytes: int = 0
    drafted: int = 0
    accepted: int = 0
    draft_off: str | None = None
    base: ModelUse = ModelUse()
    aligned: ModelUse = ModelUse()
    reference: ModelUse | None = None
    others: dict[str, ModelUse] = field(default_factory=dict)
    finish_reason: FinishReason | None = None
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    interventions: int = 0
    overrides: int | None = 0
    stop_checks: int = 0
    kept_tokens: int = 0
    _alpha: float = 0.0
    _exact_mass: float = 0.0

    def add(self, step: Step) -> None:
        """Count a step."""
        self.token_ids.append(step.id)
        self.stop_checks += step.stop_check
        if step.base is None:
            self.overrides = None
        elif self.overrides is not None:
            self.overrides += step.is_override
        if step.guidance is not None:
            self.interventions += 1
            self._alpha += step.guidance.alpha
            self._exact_mass += step.guidance.exact_mass

    def after(self, kept: Sequence[Step]) -> Statistics:
        """Return the counts of an answer that begins with steps decided earlier.

        Times, passes and drafts are those of this answer alone.
        """
        whole = replace(self, token_ids=[], kept_tokens=len(kept))
        for step in kept:
            whole.add(step)
        whole.token_ids += self.token_ids
        return whole

    @property
    def completion_tokens(self) -> int:
        """Tokens of the answer, a final STOP included."""
        return len(self.token_ids)

    @property
    def intervention_rate(self) -> float:
        """Interventions / tokens produced; 0 without any token."""
        return self.interventions / self.completion_tokens if self.token_ids else 0.0

    @property
    def mean_alpha(self) -> float | None:
        """Mean weight of the guide over the interventions, None without any."""
        return self._alpha / self.interventions if self.interventions else None

    @property
    def exact_mass(self) -> float | None:
        """Mean share of the guide's mass carried over by exact match, None without any."""
        return self._exact_mass / self.interventions if self.interventions else None

    @property
    def tokens_per_s(self) -> float:
        """Tokens decided per second of decoding; kept ones do not count."""
        decided = self.completion_tokens - self.kept_tokens
        return decided / self.decode_s if self.decode_s else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the groups of the ``--json`` object that the engine knows."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "usage": {
                "base_prompt_tokens": self.base_prompt_tokens,
                "aligned_prompt_tokens": self.aligned_prompt_tokens,
                "completion_tokens": self.completion_tokens,
            },
            "blend": {
                **self.method,
                "stop_policy": self.stop_policy,
                "interventions": self.interventions,
                "intervention_rate": round(self.intervention_rate, 6),
                "overrides": self.overrides,
                "stop_checks": self.stop_checks,
                "mean_alpha": self.mean_alpha,
                "exact_mass": self.exact_mass,
            },
            "passes": {name: use.passes for name, use in self._uses().items()},
            "draft": {
                "proposed": self.drafted,
                "accepted": self.accepted,
                "off_because": self.draft_off,
            },
            "cache": {name: use.as_json() for name, use in self._uses().items()},
            "timing": {
                "prefill_s": round(self.prefill_s, 4),
                "decode_s": round(self.decode_s, 4),
                "tokens_per_s": round(self.tokens_per_s, 3),
            },
            "memory": {"peak_bytes": self.peak_bytes},
            "token_ids": self.token_ids,
        }

    def _uses(self) -> dict[str, ModelUse]:
        """Return the work of each model by role; the reference model only if there is one."""
        uses = {"base": self.base, "aligned": self.aligned}
        if self.reference is not None:
            uses["reference"] = self.reference
        return {**uses, **self.others}


def describe_method(method: Any) -> dict[str, Any]:
    """Return a method's name and options, by their letters in the papers.

    ``tau`` and ``alpha`` always, None or "auto" where not set; ``gate``, ``lambda`` and ``beta``
    where the method has them; ``dial``, ``guide_temp`` and ``temper`` where one of them is not 1.
    """
    if isinstance(method, Dialled):
        turned = {name: getattr(method, name) for name in ("dial", "guide_temp", "temper")}
        return describe_method(method.method) | turned
    options = asdict(method)
    alpha = "auto" if method.name == "blendin" else options.get("alpha")
    described = {"method": method.name, "tau": options.get("tau"), "alpha": alpha}
    letters = {"gate": "gate", "lambda_": "lambda", "beta": "beta"}
    return described | {letters[name]: v for name, v in options.items() if name in letters}
