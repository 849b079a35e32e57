"""The harness itself: there or not, quiet, and without the network unless it may fetch."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

MISSING = "{} needs lm-evaluation-harness: pip install 'blendin-mlx[eval]'"


def require_harness(command: str) -> None:
    """Raise before anything is loaded if the harness is not installed.

    Raises:
        click.UsageError: naming what to install.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise click.UsageError(MISSING.format(command))


def prepare(fetch: bool) -> None:
    """Set what libraries read when they are imported, before the harness is.

    Args:
        fetch: data sets that are not on this machine may be fetched.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # progress is shown by the status line
    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # a process with models does not fork
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not fetch:
        os.environ.update(HF_DATASETS_OFFLINE="1", HF_EVALUATE_OFFLINE="1")
    logging.getLogger("lm_eval").setLevel(os.environ.get("LMEVAL_LOG_LEVEL", "ERROR").upper())
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # what it raises is told as one line
    datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE or not fetch


@contextmanager
def mute_children() -> Iterator[None]:
    """Context manager: programs that libraries run cannot write to stderr.

    The harness asks git for the commit of the current folder, which may not be a repository.
    """
    before = os.get_inheritable(2)
    os.set_inheritable(2, False)
    try:
        yield
    finally:
        os.set_inheritable(2, before)
