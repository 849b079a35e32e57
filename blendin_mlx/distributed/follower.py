"""Contexts that read what rank 0 says, and the machine that serves a guide with them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..backend.mlx import mx
from ..errors import MachineError
from ..model import LanguageModel
from ..prompt_cache import fingerprint
from ..reading.cache_layers import leaves, trims_below
from ..reading.context import Context
from ..roles import Role
from .channel import Connection, Frame, Kind
from .leader import DTYPES, ROLES


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
            model = self._models[ROLES[message.second]]
            made = Context(model, kv_bits=kv_bits or None, prefill_step_size=step)
            self._contexts[message.first] = made
        elif message.kind is Kind.DROP:
            del self._contexts[message.first]
        elif message.kind is Kind.READ:
            self._read(message)
        elif message.kind is Kind.FINGERPRINT:
            text = fingerprint(self._models[ROLES[message.first]])
            self.reply(Kind.TEXT, message.serial, payload=text.encode())
        else:
            raise MachineError(f"rank 0 sent {message.kind.name}, which is not a request")

    def _read(self, message: Frame) -> None:
        context, rows = self._contexts[message.first], message.second
        keep, *ids = np.frombuffer(message.payload, np.int32).tolist()
        context.rewind(keep)
        if not rows:
            context.prefill(ids)
            self.reply(Kind.LOGITS, message.serial, context.rereads)
            return
        logits = context.read(ids, rows)
        self.reply(
            *(Kind.LOGITS, message.serial, context.rereads, DTYPES.index(logits.dtype)),
            np.array(logits.view(mx.uint8)).tobytes(),
        )


class Follower(Contexts):
    """Serves what rank 0 asks of some models.

    Args:
        channel: the connection to rank 0.
        models: the models that run here, by role.
    """

    def __init__(self, channel: Connection, models: Mapping[Role, LanguageModel]) -> None:
        super().__init__(models)
        self._channel = channel

    def reply(
        self, kind: Kind, serial: int, first: int = 0, second: int = 0, payload: bytes = b""
    ) -> None:
        """Send an answer to rank 0."""
        self._channel.send(kind, serial, first, second, payload)

    def serve(self) -> int:
        """Say that the models are loaded, serve until rank 0 leaves, and return its exit code.

        Raises:
            MachineError: rank 0 ended without a word, or sends what is not a request.
        """
        self._channel.describe(Kind.READY, self.lengths())
        while (message := self._channel.receive()).kind is not Kind.BYE:
            self.answer(message)
        return message.first


def _trims_below(model: LanguageModel) -> float:
    """Return the length from which on a cache of the model can forget no token."""
    return min((trims_below(layer) for layer in leaves(model.make_cache())), default=0.0)
