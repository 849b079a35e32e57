"""What is loaded as code lies where no other user can put anything."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from blendin_mlx.backend.private import others_can_change, private_folder

COMPILES = """
import os, sys, tempfile
import blendin_mlx.backend.mlx
from blendin_mlx.backend.mlx import mx
mx.set_default_device(mx.cpu)
kernel = mx.compile(lambda x: mx.exp(x) * 3 + 1)
mx.eval(kernel(mx.arange(4.0)))
print(os.environ.get("TMPDIR"))
print(tempfile.gettempdir())
"""
ON_LINUX = sys.platform == "linux" and platform.machine() == "x86_64"
linux = pytest.mark.skipif(not ON_LINUX, reason="a BLAS is chosen on Linux x86-64 only")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A temporary directory that everyone can write in."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def compiled(shared: Path, home: Path) -> list[str]:
    """What a fresh process says of its temporary directories after it compiled a kernel."""
    environment = {**os.environ, "TMPDIR": str(shared), "BLENDIN_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILES],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_kernels_are_compiled_in_the_users_cache(shared, tmp_path):
    home = tmp_path / "home"
    kernels, temporary = compiled(shared, home)
    assert (kernels, temporary) == (str(home / "kernels"), str(shared))
    assert mode(home / "kernels") == 0o700
    assert list(shared.iterdir()) == []


def test_a_temporary_directory_of_the_users_own_is_left_alone(tmp_path):
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    assert compiled(own, tmp_path / "home") == [str(own), str(own)]


def test_kernels_go_elsewhere_where_the_cache_is_no_folder(shared, tmp_path):
    home = tmp_path / "home"
    home.write_text("")
    kernels, _ = compiled(shared, home)
    assert Path(kernels).parent == shared
    assert list(shared.iterdir()) == []  # it ended with the process


def test_kernels_go_elsewhere_where_the_cache_is_an_unknown_users(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kernels, _ = compiled(shared, Path("~nobody-of-that-name/x"))
    assert Path(kernels).parent == shared
    assert list(tmp_path.iterdir()) == [shared]


def test_what_others_could_write_in_is_emptied_before_it_is_used(tmp_path):
    folder = private_folder(tmp_path / "kernels")
    (folder / "planted.so").write_text("")
    folder.chmod(0o777)
    assert list(private_folder(folder).iterdir()) == []
    assert mode(folder) == 0o700


@pytest.mark.parametrize("found", [0o1777, 0o775, 0o757])
def test_a_folder_that_others_can_write_in_is_seen(tmp_path, found):
    tmp_path.chmod(found)
    assert others_can_change(tmp_path)
    tmp_path.chmod(0o755)
    assert not others_can_change(tmp_path)


def test_another_users_folder_is_refused(tmp_path, monkeypatch):
    folder = private_folder(tmp_path / "kernels")
    if os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="other users"):
        private_folder(folder)


def test_a_link_is_not_a_private_folder(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(private_folder(tmp_path / "kernels"))
    assert others_can_change(link)


@linux
def test_a_blas_that_others_could_have_put_there_is_made_again(tmp_path):
    program = "from blendin_mlx.backend import blas; print(blas.preload().name)"
    environment = {**os.environ, "BLENDIN_HOME": str(tmp_path)}
    environment.pop("BLENDIN_BLAS", None)

    def choose() -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    assert choose() == "openblas\n"
    (copy,) = (tmp_path / "blas").iterdir()
    first = copy.stat().st_ino, copy.stat().st_mtime_ns
    copy.chmod(0o666)
    assert choose() == "openblas\n"
    assert mode(copy) == 0o600
    assert (copy.stat().st_ino, copy.stat().st_mtime_ns) != first
