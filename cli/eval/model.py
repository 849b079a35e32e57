"""A pair as a model of lm-evaluation-harness; importing this registers it as ``blendin``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import lm_eval.models  # noqa: F401 - the harness lists its own models only while it knows none
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import simple_parse_args_string

from blendin_mlx.answer_statistics import describe_method
from blendin_mlx.batch.batch_generation import BatchPrompt
from blendin_mlx.decoding.answer_options import AnswerOptions
from blendin_mlx.errors import BlendinError, PromptError
from blendin_mlx.scoring.score import Score

from ..session import Session
from ..side_by_side import SideBySide
from .arguments import session_of
from .conversations import as_context
from .counts import Count, Counts, total
from .openings import Opener
from .progress import Requests
from .scoring import Scorer, pair_prompt
from .task_options import answer_settings


@register_model("blendin")
class BlendinLM(LM):  # type: ignore[misc] # the harness has no types
    """A pair and a method, as the harness asks it.

    Args:
        session: the loaded pair, the method and the settings.
        batch: how many answers are written at once; None for as many as pay.
        should_stop: asked after each pass; True ends the evaluation like Ctrl-C.
        quiet: print no progress.

    Example:
        >>> lm_eval.simple_evaluate(BlendinLM(session), tasks=["openbookqa"])
    """

    def __init__(
        self,
        session: Session,
        batch: int | None = 1,
        should_stop: Callable[[], bool] = lambda: False,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self._session, self._batch, self._quiet = session, batch, quiet
        self._should_stop = should_stop
        self._opener = Opener(session)
        self._scorer = Scorer(session, self._opener, self._go_on)
        self.counts = Counts()

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: dict[str, Any] | None = None
    ) -> BlendinLM:
        """Load the pair that ``--model_args`` of the harness's own command line names.

        Args:
            arg_string: ``pair=demo,method=nudging,tau=0.3``: options of ``blendin eval``.
            additional_config: the harness's batch size; its device is of no use here.
        """
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(
        cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None
    ) -> BlendinLM:
        """Load the pair that arguments name; see :meth:`create_from_arg_string`."""
        return cls(*session_of(arg_dict, (additional_config or {}).get("batch_size")))

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation in nats, and whether greed writes it.

        Raises:
            PromptError: nothing to score, or more than a context holds.
            KeyboardInterrupt: told to stop.
        """

        def response(context: str, continuation: str) -> tuple[tuple[float, bool], list[Score]]:
            score = self._scorer.continuation(context, continuation)
            return (score.total, score.is_greedy), [score]

        return self._scored("loglikelihood", requests, response)

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> list[float]:
        """Return the log-likelihood of each document in nats; raises as :meth:`loglikelihood`."""

        def response(text: str) -> tuple[float, list[Score]]:
            scores = self._scorer.document(text)
            return sum(score.total for score in scores), scores

        return self._scored("loglikelihood_rolling", requests, response)

    def _scored(
        self, kind: str, requests: Sequence[Instance], response: Callable[..., Any]
    ) -> list[Any]:
        """Return the responses to requests, each kept as soon as it is there."""
        shown, found = Requests("scoring", len(requests), self._quiet), []
        for request in requests:
            self._go_on()
            made, scores = response(*request.args)
            self._keep(kind, request, made, *map(self._count, scores))
            found.append(made)
            shown(len(found))
        return found

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Return an answer to each request, written side by side.

        Raises:
            BlendinError: of the first that fails.
            click.ClickException: a task asks for what is not known here.
            KeyboardInterrupt: told to stop.
        """
        several = SideBySide(self._session, self._batch)
        shown, done = Requests("writing", len(requests), self._quiet), 0
        texts = [""] * len(requests)
        for index, outcome in several.answer(self._prompts(requests), self._should_stop):
            if isinstance(outcome, BlendinError):
                raise outcome
            self._go_on()
            texts[index] += outcome.text
            if outcome.finish_reason:
                written = outcome.statistics
                count = Count(written.completion_tokens, written.interventions)
                self._keep("generate_until", requests[index], texts[index], count)
                done += 1
                shown(done)
        self._go_on()
        return texts

    def _prompts(self, requests: Sequence[Instance]) -> Iterator[BatchPrompt]:
        for index, request in enumerate(requests):
            context, wanted = request.args
            self._session.configure(answer_settings(self._session.began, wanted))
            options = AnswerOptions(**self._session.answer_options())
            openings, fitting = self._opener.open(context), self._opener.fitting
            base, aligned = (
                fitting(one.model, one.read(), options.max_tokens)
                for one in (openings.base, openings.aligned)
            )
            yield BatchPrompt(pair_prompt(base, aligned, openings.stops), options, index)

    def _keep(self, kind: str, request: Instance, response: Any, *counts: Count) -> None:
        self.counts.add(self.cache_hook, request.args, total(counts))
        self.cache_hook.add_partial(kind, request.args, response)

    def _count(self, score: Score) -> Count:
        tokens = len(score.token_ids)
        is_alone = self._session.method.name == "aligned"  # its score knows of no other model
        return Count(tokens, tokens if is_alone else score.interventions)

    def _go_on(self) -> None:
        if self._should_stop():
            raise KeyboardInterrupt

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as a context; each model reads it in its own template.

        Args:
            chat_history: the messages.
            add_generation_prompt: False if the last message is the beginning of the answer.

        Raises:
            PromptError: the answer goes on from a message that is not the assistant's.
        """
        if not add_generation_prompt and chat_history[-1]["role"] != "assistant":
            raise PromptError("only a message of the assistant can be the beginning of an answer")
        return as_context(chat_history)

    @property
    def tokenizer_name(self) -> str:
        """The names of both models, which the harness's cache of prompts is named after."""
        return "__".join(model.name.replace("/", "__") for model in self._models())

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the aligned model's template, for the record.

        Args:
            chat_template: False for none.

        Raises:
            PromptError: a template is asked for by name.
        """
        if isinstance(chat_template, str):
            raise PromptError("a chat template has no name here; see --aligned-template")
        return self._session.pair.aligned.chat_template if chat_template else None

    def _models(self) -> list[Any]:
        return list(self._session.pair.models().values())

    def get_model_info(self) -> dict[str, Any]:
        """Return what the results say of the model: pair, method, settings, versions, rate."""
        settings = self._session.settings
        return {
            "models": {role: model.name for role, model in self._session.pair.models().items()},
            **describe_method(self._session.method),
            "projection": settings.projection,
            "stop_policy": settings.stop_policy,
            "base_template": str(settings.base_template),
            "thinking": settings.thinking,
            "kv_bits": settings.kv_bits,
            "versions": {name: version(name) for name in ("blendin-mlx", "mlx", "mlx-lm")},
            **self.counts.total().as_json(),
        }
