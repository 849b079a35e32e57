"""Work for the decoding thread: requests answered with the loaded pair.

Nothing here is called on another thread: models, tokenizers and templates are not made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..session import Session
from ..side_by_side import SideBySide
from .api import AnswerRequest, ChatRequest, CompletionRequest, TokenizeRequest
from .caches import CachePool
from .echo import Abandoned, Echo
from .errors import refused
from .parts import Part, PartMaker, Start
from .rows import Rows

if TYPE_CHECKING:
    from blendin_mlx.batch.batch_generation import BatchPrompt
    from blendin_mlx.decoding.answer_stream import Response
    from blendin_mlx.prompt_cache import PromptCache
    from blendin_mlx.prompts import PairPrompt

ShouldStop = Callable[[], bool]


class Decoding:
    """The loaded pair as the server uses it.

    Args:
        session: the models and the settings of the command.
        cache_bytes: what may be kept of earlier requests.
        batch: how many answers are written side by side; None for as many as pay.
        is_alone: says whether no other request waits or is answered.

    Attributes:
        size: how many are, at most.
    """

    def __init__(
        self,
        session: Session,
        cache_bytes: int,
        batch: int | None,
        is_alone: Callable[[], bool],
    ) -> None:
        from blendin_mlx.prompt_cache import make_prompt_cache

        def make() -> PromptCache:
            return make_prompt_cache(session.pair, kv_bits=session.settings.kv_bits)

        several = SideBySide(session, batch)
        self.size = several.size
        self._rows = Rows(several.batch)
        share = cache_bytes // min(2, self.size)  # half of it for what rows have read
        several.batch.keep(share)
        self._session = session
        self._pool = CachePool(make, share)
        self._pool.put(session.cache)
        session.cache = make()  # the pool alone keeps what is kept
        self._echo = Echo(session, self._pool)
        self._is_alone = is_alone

    def recover(self) -> None:
        """Forget what a fault may have spoilt."""
        self._pool.clear()
        self._rows.forget()

    def chat(
        self, request: ChatRequest, index: int, should_stop: ShouldStop
    ) -> Iterator[Start | Part]:
        """Answer a conversation; ``index`` counts the answers to one request."""
        self._configure(request, index)
        prompt = self._session.prompt([dict(message) for message in request.messages])
        asked = self._asked(prompt, request)
        yield Start(prompt.opens_thinking)
        yield from self._answer(asked, request, should_stop)

    def completion(
        self, request: CompletionRequest, index: int, should_stop: ShouldStop
    ) -> Iterator[Start | Part]:
        """Go on from a text that both models read as it is."""
        self._configure(request, index)
        ids = self._ids(request.prompts[index // request.n])
        asked = self._asked(self._echo.prompt(ids), request)
        yield Start()
        if request.echo:
            try:
                yield self._echo.part(ids, request.logprobs, asked.options, should_stop)
            except Abandoned:
                return
        if request.writes:
            yield from self._answer(asked, request, should_stop)
        else:
            yield self._nothing(asked, len(ids))

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

    def _ids(self, prompt: str | Sequence[int]) -> list[int]:
        """Return the tokens of a text, or those that were given."""
        if isinstance(prompt, str):
            return self._session.pair.base.vocabulary.encode(prompt)
        self._check_ids(prompt, "prompt")
        return list(prompt)

    def _configure(self, request: AnswerRequest, index: int) -> None:
        settings, seed = request.settings, request.settings.seed
        if seed is not None:
            settings = replace(settings, seed=seed + index % request.n)
        self._session.configure(settings)

    def _asked(self, prompt: PairPrompt, request: AnswerRequest) -> BatchPrompt:
        """Return a prompt with the session's settings of now: the next request changes them."""
        from blendin_mlx.batch.batch_generation import BatchPrompt
        from blendin_mlx.decoding.answer_options import AnswerOptions

        candidates = max(request.logprobs or 0, request.candidates)
        options = AnswerOptions(**self._session.answer_options(), candidates=candidates)
        return BatchPrompt(prompt, options, self._session.seed)

    def _answer(
        self, asked: BatchPrompt, request: AnswerRequest, should_stop: ShouldStop
    ) -> Iterator[Part]:
        maker = PartMaker(self._session.pair, request.logprobs or 0, request.candidates > 0)
        # Who is alone has the single decoder: it drafts, and its caches need not hold rows.
        alone = self.size == 1 or self._is_alone()
        for response in (self._alone if alone else self._rows.answer)(asked, should_stop):
            yield maker.part(response)

    def _alone(self, one: BatchPrompt, should_stop: ShouldStop) -> Iterator[Response]:
        from blendin_mlx.batch.random_stream import RandomStream
        from blendin_mlx.generation import stream_generate
        from blendin_mlx.prompts import PairPrompt

        assert isinstance(one.prompt, PairPrompt)
        cache = self._pool.take(one.prompt.base.ids)
        responses = stream_generate(
            self._session.pair,
            one.prompt,
            draft=self._session.drafter,
            prompt_cache=cache,
            should_stop=should_stop,
            **vars(one.options),
        )
        random = RandomStream(0 if one.seed is None else one.seed)  # rows that join draw too
        while True:
            with random.drawing():
                response = next(responses, None)
            if response is None:
                break
            yield response
        self._pool.put(cache)  # not after an error: it may have spoilt it

    def _nothing(self, asked: BatchPrompt, read: int) -> Part:
        """Return the end of an answer that shall have no token."""
        from blendin_mlx.answer_statistics import Statistics, describe_method
        from blendin_mlx.decoding.answer_stream import Response

        described = describe_method(asked.options.made_method())
        statistics = Statistics(described, asked.options.policy, read, read)
        maker = PartMaker(self._session.pair, 0, detailed=False)
        return maker.part(Response("", (), statistics, "length"))
