"""Python processes that start at once: forks of one that has imported what the command imports.

An import of the command with mlx-lm and transformers costs 1.5 s of a processor, a fork a tenth of
that or less. The process that forks starts with the first fork, and ends with the tests. What is
promised of the start itself (imports, streams as Python opens them) is tested with
``subprocess.Popen``, which takes the same arguments.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, AnyStr

from fork_requests import ask, read_number

FORKING = Path(__file__).with_name("forking_python.py")
# Read by Python or by libraries where they start: a fork cannot have values of its own.
READ_AT_THE_START = re.compile(
    "PYTHON(?!UNBUFFERED)|LANG|LC_|LD_|DYLD_|COVERAGE|OPENBLAS|BLENDIN_BLAS"
)
STAND_IN = """#!{python} -IS
import sys
sys.path.append({helpers!r})
from fork_requests import stand_in
stand_in({address!r}, [*{before!r}, *sys.argv[1:]])
"""


@dataclass(frozen=True)
class Imports:
    """What a process that forks has imported.

    Args:
        modules: their names.
        variables: of its environment, which modules read, and of its forks.
    """

    modules: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()


COMMAND = Imports(
    (
        *("blendin_cli.main", "blendin_models.split_base", "blendin_models.loading.loader"),
        *("blendin_mlx.distributed.split_base", "blendin_mlx.generation", "mlx_lm.models.llama"),
        *("transformers.models.auto.tokenization_auto", "prompt_toolkit", "psutil"),
    )
)
# ``blendin eval`` sets these before the harness is imported.
HARNESS = Imports(
    (*COMMAND.modules, "datasets", "lm_eval.evaluator", "lm_eval.tasks", "blendin_cli.eval.model"),
    (
        *(("TQDM_DISABLE", "1"), ("DISABLE_MULTIPROC", "1"), ("TOKENIZERS_PARALLELISM", "false")),
        *(("HF_DATASETS_OFFLINE", "1"), ("HF_EVALUATE_OFFLINE", "1")),
    ),
)
_ENVIRONMENT: dict[str, str] = {}
_OPEN = ExitStack()


class Fork(subprocess.Popen[AnyStr]):
    """``subprocess.Popen`` of a Python process that is a fork.

    Args:
        line: as Popen takes it; the first is ``sys.executable``.
        terminal: standard input becomes the controlling terminal of a new session.
        imports: what need not be imported.
        options: of Popen.
    """

    def __init__(
        self,
        line: Sequence[str | bytes],
        *,
        terminal: bool = False,
        imports: Imports = COMMAND,
        **options: Any,
    ) -> None:
        assert line[0] == sys.executable
        self._terminal = terminal
        self._imports = imports
        super().__init__(line, **options)

    def _execute_child(
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any,
        cwd: Any, env: Any, startupinfo: Any, creationflags: Any, shell: Any, *descriptors: Any,
    ) -> None:  # fmt: skip
        """Start the process: all that differs from Popen's own."""
        ours = descriptors[:6]  # both ends of each pipe; -1: none
        streams = {n: n if ours[i] == -1 else ours[i] for n, i in enumerate((0, 3, 5))}
        try:
            self._channel, self.pid = ask(
                _address(self._imports),
                [os.fsdecode(one) for one in args[1:]],
                os.fspath(cwd or os.getcwd()),
                _environment(env, self._imports),
                streams,
                self._terminal,
            )
        finally:
            self._close_pipe_fds(*ours)  # type: ignore[attr-defined]
        self._child_created = True

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        self._look(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code."""
        self._look(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def _look(self, timeout: float | None) -> None:
        if self.returncode is not None:
            return
        self._channel.settimeout(timeout if timeout is None else max(timeout, 0))
        with suppress(BlockingIOError, TimeoutError):
            self.returncode = read_number(self._channel)
            self._channel.close()


def begin(
    line: Sequence[str | bytes], *, fresh: bool = False, **options: Any
) -> subprocess.Popen[Any]:
    """Start a Python process.

    Args:
        line: as Popen takes it; the first is ``sys.executable``.
        fresh: it is no fork, but imports all by itself.
        options: of Popen.
    """
    start: Any = subprocess.Popen if fresh else Fork
    process: subprocess.Popen[Any] = start(line, **options)
    return process


def run(
    line: Sequence[str | bytes], *, input: AnyStr | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """``subprocess.run(capture_output=True)`` of a Python process that is a fork."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Fork[Any](line, **{**pipes, **options}) as process:
        out, err = process.communicate(input)
    return subprocess.CompletedProcess(line, process.returncode, out, err)


@contextmanager
def program(*before: str) -> Iterator[Path]:
    """Context manager: a program that is a fork of Python, for shells; its folder is its own.

    Args:
        before: its name, and the arguments of Python that come before those it is given.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder, before[0])
        helpers, address = str(FORKING.parent), _address(COMMAND)
        file.write_text(
            STAND_IN.format(
                python=sys.executable, helpers=helpers, address=address, before=before[1:]
            )
        )
        file.chmod(0o755)
        yield file


@contextmanager
def session() -> Iterator[None]:
    """Context manager: the process that forks gets the present environment, and ends at the end."""
    _ENVIRONMENT.update(os.environ)
    try:
        yield
    finally:
        _OPEN.close()
        _address.cache_clear()


@cache
def _address(imports: Imports) -> str:
    return _OPEN.enter_context(_forking(imports))


@contextmanager
def _forking(imports: Imports) -> Iterator[str]:
    """Context manager: a process that forks, and where it takes requests."""
    with TemporaryDirectory(dir="/tmp") as folder:  # the path of a socket must be short
        address = f"{folder}/socket"
        line = [sys.executable, str(FORKING), address, *imports.modules]
        environment = {**_ENVIRONMENT, **dict(imports.variables)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        options = {"env": environment, "start_new_session": True, **pipes}
        with subprocess.Popen(line, **options) as process:  # it ends with its standard input
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield address


def _environment(given: Mapping[str, str] | None, imports: Imports) -> Mapping[str, str]:
    """Return the environment of a fork, which must not differ in what is read before."""
    environment = {**dict(imports.variables), **(os.environ if given is None else given)}
    differing = {
        name
        for name, _ in environment.items() ^ _ENVIRONMENT.items()
        if READ_AT_THE_START.match(name)
    }
    assert not differing, f"{differing} need a process of their own: use subprocess.Popen"
    return environment
