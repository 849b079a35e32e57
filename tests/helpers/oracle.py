"""METHOD.md written down once more, slowly: numpy, no caches, both prompts read anew every token.

Shares no code with the engine but the loaded networks and tokenizers: distributions, STOP classes,
the map between two vocabularies, gates, weights, ends. Every fast path must produce its tokens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blendin_mlx.backend.mlx import mx
from blendin_mlx.model import LanguageModel, Pair
from blendin_mlx.step import Step
from tiny import size_of

Array = npt.NDArray[np.float64]

GATED = ("blendin", "fixed", "nudging")  # by τ
# φ as tables, by tokenizers that live as long as the tests.
TABLES: dict[tuple[int, ...], npt.NDArray[np.int64]] = {}
LONGEST_SPELLING = 64  # tokens of the base for one of the guide
BEGUN: dict[tuple[int, ...], dict[int, list[int]]] = {}


@dataclass(frozen=True)
class OracleStep:
    """What the oracle decided at one position, and how clearly."""

    id: int
    alpha: float | None
    confidence: float
    gate_margin: float  # distance of the base's confidence to the gate
    gap: float  # lead of the winner over the next
    stop_prob: float | None  # the guide's, where it was asked
    is_stop: bool
    probs: Array  # the distribution that decided


@dataclass(frozen=True)
class Vote:
    """What the guide says comes next, in tokens of the base."""

    carried: Array
    confidence: float
    counterpart: int | None  # of its top token
    stop: float


def softmax(logits: Array) -> Array:
    """Full softmax of one row."""
    shifted = np.exp(logits - logits.max())
    probs: Array = shifted / shifted.sum()
    return probs


def token_spelling(model: LanguageModel) -> dict[int, bytes]:
    """Bytes of every token that writes text; not to be changed, as other oracles share them."""
    return _spelling(model.tokenizer, frozenset(model.stop_ids))


@lru_cache(maxsize=8)
def _spelling(wrapper: Any, stop_ids: frozenset[int]) -> dict[int, bytes]:
    """Work the bytes out from tokenizer.json's own conventions."""
    tokenizer = wrapper.backend_tokenizer
    added = tokenizer.get_added_tokens_decoder()
    byte_level = "ByteLevel" in str(tokenizer.decoder)[:40]
    letters = {v: k for k, v in gpt2_letters().items()}
    spelled = {}
    for text, token in tokenizer.get_vocab(with_added_tokens=True).items():
        if token in added:
            if not added[token].special:
                written = text if byte_level else text.replace("▁", " ")
                spelled[token] = written.encode()
        elif byte_level:
            spelled[token] = bytes(letters[char] for char in text)
        elif len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            spelled[token] = bytes([int(text[3:5], 16)])
        else:
            spelled[token] = text.replace("▁", " ").encode()
    return {t: b for t, b in spelled.items() if t not in stop_ids}


@lru_cache(maxsize=8)
def _tokens_by_bytes(wrapper: Any, stop_ids: frozenset[int]) -> dict[bytes, int]:
    """The token of each byte string; pieces of text come before byte fallback."""
    tokenizer = wrapper.backend_tokenizer
    spelled = _spelling(wrapper, stop_ids)

    def is_fallback(token: int) -> bool:
        return re.fullmatch("<0x[0-9A-F]{2}>", tokenizer.id_to_token(token)) is not None

    found: dict[bytes, int] = {}
    for token in sorted(spelled, key=lambda token: (is_fallback(token), token)):
        found.setdefault(spelled[token], token)
    return found


def gpt2_letters() -> dict[int, str]:
    """Which character stands for which byte in byte-level vocabularies."""
    table, extra = {}, 0
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


def hidden_states(network: Any, ids: list[int]) -> mx.array:
    """``[n, width]`` after each token, read in one pass without a cache."""
    body = network.backbone if hasattr(network, "backbone") else network.model
    hidden: mx.array = body(mx.array([ids]))[0]
    return hidden


def output_layer(network: Any, hidden: mx.array) -> mx.array:
    """Logits of one hidden state."""
    head = getattr(network, "lm_head", None) or network.model.embed_tokens.as_linear
    logits: mx.array = head(hidden[None])[0]
    return logits


def unfinished(tail: bytes) -> bool:
    """Whether these bytes are the beginning of one character and not all of it."""
    try:
        tail.decode()
    except UnicodeDecodeError as error:
        return error.start == 0 and error.reason == "unexpected end of data"
    return False


def is_text(written: bytes) -> bool:
    """Whether bytes are UTF-8."""
    return written.decode(errors="ignore").encode() == written


class Oracle:
    """Decodes greedily with one method of the registry, by name and numbers.

    ``dial``, ``guide_temp`` and ``temper`` may be set once it is made.
    """

    dial = 1.0
    guide_temp = 1.0
    temper = 1.0

    def __init__(
        self,
        pair: Pair,
        method: str = "blendin",
        tau: float = 0.4,
        lambda_: float | None = None,
        alpha: float = 0.5,
        beta: float | None = None,
        stop_policy: str = "either",
        gate: str = "confidence",
    ) -> None:
        self.pair, self.method, self.tau, self.alpha = pair, method, tau, alpha
        self.stop_policy, self.gate = stop_policy, gate
        self.beta = beta if beta is not None else 0.5 if method == "contrastive" else 1.0
        usual = {"kad": 0.4, "kad-primal": 0.4, "confidence-bet": 0.2}.get(method, 0.1)
        self.lambda_ = usual if lambda_ is None else lambda_
        self.base_bytes = token_spelling(pair.base)
        self.aligned_bytes = token_spelling(pair.aligned)
        self.base_stop = min(pair.base.stop_ids)
        self.aligned_stop = min(pair.aligned.stop_ids)
        self.one_vocabulary = self.base_bytes == self.aligned_bytes
        self.sizes = {
            id(model): size_of(model.tokenizer)
            for model in (pair.base, pair.aligned, pair.reference)
            if model is not None
        }
        self._spelled: dict[tuple[int, int], list[int]] = {}
        self._ahead: list[tuple[LanguageModel, list[int], mx.array]] = []
        self._by_bytes = _tokens_by_bytes(pair.base.tokenizer, frozenset(pair.base.stop_ids))

    def distribution(self, model: LanguageModel, ids: list[int]) -> Array:
        """P after a sequence, read from its first token on, its STOP class pooled."""
        hidden = self._known(model, ids)
        if hidden is None:
            hidden = hidden_states(model.network, ids)[-1]
        logits = output_layer(model.network, hidden)
        row = np.array(logits.astype(mx.float32), dtype=np.float64)
        size = min(len(row), self.sizes[id(model)])
        own = 1.0 if model is self.pair.base else self.guide_temp
        probs = softmax(row[:size] / (own * self.temper))
        stops = sorted(s for s in model.stop_ids if s < size)
        total = probs[stops].sum()
        probs[stops] = 0.0
        probs[stops[0]] = total
        return probs

    def read_ahead(
        self, base_prompt: list[int], aligned_prompt: list[int], answer: list[int]
    ) -> None:
        """Read a likely answer in one pass of each model, for a long :meth:`decode`.

        No hidden state depends on a later token, so those of the whole are those of its beginnings.
        What is not the beginning of it, as a text that is split otherwise there, is read anew.
        """
        for model, ids in (
            (self.pair.base, base_prompt + answer),
            (self.pair.aligned, aligned_prompt + self._followed(answer)),
        ):
            self._ahead.append((model, ids, hidden_states(model.network, ids)))

    def _known(self, model: LanguageModel, ids: list[int]) -> mx.array | None:
        for owner, known, hidden in self._ahead:
            if owner is model and known[: len(ids)] == ids:
                return hidden[len(ids) - 1]
        return None

    def _followed(self, answer: list[int]) -> list[int]:
        """The answer so far in the guide's tokens."""
        if self.one_vocabulary:
            return answer
        return self.encode(self.pair.aligned, self._written(answer).decode(errors="replace"))

    def _written(self, answer: list[int]) -> bytes:
        return b"".join(self.base_bytes.get(token, b"") for token in answer)

    def phi(self, token: int) -> int | None:
        """The base token for a guide token."""
        target = int(self._table[token])
        return None if target < 0 else target

    @property
    def _table(self) -> npt.NDArray[np.int64]:
        """φ of every guide token, −1 for what goes nowhere."""
        key = id(self.pair.base.tokenizer), id(self.pair.aligned.tokenizer), self.base_stop
        if key not in TABLES:
            size = self.sizes[id(self.pair.aligned)]
            written = [self.aligned_bytes.get(token, b"") for token in range(size)]
            counts = Counter(self.base_bytes.values())
            own = self._own_tokens([b"" if counts[one] == 1 else one for one in written])
            found = [self._counterpart(*one) for one in zip(range(size), written, own, strict=True)]
            TABLES[key] = np.array([-1 if target is None else target for target in found])
        return TABLES[key]

    def _counterpart(self, token: int, written: bytes, own: list[int]) -> int | None:
        if token == self.aligned_stop:
            return self.base_stop
        if not written:
            return None
        if self.one_vocabulary:
            return token
        if len(own) == 1 and self.base_bytes.get(own[0]) == written:
            return own[0]
        if written in self._by_bytes:
            return self._by_bytes[written]
        if own and written.startswith(self.base_bytes.get(own[0], b"\0")):
            return own[0]
        fits = [written[:n] for n in range(1, len(written) + 1) if written[:n] in self._by_bytes]
        return self._by_bytes[max(fits, key=len)] if fits else None

    def _own_tokens(self, spellings: list[bytes]) -> list[list[int]]:
        """How the base's tokenizer writes each; nothing where it is no text."""
        texts = [one.decode() if is_text(one) else "" for one in spellings]
        tokenizer: Any = self.pair.base.tokenizer.backend_tokenizer
        tokenizer.encode_special_tokens = True
        found = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        tokenizer.encode_special_tokens = False
        return [one.ids for one in found]

    @staticmethod
    def encode(model: LanguageModel, text: str) -> list[int]:
        """Plain text in a model's tokens."""
        tokenizer: Any = model.tokenizer.backend_tokenizer
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        return list(ids)

    def carried(self, probs: Array, size: int) -> Array:
        """The guide's distribution over the base's vocabulary."""
        known = self._table[: len(probs)] >= 0
        mass = np.bincount(self._table[: len(probs)][known], weights=probs[known], minlength=size)
        return mass[:size].astype(np.float64, copy=False)

    def decode(
        self, base_prompt: list[int], aligned_prompt: list[int], max_tokens: int
    ) -> list[OracleStep]:
        """Up to ``max_tokens`` steps."""
        answer: list[int] = []
        steps: list[OracleStep] = []
        while len(steps) < max_tokens:
            step = self.step(base_prompt, aligned_prompt, answer)
            steps.append(step)
            if step.is_stop:
                break
            answer.append(step.id)
        return steps

    def _guide(self, prompt: list[int], answer: list[int]) -> Vote | None:
        """What the guide says, None where it cannot read the answer so far."""
        if not self._readable(answer):
            return None
        return self._vote(self.pair.aligned, prompt, answer)

    def _readable(self, answer: list[int]) -> bool:
        written = b"" if self.one_vocabulary else self._written(answer)
        return not any(unfinished(written[-n:]) for n in (1, 2, 3))

    def _vote(self, model: LanguageModel, prompt: list[int], answer: list[int]) -> Vote:
        """What a model with the guide's tokens says after an answer.

        Where the base has begun one of these tokens, it goes on with the probability that it has
        among those which begin with the same token of the base and fit what is written.
        """
        after = self.distribution(model, prompt + self._followed(answer))
        top = int(after.argmax())
        size = min(self.pair.base.rows, self.sizes[id(self.pair.base)])
        carried = self.carried(after, size)
        whole = Vote(carried, float(after.max()), self.phi(top), float(after[self.aligned_stop]))
        nearby = range(max(0, len(answer) - LONGEST_SPELLING), len(answer))
        place = next((n for n in nearby if self._goes_on(answer[n:], answer[:n])), None)
        if place is None:
            return whole
        ways = self._ways(model, prompt, answer, place, 1.0)
        over = sum(mass for mass, token, _ in ways if token is None)
        total = sum(mass for mass, _, _ in ways)
        carried = carried * over / total
        for mass, token, target in ways:
            if token is not None:
                carried[target] += mass / total
        share, _, target = max((way for way in ways if way[1] is not None), key=lambda way: way[0])
        share, kept = share / total, over / total * whole.confidence
        counterpart = target if share > kept else whole.counterpart
        return Vote(carried, max(share, kept), counterpart, whole.stop * over / total)

    def _ways(
        self, model: LanguageModel, prompt: list[int], answer: list[int], place: int, mass: float
    ) -> list[tuple[float, int | None, int]]:
        """The ways in which guide tokens from a place on reach the end of the answer, or beyond it.

        Each with its probability, the token that is unfinished, and what that goes on with.
        """
        if place == len(answer):
            return [(mass, None, -1)]
        if not self._readable(answer[:place]):
            return []
        said = self.distribution(model, prompt + self._followed(answer[:place]))
        unfinished = self._goes_on(answer[place:], answer[:place])
        ways: list[tuple[float, int | None, int]] = [
            (mass * float(said[token]), token, target) for token, target in unfinished.items()
        ]
        for end in range(place + 1, len(answer) + 1):
            ended = self._spelled_by(answer[place:end])
            if ended:
                ways += self._ways(model, prompt, answer, end, mass * float(said[ended].sum()))
        return ways

    def _goes_on(self, written: list[int], before: list[int]) -> dict[int, int]:
        """The guide tokens that are unfinished after ``written``, and what each goes on with."""
        if self.one_vocabulary or not self._readable(before):
            return {}
        count, so_far = len(written) + 1, self._written(written)
        longer = [
            token
            for token in self._begun_by.get(written[0], [])
            if (spelled := self.aligned_bytes[token]) != so_far and spelled.startswith(so_far)
        ]
        self._spell(longer, count)
        return {
            token: ids[-1]
            for token in longer
            for ids in [self._spelled[token, count]]
            if len(ids) == count and ids[:-1] == written
        }

    def _spelled_by(self, written: list[int]) -> list[int]:
        """The guide tokens that the base spells with just these tokens."""
        so_far = self._written(written)
        alike = [t for t in self._begun_by.get(written[0], []) if self.aligned_bytes[t] == so_far]
        self._spell(alike, len(written))
        return [token for token in alike if self._spelled[token, len(written)] == written]

    def _spell(self, tokens: list[int], count: int) -> None:
        """Note the first tokens in which the base writes guide tokens, one after the other."""
        missing = [token for token in tokens if (token, count) not in self._spelled]
        spelled = {token: [int(self._table[token])] for token in missing}
        for _ in range(count - 1):
            rests = {token: self._rest(token, ids) for token, ids in spelled.items()}
            rests = {token: rest for token, rest in rests.items() if rest}
            own = self._own_tokens(list(rests.values())) if rests else []
            for (token, rest), ids in zip(rests.items(), own, strict=True):
                target = self._counterpart(-1, rest, ids)
                spelled[token] += [] if target is None else [target]
        self._spelled.update({(token, count): ids for token, ids in spelled.items()})

    def _rest(self, token: int, ids: list[int]) -> bytes:
        return self.aligned_bytes[token][len(self._written(ids)) :]

    @property
    def _begun_by(self) -> dict[int, list[int]]:
        """The guide tokens that each token of the base begins, or is."""
        key = id(self.pair.base.tokenizer), id(self.pair.aligned.tokenizer), self.base_stop
        if key not in BEGUN:
            found: dict[int, list[int]] = {}
            for token, target in enumerate(self._table.tolist()):
                if target >= 0 and token != self.aligned_stop:
                    found.setdefault(target, []).append(token)
            BEGUN[key] = found
        return BEGUN[key]

    def step(
        self, base_prompt: list[int], aligned_prompt: list[int], answer: list[int]
    ) -> OracleStep:
        """What follows an answer so far."""
        base = self.distribution(self.pair.base, base_prompt + answer)
        confidence, top = float(base.max()), int(base.argmax())
        open_gate, margin = self._gate(base)
        lines = b"\n" in self.base_bytes.get(top, b"")
        asks = self.method != "base" and (self.tau > 0 or self.method not in GATED)
        checks = asks and not open_gate and lines and self.stop_policy == "either"
        guide = self._guide(aligned_prompt, answer) if open_gate or checks else None
        over = None if guide is None else guide.stop
        if guide is None or not open_gate:
            if over is not None and over >= 0.5:
                lead = abs(over - 0.5)
                return OracleStep(self.base_stop, None, confidence, margin, lead, over, True, base)
            return self._choose(base, None, confidence, margin, over)
        r, alpha = self._blended(base, guide, aligned_prompt, answer)
        return self._choose(r, alpha, confidence, margin, over)

    def score(
        self, base_prompt: list[int], aligned_prompt: list[int], tokens: list[int]
    ) -> list[float]:
        """``log r_t(y_t)`` of each token of a given text, as its prefixes are read one by one."""
        if self.method == "aligned":
            return [
                float(np.log(self.distribution(self.pair.aligned, aligned_prompt + tokens[:n])[t]))
                for n, t in enumerate(tokens)
            ]
        return [
            float(np.log(max(self._scored(base_prompt, aligned_prompt, tokens[:n])[token], 1e-37)))
            for n, token in enumerate(tokens)
        ]

    def _scored(
        self, base_prompt: list[int], aligned_prompt: list[int], before: list[int]
    ) -> Array:
        """The distribution that decides after a beginning of a text."""
        base = self.distribution(self.pair.base, base_prompt + before)
        shut = self.method in GATED and self._distance(base) >= 0
        guide = None if shut or self.method == "base" else self._guide(aligned_prompt, before)
        return base if guide is None else self._blended(base, guide, aligned_prompt, before)[0]

    def _blended(
        self, base: Array, guide: Vote, aligned_prompt: list[int], answer: list[int]
    ) -> tuple[Array, float]:
        """The target after a beginning, and the guide's weight; the twin reads what it needs."""
        twin = None
        if self.method == "proxy-tuning":
            twin = self._vote(self.pair.require_reference(), aligned_prompt, answer).carried
        return self._target(base, float(base.max()), guide, twin)

    def _distance(self, base: Array) -> float:
        """How far the base is from its gate; negative where that is open."""
        second, first = np.sort(base)[-2:]
        known = base[base > 0]
        sureness = {
            "confidence": first,
            "entropy": np.exp((known * np.log(known)).sum()),
            "margin": first - second,
        }
        return float(sureness[self.gate] - self.tau)

    def _deferred(self, base: Array, guide: Vote | None = None) -> Array:
        """1 for each token of the base that is left to the guide, 0 for the others."""
        if self.method == "kad-primal":
            rising = np.argsort(base)
            fitting = int((np.cumsum(base[rising]) <= self.lambda_).sum())
            mu = np.zeros(len(base))
            mu[rising[:fitting]] = 1.0
            return np.ones(len(base)) if self.lambda_ == 1 else mu
        limit = self.lambda_ if guide is None else guide.confidence - self.lambda_
        return (base < limit).astype(float)

    def _gate(self, base: Array) -> tuple[bool, float]:
        """Whether the guide must be asked, and the distance to where that changes."""
        if self.method in GATED:
            return self._distance(base) < 0, abs(self._distance(base))
        if self.method == "contrastive":
            second, first = np.sort(base)[-2:]
            return bool(second >= self.lambda_ * first), abs(second - self.lambda_ * first)
        if self.method not in ("kad", "kad-primal"):
            return self.method != "base", 1.0
        # A rival gets all of the deferred mass at best, and keeps its own if it is not deferred.
        mu = self._deferred(base)
        kept = base * (1 - mu)
        winner = int(base.argmax())
        own, rivals = kept[winner], np.delete(kept, winner)
        best = (base * mu).sum() + rivals.max()
        return bool(best > own), min(abs(best - own), self._clearness(base))

    def _clearness(self, base: Array) -> float:
        """How far the set of deferred tokens is from another one."""
        reached = np.cumsum(np.sort(base)) if self.method == "kad-primal" else base
        return float(abs(reached - self.lambda_).min())

    def _target(
        self, base: Array, confidence: float, guide: Vote, twin: Array | None
    ) -> tuple[Array, float]:
        whole, alpha = self._whole_target(base, confidence, guide, twin)
        return self.dial * whole + (1 - self.dial) * base, self.dial * alpha

    def _whole_target(
        self, base: Array, confidence: float, guide: Vote, twin: Array | None
    ) -> tuple[Array, float]:
        carried = guide.carried
        if self.method in ("nudging", "aligned"):
            return carried, 1.0
        if self.method in ("kad", "kad-primal", "confidence-bet"):
            mu = self._deferred(base, guide if self.method == "confidence-bet" else None)
            mass = float((base * mu).sum())
            return base * (1 - mu) + carried * mass, mass
        if self.method == "contrastive":
            fits = base >= self.lambda_ * base.max()
            own, other = (np.log(np.maximum(one, 1e-37)) for one in (base, carried))
            lead = np.where(carried > 0, own - other, 0.0)
            r = 1e-20 * base  # what is implausible keeps its order
            r[fits] = softmax((own + self.beta * lead)[fits])
            return r, float(np.maximum(r - base, 0).sum())
        if twin is not None:
            one, two = carried, twin
            either = (one > 0) | (two > 0)
            change = np.zeros(len(base))
            change[either] = np.log(np.maximum(one[either], 1e-37))
            change[either] -= np.log(np.maximum(two[either], 1e-37))
            r = softmax(np.log(np.maximum(base, 1e-37)) + self.beta * change)
            return r, float(np.maximum(r - base, 0).sum())
        alpha = 0.5 if self.method == "ensemble" else self.alpha
        if self.method == "blendin":
            counterpart = guide.counterpart
            agreement = 0.0 if counterpart is None else float(base[counterpart])
            ratio = guide.confidence / (confidence + guide.confidence)
            alpha = float(np.clip(ratio + self.lambda_ * agreement, 0, 1))
        return alpha * carried + (1 - alpha) * base, alpha

    def _choose(
        self,
        r: Array,
        alpha: float | None,
        confidence: float,
        margin: float,
        over: float | None,
    ) -> OracleStep:
        second, first = np.sort(np.partition(r, -2)[-2:])
        token = int(r.argmax())
        stop = token == self.base_stop
        return OracleStep(token, alpha, confidence, margin, float(first - second), over, stop, r)


class MixedOracle(Oracle):
    """Several guides: each carried over by itself, then the weighted mean over the base's tokens.

    The prompts of all guides stand where one has its own.
    """

    def __init__(self, pair: Pair, method: str = "blendin", **options: float) -> None:
        super().__init__(pair, method, **options)  # type: ignore[arg-type]
        guides = (pair.aligned, *pair.others)
        self.members = [Oracle(Pair(pair.base, guide), method, **options) for guide in guides]  # type: ignore[arg-type]

    def _guide(self, prompt: Any, answer: list[int]) -> Vote | None:
        votes = [one._guide(own, answer) for one, own in zip(self.members, prompt, strict=True)]
        if any(vote is None for vote in votes):
            return None
        shares = np.array(self.pair.weights) / sum(self.pair.weights)
        mixed: Array = shares @ np.array([vote.carried for vote in votes if vote is not None])
        top = int(mixed.argmax())
        return Vote(mixed, float(mixed[top]), top, float(mixed[self.base_stop]))


NEAR_TIE = 1e-4


def assert_follows(steps: Sequence[Step], reference: Sequence[OracleStep]) -> int:
    """The engine's steps are the oracle's; returns how many positions were compared.

    Floating point may decide a near-tie otherwise. Then the oracle's own margin must show that it
    was one, and the comparison ends there: what follows belongs to another answer.
    """
    for n, (step, expected) in enumerate(zip(steps, reference, strict=False)):
        if step.id != expected.id:
            closest = min(expected.gap, expected.gate_margin, key=abs)
            if expected.stop_prob is not None:
                closest = min(closest, expected.stop_prob - 0.5, key=abs)
            assert abs(closest) < NEAR_TIE, (n, step, expected)
            return n
        assert (step.guidance is None) == (expected.alpha is None), (n, step, expected)
        if step.guidance is not None:
            assert step.guidance.alpha == pytest.approx(expected.alpha, abs=1e-4)
        if step.base is not None:  # the guide alone needs none
            assert step.base.prob == pytest.approx(expected.confidence, abs=1e-4)
        assert step.is_stop == expected.is_stop
    assert len(steps) == len(reference)
    return len(steps)
