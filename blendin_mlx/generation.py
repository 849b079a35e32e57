"""The interface of the engine: an answer as a stream of pieces, or as one string.

Three layers, as in mlx-lm: :mod:`.decoder` decides steps, :func:`stream_generate` text,
:func:`generate` the whole string.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .answer_statistics import Statistics, describe_method
from .blend.method import Method
from .blend.sampling import Chooser, LogitsProcessor, Sampler
from .decoding.answer_options import AnswerOptions
from .decoding.answer_stream import AnswerStream, Response
from .decoding.decoder import Decoder
from .decoding.json_constraint import JsonConstraint
from .decoding.rules import StopPolicy
from .decoding.stop_strings import StopStrings
from .drafting.drafter import Draft, Drafter
from .drafting.pass_costs import measure
from .drafting.proposers import GuideProposer, LookupProposer, Proposer
from .errors import PromptError
from .model import LanguageModel, Pair
from .prompt_cache import PromptCache, make_prompt_cache
from .prompts import Message, PairPrompt, build_prompt
from .reading.advisor import Advisor
from .reading.guide import Guide
from .reading.make_guide import make_guide
from .reading.reader import Progress, Reader, Readers
from .reading.room import check_fits, too_long
from .tokens.answer_text import AnswerText, common_prefix
from .tokens.projection import ProjectionRule


def read_beginning(cache: PromptCache, prompts: Sequence[PairPrompt]) -> None:
    """Read the common prefix of these prompts into a cache, to continue with any of them.

    A cache that cannot be rewound can be reused only if it ends before the prompts differ.

    Args:
        cache: gets the prefix.
        prompts: at least two.

    Raises:
        PromptError: the prefix is longer than a context.

    Example:
        >>> read_beginning(cache, [build_prompt(pair, manual + q) for q in ("Why?", "How?")])
    """
    first, *others = prompts
    for role, context in cache.contexts().items():
        ids = [list(prompt.by_role()[role].ids) for prompt in (first, *others)]
        shared = ids[0][: min(common_prefix(ids[0], other) for other in ids[1:])]
        _check_room(context.model, len(shared))
        context.prefill(context.move_to(shared))


def stream_generate(
    pair: Pair,
    prompt: str | Sequence[Message] | PairPrompt,
    *,
    method: str | Method = "blendin",
    max_tokens: int = 256,
    sampler: Sampler | None = None,
    logits_processors: Sequence[LogitsProcessor] = (),
    stop: Sequence[str] = (),
    stop_policy: StopPolicy = "either",
    projection: ProjectionRule = "prefix",
    draft: Draft | Drafter = "off",
    prompt_cache: PromptCache | None = None,
    kv_bits: int | None = None,
    prompt_progress_callback: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    constraint: JsonConstraint | None = None,
    candidates: int = 0,
) -> Iterator[Response]:
    """Answer a prompt with a pair, piece by piece.

    Args:
        pair: the models.
        prompt: a user message, a conversation, or a prompt made with :func:`.build_prompt`.
        method: a name of :data:`.methods.METHODS`, or a method with its options.
        max_tokens: most tokens to produce, at least 1.
        sampler: from ``mlx_lm.sample_utils``, applied to the distribution that decides; greedy if
            None.
        logits_processors: from ``mlx_lm.sample_utils``, applied to the distribution that decides.
        stop: strings that end the answer; they are not shown.
        stop_policy: see :data:`.rules.StopPolicy`.
        projection: see :class:`.projection.Projection`.
        draft: who may propose tokens to score ahead; changes the time, never the text. Pass a
            :class:`.drafter.Drafter` to set its length, or to keep what it learns.
        prompt_cache: contexts of an earlier call; the common prefix is not read again.
        kv_bits: quantize new caches to 4 or 8 bits.
        prompt_progress_callback: called with tokens read and tokens to read.
        should_stop: called before each token and each step of the prefill.
        constraint: the JSON schema that the answer must satisfy. The answer ends where the schema
            allows it, or at a limit: stop strings, turns and the stop policy do not end it.
        candidates: how many of the likeliest tokens of each distribution each step names (see
            :class:`.step.Candidates`); it costs a few milliseconds per token.

    Raises:
        PromptError: an empty prompt, or one longer than a context.
        PairError: these models cannot be blended.
        NumericalError: logits that are not finite, or all equal.
        SchemaError: the base's tokens cannot write what the constraint requires.
        ValueError: an option out of range.

    Example:
        >>> for response in stream_generate(pair, "Why is the sky blue?", max_tokens=100):
        ...     print(response.text, end="", flush=True)
    """
    options = AnswerOptions(
        method,
        max_tokens,
        sampler,
        logits_processors,
        stop,
        stop_policy,
        projection,
        constraint,
        candidates,
    )
    stream = begin_answer(
        pair,
        prepared(pair, prompt, options),
        options,
        prompt_cache or make_prompt_cache(pair, kv_bits=kv_bits),
        Drafter(draft) if isinstance(draft, str) else draft,
        should_stop or (lambda: False),
        prompt_progress_callback or (lambda done, total: None),
    )
    return stream.responses()


def prepared(
    pair: Pair, prompt: str | Sequence[Message] | PairPrompt, options: AnswerOptions
) -> PairPrompt:
    """Return what the models read, after checking that each of them has room for it.

    Raises:
        PromptError, PairError: see :func:`stream_generate`.
    """
    if not isinstance(prompt, PairPrompt):
        check_fits(pair.base, prompt)
        prompt = build_prompt(pair, prompt)
    method = options.made_method()
    _check_prompt(pair.base, len(prompt.base.ids))
    if method.asks:
        for guide, read in zip(pair.guides, prompt.guides, strict=False):
            _check_prompt(guide, len(read.ids))
        if method.needs_reference:
            _check_prompt(pair.require_reference(), len(prompt.aligned.ids))
    return prompt


def begin_answer(
    pair: Pair,
    prompt: PairPrompt,
    options: AnswerOptions,
    readers: Readers,
    drafter: Drafter,
    should_stop: Callable[[], bool],
    progress: Progress,
) -> AnswerStream:
    """Return an answer that is yet to be written, by the models of these readers."""
    method = options.made_method()
    guide = None
    if method.asks:
        guide = make_guide(pair, readers, method, options.projection, prompt.guide_ids)
    answer = AnswerText(pair.base.vocabulary)
    decoder = Decoder(
        readers.base,
        prompt.base.ids,
        answer,
        guide,
        method,
        Chooser(options.sampler, options.logits_processors),
        options.stop_policy,
        drafter,
        options.max_tokens,
        constraint=options.constraint,
        candidates=options.candidates,
    )
    if decoder.runs_base:
        _begin_drafts(drafter, pair, readers.base, prompt.base.ids, guide)
    else:
        drafter.begin([], readers.base)
    unread = [(readers.base, list(prompt.base.ids))] if decoder.runs_base else []
    unread += [] if guide is None else guide.openings()
    return AnswerStream(
        decoder,
        answer,
        # The last token is left to the first step, which needs the logits after it.
        [(reader, read[:-1]) for reader, read in unread],
        readers.contexts(),
        _statistics(method, options.policy, prompt),
        StopStrings(options.stop, () if options.constraint else prompt.stops),
        options.max_tokens,
        drafter,
        should_stop,
        progress,
    )


def _statistics(method: Method, policy: StopPolicy, prompt: PairPrompt) -> Statistics:
    return Statistics(
        method=describe_method(method),
        stop_policy=policy,
        base_prompt_tokens=len(prompt.base.ids),
        aligned_prompt_tokens=len(prompt.aligned.ids),
    )


def _begin_drafts(
    drafter: Drafter, pair: Pair, base: Reader, prompt: Sequence[int], guide: Advisor | None
) -> None:
    """Set the proposers of a drafter for an answer; measure the cost of passes if it needs that.

    Several guides draft nothing: what they would write together takes a pass of each for a token.
    """
    proposers: list[Proposer] = []
    if drafter.allows("lookup"):
        proposers.append(LookupProposer(prompt))
    if drafter.allows("guide") and isinstance(guide, Guide):
        proposers.append(GuideProposer(guide, pair.base.vocabulary))
    if proposers and drafter.needs_costs:
        drafter.costs = measure(pair)
    drafter.begin(proposers, base)


def generate(pair: Pair, prompt: str | Sequence[Message] | PairPrompt, **options: Any) -> str:
    """Return the whole answer as a string; the options are those of :func:`stream_generate`.

    Example:
        >>> generate(pair, "How do I boil an egg?", max_tokens=200)
    """
    return "".join(response.text for response in stream_generate(pair, prompt, **options))


def _check_prompt(model: LanguageModel, tokens: int) -> None:
    if tokens == 0:
        raise PromptError(f"the prompt is empty for {model.name}: its template writes nothing")
    _check_room(model, tokens)


def _check_room(model: LanguageModel, tokens: int) -> None:
    limit = model.context_limit
    if limit is not None and tokens >= limit:
        raise too_long(model, f"the prompt has {tokens}", "it")
