"""Contexts that read what rank 0 says, and the machine that serves guides with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backend.mlx import mx
from ..errors import MachineError
from ..model import LanguageModel
from ..prompt_cache import fingerprint
from ..reading.cache_layers import leaves, trims_below
from ..reading.context import Context
from ..roles import Role
from .channel import Channel, Frame, Kind
from .expectations import Expectations, Rows
from .leader import DTYPES


class Contexts:
    """The contexts that rank 0 has opened here.

    Args:
        models: the models that run here, by role.
    """

    def __init__(self, models: Mapping[Role, LanguageModel]) -> None:
        self._models = models
        self._contexts: dict[int, Context] = {}

    def lengths(self) -> dict[Role, float]:
        """Return the length of each model from which on its cache can forget no token."""
        return {role: _trims_below(model) for role, model in self._models.items()}

    def reply(
        self, kind: Kind, serial: int, first: int = 0, second: int = 0, payload: bytes = b""
    ) -> None:
        """Send an answer; here nobody waits for one."""

    def answer(self, message: Frame) -> None:
        """Do what a request asks, and reply.

        Raises:
            MachineError: it is not a request.
        """
        if message.kind is Kind.OPEN:
            kv_bits, step = np.frombuffer(message.payload, np.int32).tolist()
            model = self._model(message.second)
            made = Context(model, kv_bits=kv_bits or None, prefill_step_size=step)
            self._contexts[message.first] = made
        elif message.kind is Kind.DROP:
            del self._contexts[message.first]
        elif message.kind is Kind.READ:
            self._read(message)
        elif message.kind is Kind.FINGERPRINT:
            text = fingerprint(self._model(message.first))
            self.reply(Kind.TEXT, message.serial, payload=text.encode())
        else:
            raise MachineError(f"rank 0 sent {message.kind.name}, which is not a request")

    def _model(self, number: int) -> LanguageModel:
        """Return a model by its place among those that rank 0 was told to be loaded."""
        return list(self._models.values())[number]

    def _read(self, message: Frame) -> None:
        rows = self._asked(message)
        rereads = self._contexts[message.first].rereads
        self.reply(Kind.LOGITS, message.serial, rereads, rows.dtype, rows.numbers)

    def _asked(self, message: Frame) -> Rows:
        """Return the rows that are asked for."""
        return self._rows(message)

    def _rows(self, message: Frame) -> Rows:
        """Let a context read."""
        context, ids = self._rewound(message)
        if not message.second:
            context.prefill(ids)
            return Rows()
        logits = context.read(ids, message.second)
        numbers = np.array(logits.view(mx.uint8)).tobytes()
        return Rows(DTYPES.index(logits.dtype), numbers)

    def _rewound(self, message: Frame) -> tuple[Context, list[int]]:
        """Return a context with the tokens that it keeps, and those to read after them."""
        context = self._contexts[message.first]
        keep, *ids = np.frombuffer(message.payload, np.int32).tolist()
        context.rewind(keep)
        return context, ids


class Follower(Contexts):
    """Serves what rank 0 asks of some models, and reads ahead what it may ask next.

    Args:
        channel: the connection to rank 0.
        models: the models that run here, by role.
    """

    def __init__(self, channel: Channel, models: Mapping[Role, LanguageModel]) -> None:
        super().__init__(models)
        self._channel = channel
        self._before: dict[int, Any] = {}  # where each context was before its last pass
        self._expectations = Expectations(self._rows, self._undo)

    def serve(self) -> int:
        """Say that the models are loaded, serve until rank 0 leaves, and return its exit code.

        Raises:
            MachineError: rank 0 ended without a word, or sends what is not a request.
        """
        self._channel.describe(Kind.READY, self.lengths())
        while (message := self._next()).kind is not Kind.BYE:
            self.answer(message)
        return message.first

    def _next(self) -> Frame:
        """Return the next message; while none has come, run what may be asked for."""
        while self._expectations.wait and not self._channel.comes(0.0):
            self._expectations.run_one()
            if not self._channel.comes(0.0):
                self._expectations.was_in_time()
        return self._channel.receive()

    def reply(
        self, kind: Kind, serial: int, first: int = 0, second: int = 0, payload: bytes = b""
    ) -> None:
        """Send an answer to rank 0."""
        self._channel.send(kind, serial, first, second, payload)

    def answer(self, message: Frame) -> None:
        """Do what a request asks, and reply; remember what may be asked."""
        if message.kind is Kind.EXPECT:
            self._expectations.add(message)
            return
        super().answer(message)
        if message.kind is Kind.DROP:
            self._before.pop(message.first, None)
            self._expectations.forget(message.first)

    def _asked(self, message: Frame) -> Rows:
        return self._expectations.answer(message)

    def _rewound(self, message: Frame) -> tuple[Context, list[int]]:
        context, ids = super()._rewound(message)
        self._before[message.first] = context.mark()
        return context, ids

    def _undo(self, number: int) -> None:
        """Undo the last pass of a context."""
        self._contexts[number].undo(self._before[number])


def _trims_below(model: LanguageModel) -> float:
    """Return the length from which on a cache of the model can forget no token."""
    return min((trims_below(layer) for layer in leaves(model.make_cache())), default=0.0)
