"""A session: loaded models and settings that answer prompts, shared by the commands."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .machines import check_settings
from .options.checks import check_usable, read_schema
from .options.method import make_method, with_reference
from .options.sampling import sampling
from .options.settings import Settings
from .pair_loading import keep_resident, load_pair, spec_of
from .prompting import joined, notices, prompt_of
from .terminal.interrupts import unswallowed_interrupt
from .terminal.output import say
from .terminal.status import STATUS, show_reading
from .tuned import without_stale_tuning

if TYPE_CHECKING:
    from blendin_mlx.decoding.answer_stream import Response
    from blendin_mlx.decoding.json_constraint import JsonConstraint
    from blendin_mlx.drafting.drafter import Drafter
    from blendin_mlx.prompt_cache import PromptCache
    from blendin_mlx.prompts import PairPrompt

    from .terminal.files import Target


_CANDIDATES = 5  # of each distribution, in a trace
# Settings that a trace has in another form.
_NOT_RECORDED = (
    *("pair", "base", "aligned", "reference", "base_adapter", "aligned_adapter"),
    *("lambda_", "beta", "shard"),
)


class Session:
    """Loaded models and the settings to blend them.

    Args:
        settings: the options of the command.
        quiet: print nothing on stderr.

    Attributes:
        began: the settings at the start.
        cut_json: True if the last answer ended before its JSON was complete.
        opened: True if the last prompt ended inside a thinking block.

    Raises:
        click.UsageError: one side of a pair is not named.
    """

    def __init__(self, settings: Settings, quiet: bool = False) -> None:
        self.settings = settings
        self._quiet = quiet
        self._said: set[str] = set()
        self.cut_json = False
        self.opened = False
        STATUS.show("importing MLX")
        with unswallowed_interrupt():
            self._load(quiet)

    def _load(self, quiet: bool) -> None:
        from blendin_mlx.input_text import read_text
        from blendin_mlx.prompt_cache import make_prompt_cache

        self.settings = settings = with_reference(self.settings, [self.settings.method])
        spec = spec_of(settings)
        self.method = make_method(settings)
        self.schema = read_schema(settings.json_schema)
        self.began = settings
        check_usable(settings)
        check_settings(settings)
        started = time.perf_counter()
        self.pair = load_pair(spec, quiet, settings.shard)
        self._drop_stale_tuning()
        self.pair.limit_context(settings.context)
        if settings.aligned_template is not None:
            self.pair.use_aligned_template(read_text(settings.aligned_template))
        if settings.wired_limit:
            keep_resident()
        self.load_s = time.perf_counter() - started
        self.seed = self._seed()
        self.cache = self._kept_cache() or make_prompt_cache(self.pair, kv_bits=settings.kv_bits)
        self.drafter = self._make_drafter()

    def _drop_stale_tuning(self) -> None:
        """Drop the settings that the pair was tuned to with other weights than were loaded."""
        settings, said = without_stale_tuning(self.settings, self.pair)
        if said:
            say(said, self._quiet)
            self.settings = self.began = settings
            self.method = make_method(settings)

    def _kept_cache(self) -> PromptCache | None:
        """Load the file of ``--prompt-cache``; return None if it does not exist yet."""
        from blendin_mlx.prompt_cache import load_prompt_cache

        path = self.settings.prompt_cache
        if path is None or not path.exists():
            return None
        return load_prompt_cache(path, self.pair, kv_bits=self.settings.kv_bits)

    def keep_beginning(self, *documents: str) -> None:
        """Read the system prompt and documents into the file of ``--prompt-cache``.

        An existing file is kept; a message says if it holds another prefix.
        """
        from blendin_mlx.generation import read_beginning
        from blendin_mlx.prompt_cache import save_prompt_cache

        path = self.settings.prompt_cache
        if path is None:
            return
        if not documents and self.settings.system is None:
            say("--prompt-cache: there is no system prompt or document to cache", self._quiet)
            return
        made = path.exists()
        before = self._read_tokens()
        prompts = [
            self.prompt([{"role": "user", "content": joined(*documents, question)}])
            for question in ("Why?", "1 or 2?")
        ]
        read_beginning(self.cache, prompts)
        if not made:
            save_prompt_cache(path, self.cache)
            say(f"{path}: saved {len(self.cache.base.tokens)} tokens of the prompt", self._quiet)
        elif before != self._read_tokens():
            say(f"{path} holds another prefix; remove it to create it again", self._quiet)

    def _read_tokens(self) -> list[list[int]]:
        return [list(context.tokens) for context in self.cache.contexts().values()]

    def configure(self, settings: Settings) -> None:
        """Change the settings; the models stay loaded.

        Raises:
            click.UsageError: options exclude each other, or the method does not accept one.
            ValueError: an option is out of range.
        """
        method = make_method(settings)
        check_usable(settings)
        if settings.json_schema != self.settings.json_schema:  # a pipe can be read only once
            self.schema = read_schema(settings.json_schema)
        self.method, self.settings = method, settings
        self.seed = self._seed()

    def _make_drafter(self) -> Drafter:
        from blendin_mlx.drafting.drafter import Drafter
        from blendin_models.pass_costs import kept_costs

        draft, length = self.settings.draft, self.settings.num_draft_tokens
        costs = kept_costs(self.pair) if draft != "off" and length is None else None
        return Drafter(draft, length, costs)

    def _seed(self) -> int | None:
        if self.settings.temp == 0:
            return self.settings.seed
        from blendin_mlx.backend.mlx import mx

        seed = secrets.randbits(32) if self.settings.seed is None else self.settings.seed
        mx.random.seed(seed)
        return seed

    def answer(
        self,
        messages: list[dict[str, str]] | PairPrompt,
        should_stop: Callable[[], bool],
        trace: Target | None = None,
        begun: Sequence[int] = (),
        candidates: int = 0,
    ) -> Iterator[Response]:
        """Stream the answer to a conversation; write each step to the trace.

        Args:
            messages: the conversation, or the prompts of both models.
            should_stop: asked before each token; True interrupts the answer.
            trace: the file of the trace, or None.
            begun: ids of the base's tokens that the answer begins with; they are not yielded.
            candidates: how many of the likeliest tokens each step names; with a trace, always 5.
        """
        from blendin_mlx.generation import stream_generate
        from blendin_mlx.inspection import begun as with_beginning

        show_reading()
        prompt = self.prompt(messages) if isinstance(messages, list) else messages
        self.opened = prompt.opens_thinking
        if begun:
            prompt = with_beginning(self.pair, prompt, begun)
        options = self.answer_options(begun)
        responses = stream_generate(
            self.pair,
            prompt,
            draft=self.drafter,
            prompt_cache=self.cache,
            prompt_progress_callback=show_reading,
            should_stop=should_stop,
            candidates=_CANDIDATES if trace else candidates,
            **options,
        )
        for response in self._traced(responses, prompt, trace) if trace else responses:
            yield response
        self.remark(response, options["constraint"])

    def _traced(
        self, responses: Iterator[Response], prompt: PairPrompt, trace: Target
    ) -> Iterator[Response]:
        """Yield the responses, and write each to the trace."""
        from blendin_mlx.trace.records import TraceWriter

        writer = TraceWriter(trace, self.pair)
        writer.run(prompt, self._recorded())
        for response in responses:
            yield response
            for piece in response.pieces:
                writer.step(piece)
            if response.finish_reason:
                writer.end(self.result(response))

    def remark(self, last: Response, constraint: JsonConstraint | None) -> None:
        """Print notices about a finished answer."""
        ids, cut = last.statistics.token_ids, last.finish_reason != "stop"
        self.cut_json = bool(constraint and cut and not constraint.is_complete(ids))
        if self.cut_json:
            say("the answer ended before its JSON was complete; a larger --max-tokens may help")
        if why := last.statistics.draft_off:
            self.say_once(f"drafting is off: {why}")

    def answer_options(self, begun: Sequence[int] = ()) -> dict[str, Any]:
        """Return the options of an answer by their names in the engine."""
        return {
            "method": self.method,
            "max_tokens": self.settings.max_tokens,
            "stop": self.settings.stop,
            "stop_policy": self.settings.stop_policy,
            "projection": self.settings.projection,
            "constraint": self._constraint(begun),
            **sampling(self.settings, self.pair.base.vocabulary.size),
        }

    def _constraint(self, begun: Sequence[int]) -> JsonConstraint | None:
        from blendin_mlx.decoding.json_constraint import JsonConstraint
        from blendin_mlx.errors import SchemaError

        if self.schema is None:
            return None
        try:
            return JsonConstraint(self.pair.base.vocabulary, self.schema, begun)
        except SchemaError as error:  # a usage error does not end a chat
            raise click.UsageError(str(error)) from None

    def say_once(self, line: str) -> None:
        """Say something unless it was said before."""
        if line not in self._said:
            self._said.add(line)
            say(line, self._quiet)

    def prompt(
        self, messages: list[dict[str, str]], settings: Settings | None = None
    ) -> PairPrompt:
        """Build the prompts of both models, the system prompt first.

        Args:
            messages: the conversation.
            settings: settings to use instead of the current ones.
        """
        with unswallowed_interrupt():  # rendering a template may take seconds
            prompt = prompt_of(self.pair, messages, settings or self.settings, self.began)
        for line in notices(self.pair, prompt):
            self.say_once(line)
        return prompt

    def _recorded(self) -> dict[str, Any]:
        """Return the settings for the trace, with the method's defaults filled in."""
        from blendin_mlx.answer_statistics import describe_method

        kept = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self.settings).items()
            if name not in _NOT_RECORDED
        }
        own = {"seed": self.seed, "json_schema": self.schema}
        return {**kept, **describe_method(self.method), **own}

    def result(self, response: Response) -> dict[str, Any]:
        """Return the ``--json`` object of a finished answer."""
        result = response.statistics.as_json()
        result["timing"] = {"load_s": round(self.load_s, 4), **result["timing"]}
        token_ids = result.pop("token_ids")
        models = {role: model.name for role, model in self.pair.models().items()}
        return {**result, "models": models, "seed": self.seed, "token_ids": token_ids}
