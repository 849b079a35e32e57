"""Ranks that do something to themselves in a phase: Python that they run before the command."""

from __future__ import annotations

# What they do; a rank that stops itself says so before.
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
STOPPED = """
    ends[0].describe(channel.Kind.PROGRESS, ["stopping", 0, 0])
    os.kill(os.getpid(), signal.SIGSTOP)
"""
AT = """
import os, signal
from blendin_mlx.distributed import channel, follower, leader, split_base as ring
from blendin_models import split_base
from blendin_models.loading import loader
ends, reads = [], []
def joined(self, *rest, before=channel.Channel.__init__):
    before(self, *rest)
    ends.append(self)
channel.Channel.__init__ = joined
def act():
    {act}
"""
LOADING = """
def held(network, progress=None, evaluate=loader.evaluate_weights):
    act()
    evaluate(network, progress)
loader.evaluate_weights = held
"""
# At the first step of the prefill, and where a fourth row is read.
PROMPTED = """
def held(self, message, read=follower.Contexts._read):
    if not message.second:
        act()
    read(self, message)
follower.Contexts._read = held
"""
DECODING = """
def held(self, message, read=follower.Contexts._read):
    reads.extend([message] if message.second else [])
    if len(reads) == 4:
        act()
    read(self, message)
follower.Contexts._read = held
"""
# Rank 0 waits no longer for one that has said that it stops.
IMPATIENT = """
from blendin_mlx.distributed import channel, leader
def noticing(self, next_one=leader.Leader._next):
    message = next_one(self)
    if message.kind is channel.Kind.PROGRESS and message.described[0] == "stopping":
        self.channel.patience_s = 0.2
    return message
leader.Leader._next = noticing
"""
