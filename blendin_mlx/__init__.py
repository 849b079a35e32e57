"""Guided decoding: a base model writes, an aligned model is asked where the base is unsure.

    >>> from blendin_mlx import generate
    >>> from blendin_models import load_pair
    >>> print(generate(load_pair("demo"), "How do I boil an egg?"))

Names are loaded lazily, so that importing the package is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .answer_statistics import FinishReason, ModelUse, Statistics
    from .backend.mlx import mx
    from .base_templates import BASE_TEMPLATES, BaseTemplate
    from .batch.batch_decoder import BatchDecoder
    from .batch.batch_generation import BatchPrompt, Outcome, batch_generate, batch_stream
    from .blend.dial import Dialled
    from .blend.gates import GATES
    from .blend.method import Advice, Method, Target, View
    from .blend.methods import METHODS, make_method
    from .blend.sampling import LogitsProcessor, Sampler
    from .decoding.answer_options import AnswerOptions
    from .decoding.answer_stream import Piece, Response
    from .decoding.json_constraint import JsonConstraint
    from .decoding.rules import StopPolicy
    from .drafting.drafter import Draft, Drafter
    from .drafting.pass_costs import Costs, measure
    from .drafting.proposers import Proposer, ProposerName
    from .errors import (
        BlendinError,
        MachineError,
        NumericalError,
        PairError,
        PromptCacheError,
        PromptError,
        SchemaError,
        TraceError,
    )
    from .generation import generate, read_beginning, stream_generate
    from .model import AdapterFiles, Elsewhere, LanguageModel, Pair
    from .prompt_cache import PromptCache, load_prompt_cache, make_prompt_cache, save_prompt_cache
    from .prompts import Message, PairPrompt, Prompt, build_prompt
    from .reading.context import Context
    from .reading.reader import Progress, Reader, RewindsBy
    from .roles import Role
    from .scoring.calibration import Bin, Calibration, Reliability, calibration, fit_temperature
    from .scoring.dial_map import Dial, DialMap, dial_map
    from .scoring.readings import Flags, Numbers, Reading, read_example
    from .scoring.score import Score, score, score_each
    from .step import Candidate, Candidates, Guidance, Source, Step
    from .tokens.answer_text import AnswerText
    from .tokens.projection import Carried, Projection, ProjectionRule
    from .tokens.vocabulary import Vocabulary
    from .trace.records import TraceFile, TraceRecord, TraceWriter, read_trace
    from .trace.verify import Mismatch, verify_trace

_HOMES = {
    "answer_statistics": ("FinishReason", "ModelUse", "Statistics"),
    "backend.mlx": ("mx",),
    "batch.batch_decoder": ("BatchDecoder",),
    "batch.batch_generation": ("BatchPrompt", "Outcome", "batch_generate", "batch_stream"),
    "blend.dial": ("Dialled",),
    "blend.gates": ("GATES",),
    "blend.method": ("Advice", "Method", "Target", "View"),
    "blend.methods": ("METHODS", "make_method"),
    "blend.sampling": ("LogitsProcessor", "Sampler"),
    "decoding.answer_options": ("AnswerOptions",),
    "decoding.answer_stream": ("Piece", "Response"),
    "decoding.json_constraint": ("JsonConstraint",),
    "decoding.rules": ("StopPolicy",),
    "drafting.drafter": ("Draft", "Drafter"),
    "drafting.pass_costs": ("Costs", "measure"),
    "drafting.proposers": ("Proposer", "ProposerName"),
    "errors": (
        *("BlendinError", "MachineError", "NumericalError", "PairError", "PromptCacheError"),
        *("PromptError", "SchemaError", "TraceError"),
    ),
    "generation": ("generate", "read_beginning", "stream_generate"),
    "model": ("AdapterFiles", "Elsewhere", "LanguageModel", "Pair"),
    "roles": ("Role",),
    "prompt_cache": ("PromptCache", "load_prompt_cache", "make_prompt_cache", "save_prompt_cache"),
    "base_templates": ("BASE_TEMPLATES", "BaseTemplate"),
    "prompts": ("Message", "PairPrompt", "Prompt", "build_prompt"),
    "reading.context": ("Context",),
    "reading.reader": ("Progress", "Reader", "RewindsBy"),
    "scoring.calibration": (
        *("Bin", "Calibration", "Reliability", "calibration", "fit_temperature"),
    ),
    "scoring.dial_map": ("Dial", "DialMap", "dial_map"),
    "scoring.readings": ("Flags", "Numbers", "Reading", "read_example"),
    "scoring.score": ("Score", "score", "score_each"),
    "step": ("Candidate", "Candidates", "Guidance", "Source", "Step"),
    "tokens.answer_text": ("AnswerText",),
    "tokens.projection": ("Carried", "Projection", "ProjectionRule"),
    "tokens.vocabulary": ("Vocabulary",),
    "trace.records": ("TraceFile", "TraceRecord", "TraceWriter", "read_trace"),
    "trace.verify": ("Mismatch", "verify_trace"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BASE_TEMPLATES",
    "GATES",
    "METHODS",
    "AdapterFiles",
    "Advice",
    "AnswerOptions",
    "AnswerText",
    "BaseTemplate",
    "BatchDecoder",
    "BatchPrompt",
    "Bin",
    "BlendinError",
    "Calibration",
    "Candidate",
    "Candidates",
    "Carried",
    "Context",
    "Costs",
    "Dial",
    "DialMap",
    "Dialled",
    "Draft",
    "Drafter",
    "Elsewhere",
    "FinishReason",
    "Flags",
    "Guidance",
    "JsonConstraint",
    "LanguageModel",
    "LogitsProcessor",
    "MachineError",
    "Message",
    "Method",
    "Mismatch",
    "ModelUse",
    "Numbers",
    "NumericalError",
    "Outcome",
    "Pair",
    "PairError",
    "PairPrompt",
    "Piece",
    "Progress",
    "Projection",
    "ProjectionRule",
    "Prompt",
    "PromptCache",
    "PromptCacheError",
    "PromptError",
    "Proposer",
    "ProposerName",
    "Reader",
    "Reading",
    "Reliability",
    "Response",
    "RewindsBy",
    "Role",
    "Sampler",
    "SchemaError",
    "Score",
    "Source",
    "Statistics",
    "Step",
    "StopPolicy",
    "Target",
    "TraceError",
    "TraceFile",
    "TraceRecord",
    "TraceWriter",
    "View",
    "Vocabulary",
    "batch_generate",
    "batch_stream",
    "build_prompt",
    "calibration",
    "dial_map",
    "fit_temperature",
    "generate",
    "load_prompt_cache",
    "make_method",
    "make_prompt_cache",
    "measure",
    "mx",
    "read_beginning",
    "read_example",
    "read_trace",
    "save_prompt_cache",
    "score",
    "score_each",
    "stream_generate",
    "verify_trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
