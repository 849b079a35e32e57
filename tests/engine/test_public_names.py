"""The public names of the engine are a decision: this is the list, and it names what it needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import blendin_mlx

FOLDER = Path(blendin_mlx.__file__).parent
PUBLIC = {
    "AdapterFiles",
    "Advice",
    "AnswerOptions",
    "AnswerText",
    "BASE_TEMPLATES",
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
    "GATES",
    "Guidance",
    "JsonConstraint",
    "LanguageModel",
    "LogitsProcessor",
    "METHODS",
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
    "read_trace",
    "read_example",
    "save_prompt_cache",
    "score",
    "score_each",
    "stream_generate",
    "verify_trace",
}


def annotations(node: ast.stmt) -> Iterator[ast.expr]:  # type: ignore[no-redef]
    """The annotations of a function, or of the public fields and methods of a class."""
    if isinstance(node, ast.FunctionDef):
        arguments = node.args
        for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if one.annotation is not None:
                yield one.annotation
        if node.returns is not None:
            yield node.returns
    if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
        yield node.annotation
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            name = getattr(part, "name", "")
            if name == "__init__" or not name.startswith("_"):
                yield from annotations(part)


def names_in(annotation: ast.expr) -> set[str]:
    """The names in an annotation."""
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)}


DEFINED = {
    node.name: node
    for path in FOLDER.rglob("*.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef | ast.FunctionDef)
}
ALIASES = {
    ast.unparse(node.targets[0])
    for path in FOLDER.rglob("*.py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.Assign)
}
TYPES = {name for name, node in DEFINED.items() if isinstance(node, ast.ClassDef)}
TYPES |= {name for name in ALIASES if name[0].isupper() and not name.isupper()}


def test_the_list_is_exact_and_every_name_can_be_had() -> None:
    assert set(blendin_mlx.__all__) == PUBLIC
    assert all(hasattr(blendin_mlx, name) for name in PUBLIC)


def test_every_type_in_a_public_signature_is_public() -> None:
    missing = {
        f"{used} in the signature of {name}"
        for name in PUBLIC & set(DEFINED)
        for annotation in annotations(DEFINED[name])
        for used in names_in(annotation) & TYPES - PUBLIC
    }
    assert not missing
