"""Downloads by real processes: killed, interrupted, two at once, in a read-only cache."""

from __future__ import annotations

import signal

import pytest

from blendin_models.hub import cache, client
from loopback_hub import PATIENCE_S
from pulling import BASE, COMMANDS, GUIDE, PULL, REQUESTS, pull

NOTICE = "a download was interrupted; its last file starts again"
INTERRUPTED = 130
PROGRESS = "base + guide: 0 MB\n"
# Writing below HF_HOME fails as it does on a disk that is mounted read-only, for root as well.
READ_ONLY = """
import errno, os, sys
cache = os.environ["HF_HOME"]
def deny(event, told):
    writes = event in ("os.mkdir", "os.rename", "os.remove", "os.symlink") or (
        event == "open" and isinstance(told[2], int) and told[2] & (os.O_WRONLY | os.O_RDWR)
    )
    if writes and any(str(path).startswith(cache) for path in told[:2]):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(told[0]))
sys.addaudithook(deny)
"""
COMMAND = "import sys, blendin_cli.main as cli\ncli.main(['models', 'pull', *sys.argv[1:]])\n"
KEPT = "from blendin_models.hub import client\nprint(*map(client.kept, sys.argv[1:]), sep='\\n')\n"


@pytest.mark.parametrize("kind", ["stall", "stall half-way"])
@pytest.mark.parametrize("at", range(1, REQUESTS + 1))
def test_after_a_kill_the_next_pull_completes(server, here, start, caplog, kind, at):
    server.fault(kind, at=at)
    process = start()
    assert server.stalled.wait(PATIENCE_S)
    process.kill()
    process.wait()
    left = here.orphans()
    server.heal()
    pull()
    here.assert_complete()
    assert (NOTICE in caplog.text) == bool(left) == (at > 2)


def test_a_pair_is_complete_after_five_kills(server, here, start):
    body = "GET /org/"
    faults = [("stall", "/api/", 2), ("stall half-way", body, 1), ("stall half-way", body, 2)]
    faults += [("stall", body, 2), ("stall half-way", body, 2)]  # each time more was there
    for kind, of, at in faults:
        server.fault(kind, of=of, at=at)
        process = start()
        assert server.stalled.wait(PATIENCE_S)
        process.kill()
        process.wait()
        server.heal()
    process = start()
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    here.assert_complete()
    assert len(errors.splitlines()) <= 2
    assert all(NOTICE in line for line in errors.splitlines())


@pytest.mark.parametrize(
    ("kind", "of"),
    [
        ("stall", "/api/"),
        ("stall", "GET /org/"),
        ("stall half-way", "model.safetensors"),
        ("slow", "model.safetensors"),
    ],
)
def test_ctrl_c_ends_a_download_without_waiting_for_the_hub(server, here, start, kind, of):
    server.fault(kind, of=of, for_ever=True)
    process = start(COMMAND)
    assert server.stalled.wait(PATIENCE_S)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE_S)  # the hub goes on only when healed
    assert (process.returncode, output) == (INTERRUPTED, "")
    assert errors in ("", PROGRESS)  # it was told if some bytes came before
    assert here.orphans() == []
    server.heal()
    pull()
    here.assert_complete()


def test_two_downloads_of_one_model_at_once(server, here, start):
    server.fault("stall half-way", of=f"GET /{BASE}/resolve")
    first = start()
    assert server.stalled.wait(PATIENCE_S)
    second = start()
    server.wait_for("/api/", 4)  # the second knows what to fetch
    (part,) = here.orphans()
    assert cache.sweep(BASE) == 0  # it is being written
    assert part.exists()
    server.heal()
    for process in (first, second):
        assert process.communicate(timeout=PATIENCE_S) == ("", "")
        assert process.returncode == 0
    here.assert_complete()
    for repo in (BASE, GUIDE):
        weights = f"GET /{repo}/resolve/{server.repos[repo].commit}/model.safetensors"
        assert server.asked(weights) == 1


def test_a_complete_read_only_cache_suffices(server, here, start):
    folders = pull()
    before = len(server.requests)
    for name in ("verified.json", "hub/org--base@main.json"):
        assert (here.home / name).exists()
    process = start(READ_ONLY + KEPT, HF_HUB_OFFLINE="1")
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert (output.splitlines(), errors) == ([str(folder) for folder in folders], "")
    assert len(server.requests) == before


def test_an_incomplete_read_only_cache_is_one_line(server, here, start):
    pull(BASE)
    process = start(READ_ONLY + PULL)
    _, errors = process.communicate(timeout=PATIENCE_S)
    (line,) = errors.splitlines()
    assert line.startswith(f"one line: {GUIDE} cannot be written to the cache: ")
    assert "Read-only file system" in line
    assert client.kept(BASE) is not None


def test_settings_come_from_the_environment(server, here, start):
    """In fresh processes, as the hub's library reads its settings when it is imported."""
    process = start(fresh=True, HF_HUB_OFFLINE="1")
    _, errors = process.communicate(timeout=PATIENCE_S)
    (line,) = errors.splitlines()
    assert "HF_HUB_OFFLINE is set" in line
    assert line.endswith(COMMANDS[0])
    assert server.requests == []
    process = start(fresh=True, HF_TOKEN="hf_from_the_environment")
    assert process.communicate(timeout=PATIENCE_S) == ("", "")
    sent = {request.headers.get("authorization") for request in server.requests}
    assert sent == {"Bearer hf_from_the_environment"}
    here.assert_complete()  # below HF_HOME
