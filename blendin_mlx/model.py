"""A loaded language model as the engine uses it: network, tokenizer, limits, roles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from .backend.mlx import mx
from .context_limit import context_limit
from .errors import PairError, no_chat_template
from .roles import Role, by_role, check_weights
from .tokens.projection import Projection, ProjectionRule, phi, same_vocabulary
from .tokens.turn_tokens import turn_end, unmarked_turn_tokens
from .tokens.vocabulary import Vocabulary


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter that a network was given: its folder, and the SHA-256 of its files."""

    path: str
    sha256: str


class Elsewhere(Protocol):
    """The other machine that a model's network runs on."""

    @property
    def name(self) -> str:
        """The machine, in words."""

    @property
    def reads_ahead(self) -> bool:
        """Whether it reads there what it may be asked about, before it is asked."""

    def context(
        self, model: LanguageModel, kv_bits: int | None, prefill_step_size: int | None
    ) -> Any:
        """Return a context there, see :class:`.context.Context`."""

    def fingerprint(self) -> str:
        """Return the fingerprint of the model there, see :func:`.prompt_cache.fingerprint`."""


@dataclass
class LanguageModel:
    """A network, its tokenizer and its config, as ``mlx_lm.load`` returns them, with a name.

    Args:
        network: an mlx-lm model: ``network(ids[1, n], cache=...)`` gives logits ``[1, n, V']``.
        tokenizer: its tokenizer, mlx-lm's wrapper or a fast Hugging Face one.
        config: the model's config.json, for its stop tokens and context limit.
        name, path, revision: where it came from, for messages and traces.
        context: most tokens to read, instead of the config's limit.
        turn_template: if it has no chat template, that of the model it is paired with; the turn
            tokens of that template are control tokens here, too.
        template: a chat template to use instead of the tokenizer's own.
        adapter: the adapter that the network has, None if it has none.
        elsewhere: where its network runs; None if here.

    Example:
        >>> LanguageModel(*mlx_lm.load("some/folder", return_config=True), name="base")
    """

    network: Any
    tokenizer: Any
    config: dict[str, Any] = field(default_factory=dict)
    name: str = "model"
    path: str | None = None
    revision: str | None = None
    context: int | None = None
    turn_template: str | None = None
    template: str | None = None
    adapter: AdapterFiles | None = None
    elsewhere: Elsewhere | None = None

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer seen as bytes, as wide as the model's output.

        Raises:
            PairError: no stop token is known, or the tokenizer's bytes cannot be known.
        """
        return Vocabulary(
            self.tokenizer,
            size=min(self.logit_size, self.rows),
            stop_ids=self.stop_ids,
            name=self.name,
            turn_ids=self.turn_ids,
        )

    @cached_property
    def logit_size(self) -> int:
        """The number of logits that the network gives, padding included."""
        # Asking for the shape builds the graph and computes nothing.
        size: int = self.network(mx.array([[0]])).shape[-1]
        return size

    @cached_property
    def rows(self) -> int:
        """The number of ids that have a row in every token embedding; no other id can be read."""
        from .tokens.embeddings import token_rows

        return token_rows(self.network) or self.logit_size

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The STOP class: the configured end tokens, and the one that ends the template's turns."""
        found = set(_as_ids(self.config.get("eos_token_id")))
        found |= set(_as_ids(getattr(self.tokenizer, "eos_token_id", None)))
        found |= set(_as_ids(getattr(self.tokenizer, "eos_token_ids", None)))
        if self.chat_template is not None:
            end = turn_end(self.tokenizer, self.chat_template, self.turn_ids)
            found |= set() if end is None else {end}
        return frozenset(found)

    @cached_property
    def turn_ids(self) -> frozenset[int]:
        """Tokens that the chat template writes around messages, though not marked special."""
        return unmarked_turn_tokens(self.tokenizer, self.chat_template or self.turn_template)

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the model's chat template, None if it has none."""
        template = self.template or getattr(self.tokenizer, "chat_template", None)
        if isinstance(template, dict):
            template = template.get("default")
        return template or None

    @property
    def context_limit(self) -> int | None:
        """The longest sequence in tokens that the model reads, if known: :mod:`.context_limit`."""
        return context_limit(self.config, self.context)

    @cached_property
    def beginning(self) -> tuple[int, ...]:
        """The tokens that the model expects before any text: beginning-of-text, or none."""
        ids = tuple(self.vocabulary.surrounding())
        special = set(self.tokenizer.all_special_ids)
        return ids[:1] if ids and ids[0] in special and ids[0] not in self.stop_ids else ()

    def make_cache(self) -> list[Any]:
        """Return an empty cache for this model."""
        from mlx_lm.models.cache import make_prompt_cache

        cache: list[Any] = make_prompt_cache(self.network)
        return cache


def made_phi(base: LanguageModel, aligned: LanguageModel) -> list[int]:
    """Return φ from the vocabulary of ``aligned`` to that of ``base``."""
    return phi(base.vocabulary, aligned.vocabulary)


@dataclass
class Pair:
    """A base model and the aligned model, or several, that guide it.

    Args:
        base: writes.
        aligned: is asked.
        reference: the aligned model's unaligned twin, which only proxy-tuning needs.
        phi: finds φ from the second model's vocabulary to the first one's, as a list over its ids.
        others: further guides, which are asked together with the first.
        weights: of the first guide and the others, in proportion; equal if not given. Guides of
            weight 0 are left out.

    Raises:
        ValueError: not one weight for each guide, a negative one, or none above 0.

    Example:
        >>> pair = Pair(base=LanguageModel(...), aligned=LanguageModel(...))
        >>> pair.projection("prefix").identity   # one tokenizer for both?
        False
    """

    base: LanguageModel
    aligned: LanguageModel
    reference: LanguageModel | None = None
    phi: Callable[[LanguageModel, LanguageModel], list[int]] = made_phi
    others: tuple[LanguageModel, ...] = ()
    weights: tuple[float, ...] = ()
    _projections: dict[tuple[Role, str], Projection] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.weights = check_weights(self.weights or (1.0,) * len(self.guides), len(self.guides))
        heard = [guide for guide, weight in zip(self.guides, self.weights, strict=True) if weight]
        self.aligned, self.others = heard[0], tuple(heard[1:])
        self.weights = tuple(weight for weight in self.weights if weight)
        self._tell_template()

    def _tell_template(self) -> None:
        for other in (self.base, self.reference):
            if other is not None:
                other.turn_template = self.aligned.chat_template

    def use_aligned_template(self, source: str) -> None:
        """Give the aligned model another chat template, before either model reads anything.

        Its turn tokens are then control tokens of both, and what ends its turns is STOP.
        """
        self.aligned.template = source
        self._tell_template()

    @property
    def guides(self) -> tuple[LanguageModel, ...]:
        """The aligned model, and those that are asked together with it."""
        return (self.aligned, *self.others)

    @property
    def guide_name(self) -> str:
        """The name of the aligned model; of several, their weights and names."""
        if not self.others:
            return self.aligned.name
        named = zip(self.weights, self.guides, strict=True)
        return " + ".join(f"{weight:.3g} {guide.name}" for weight, guide in named)

    @property
    def voter(self) -> LanguageModel:
        """The model whose ids the guide's tokens are: of several guides together, the base."""
        return self.base if self.others else self.aligned

    def models(self) -> dict[Role, LanguageModel]:
        """Return the models by role; the reference model only if there is one."""
        return by_role(self.base, self.aligned, self.reference, self.others)

    def limit_context(self, tokens: int | None) -> None:
        """Set the most tokens that the models read; None restores the limits of their configs."""
        for model in self.models().values():
            model.context = tokens

    def projection(self, rule: ProjectionRule = "prefix") -> Projection:
        """Return φ from the aligned model's vocabulary to the base's; made once.

        Raises:
            PairError: the bytes of a tokenizer's tokens, or a stop token, are not known.
        """
        return self._kept("aligned", self.aligned, rule)

    def projections(self, rule: ProjectionRule = "prefix") -> list[Projection]:
        """Return φ from the vocabulary of each guide to the base's; made once.

        Raises:
            PairError: see :meth:`projection`.
        """
        guides = by_role(self.base, self.aligned, None, self.others)
        return [self._kept(role, guides[role], rule) for role in guides if role != "base"]

    def _kept(self, role: Role, model: LanguageModel, rule: ProjectionRule) -> Projection:
        """Return φ from the vocabulary of a role's model to the base's; made once."""
        if (role, rule) not in self._projections:
            table = self.phi(self.base, model)
            made = Projection(self.base.vocabulary, model.vocabulary, rule, table)
            self._projections[role, rule] = made
        return self._projections[role, rule]

    def reference_projection(self, rule: ProjectionRule = "prefix") -> Projection:
        """Return φ from the reference model's vocabulary to the base's; made once.

        Raises:
            PairError: there is no reference model, or its tokenizer is not the aligned model's.
        """
        reference = self.require_reference()
        own, twin = self.aligned.vocabulary, reference.vocabulary
        if twin.size < own.size or not same_vocabulary(own, twin):
            raise PairError(
                f"{reference.name} does not read the tokens of {self.aligned.name}; "
                "a reference model has the aligned model's own tokenizer"
            )
        return self._kept("reference", reference, rule)

    def require_reference(self) -> LanguageModel:
        """Return the reference model.

        Raises:
            PairError: there is none.
        """
        if self.reference is None:
            raise PairError(
                f"this method needs a reference model, the unaligned twin of {self.aligned.name}; "
                "pass it with --reference MODEL"
            )
        return self.reference

    def require_chat_template(self) -> None:
        """Refuse a pair one of whose guides has no chat template.

        Raises:
            PairError: it has none.
        """
        for guide in self.guides:
            if guide.chat_template is None:
                raise no_chat_template(guide.name)


def _as_ids(value: int | Iterable[int] | None) -> list[int]:
    return [value] if isinstance(value, int) else list(value or ())
