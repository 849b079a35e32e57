"""Work for the decoding thread: requests answered with the loaded pair.

Nothing here is called on another thread: models, tokenizers and templates are not made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..session import Session
from ..terminal.status import STATUS
from .api import AnswerRequest, ChatRequest, CompletionRequest, TokenizeRequest
from .caches import CachePool
from .errors import refused
from .parts import Part, PartMaker, ShownToken, Start, TokenProb, token_of

if TYPE_CHECKING:
    from blendin_mlx.prompt_cache import PromptCache
    from blendin_mlx.prompts import PairPrompt
    from blendin_mlx.scoring.score import Score

ShouldStop = Callable[[], bool]


class Decoding:
    """The loaded pair as the server uses it.

    Args:
        session: the models and the settings of the command.
        cache_bytes: what may be kept of earlier requests.
    """

    def __init__(self, session: Session, cache_bytes: int) -> None:
        from blendin_mlx.prompt_cache import make_prompt_cache

        def make() -> PromptCache:
            return make_prompt_cache(session.pair, kv_bits=session.settings.kv_bits)

        self._session = session
        self._make = make
        self._pool = CachePool(make, cache_bytes)
        self._pool.put(session.cache)

    def recover(self) -> None:
        """Forget what a fault may have spoilt."""
        self._pool.clear()

    def chat(
        self, request: ChatRequest, index: int, should_stop: ShouldStop
    ) -> Iterator[Start | Part]:
        """Answer a conversation; ``index`` counts the answers to one request."""
        self._configure(request, index)
        prompt = self._session.prompt([dict(message) for message in request.messages])
        yield Start(prompt.opens_thinking)
        yield from self._answer(prompt, request, should_stop)

    def completion(
        self, request: CompletionRequest, index: int, should_stop: ShouldStop
    ) -> Iterator[Start | Part]:
        """Go on from a text that both models read as it is."""
        self._configure(request, index)
        ids = self._ids(request.prompts[index // request.n])
        prompt = self._raw_prompt(ids)
        yield Start()
        if request.echo:
            yield self._echo(ids, request.logprobs)
        yield from self._answer(prompt, request, should_stop)

    def tokenize(self, request: TokenizeRequest, should_stop: ShouldStop) -> Iterator[Any]:
        """Cut a text into tokens of the base; control tokens that it spells are recognised."""
        base = self._session.pair.base
        beginning = base.beginning if request.whole else ()
        tokens = [*beginning, *base.vocabulary.encode_marked(request.prompt)]
        yield {
            "count": len(tokens),
            "max_model_len": base.context_limit,
            "tokens": tokens,
            "token_strs": self._spelled(tokens) if request.spelled else None,
        }

    def detokenize(self, tokens: Sequence[int], should_stop: ShouldStop) -> Iterator[Any]:
        """Write tokens of the base as text; control tokens write nothing."""
        vocabulary = self._session.pair.base.vocabulary
        self._check_ids(tokens, "tokens")
        yield {"prompt": vocabulary.bytes_of(tokens).decode(errors="replace")}

    def tokenizer_info(self, should_stop: ShouldStop) -> Iterator[Any]:
        """Describe the base's tokenizer."""
        base = self._session.pair.base
        special = ("bos_token", "eos_token", "pad_token", "unk_token")
        yield {
            "tokenizer_class": type(base.tokenizer).__name__,
            **{name: getattr(base.tokenizer, name, None) for name in special},
            "chat_template": base.chat_template,
            "vocab_size": base.vocabulary.size,
            "model_max_length": base.context_limit,
        }

    def _spelled(self, tokens: Sequence[int]) -> list[str]:
        names: list[str] = self._session.pair.base.tokenizer.convert_ids_to_tokens(list(tokens))
        return names

    def _check_ids(self, tokens: Sequence[int], field: str) -> None:
        if max(tokens, default=0) >= self._session.pair.base.vocabulary.size:
            raise refused(field, "has an id beyond the vocabulary of the base")

    def _configure(self, request: AnswerRequest, index: int) -> None:
        settings, seed = request.settings, request.settings.seed
        if seed is not None:
            settings = replace(settings, seed=seed + index % request.n)
        self._session.configure(settings)

    def _answer(
        self, prompt: PairPrompt, request: AnswerRequest, should_stop: ShouldStop
    ) -> Iterator[Part]:
        session = self._session
        top = request.logprobs or 0
        maker = PartMaker(session.pair, top, detailed=request.candidates > 0)
        session.cache = self._pool.take(prompt.base.ids)
        candidates = max(top, request.candidates)
        try:
            for response in session.answer(prompt, should_stop, candidates=candidates):
                STATUS.clear()
                yield maker.part(response)
            self._pool.put(session.cache)  # not after an error: it may have spoilt it
        finally:
            session.cache = self._make()  # the pool alone keeps what is kept

    def _ids(self, prompt: str | Sequence[int]) -> list[int]:
        """Return the tokens of a text, or those that were given."""
        if isinstance(prompt, str):
            return self._session.pair.base.vocabulary.encode(prompt)
        self._check_ids(prompt, "prompt")
        return list(prompt)

    def _raw_prompt(self, ids: Sequence[int]) -> PairPrompt:
        """Return tokens of the base as both models read them, after their beginning-of-text."""
        from blendin_mlx.inspection import begun
        from blendin_mlx.prompts import PairPrompt, Prompt

        pair = self._session.pair
        opening = pair.base.beginning
        own = ids[len(opening) :] if tuple(ids[: len(opening)]) == opening else ids
        empty = PairPrompt(Prompt("", opening), Prompt("", pair.aligned.beginning))
        return begun(pair, empty, own)

    def _echo(self, ids: Sequence[int], top: int | None) -> Part:
        """Return a prompt as the first part of what follows it, scored where that is wanted."""
        written = self._session.pair.base.vocabulary.bytes_of(ids)
        shown = () if top is None else tuple(self._scored(ids, top))
        return Part(written.decode(errors="replace"), shown, ())

    def _scored(self, ids: Sequence[int], top: int) -> Iterator[ShownToken]:
        """Yield the tokens of a prompt with what the method gives them, each after the others.

        Beginning-of-text has no probability, nor has a first token before which one of the models
        has nothing to read.
        """
        pair, vocabulary = self._session.pair, self._session.pair.base.vocabulary
        opening = pair.base.beginning
        before = len(opening) if tuple(ids[: len(opening)]) == opening else 0
        before += not (opening and pair.aligned.beginning)
        for token in ids[:before]:
            yield ShownToken(TokenProb(vocabulary.bytes_of([token]), None), ())
        if len(ids) <= before:
            return
        score = self._score(ids[:before], ids[before:], max(1, top))
        for token, logprob, ranked in zip(ids[before:], score.log_probs, score.top, strict=True):
            likeliest = tuple(token_of(one, vocabulary) for one in ranked[:top])
            yield ShownToken(TokenProb(vocabulary.bytes_of([token]), logprob), likeliest)

    def _score(self, before: Sequence[int], ids: Sequence[int], top: int) -> Score:
        from blendin_mlx.scoring.score import score

        session = self._session
        cache = self._pool.take([*before, *ids])
        scored = score(
            session.pair,
            self._raw_prompt(before),
            ids,
            method=session.method,
            complete=False,
            projection=session.settings.projection,
            prompt_cache=cache,
            top=top,
        )
        self._pool.put(cache)
        if list(scored.token_ids) != list(ids):
            raise refused("echo", "with logprobs needs a method that decides on the base's tokens")
        return scored
