"""The command on two ranks, as mlx.launch starts it: real processes, over loopback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from acting_ranks import AT, DECODING, IMPATIENT, KILLED, LOADING, PROMPTED, STOPPED
from blendin_cli.machines import Group, group
from forked_ranks import run_ranks
from running import blendin, pair, the_line
from tiny_folders import write_model
from two_machines import launched

PROMPT = "hello there"
ASKING = ("--tau", ".9", "-m", "24", "-q")
# As mlx.launch does, before rank 0 has said a word.
TERMINATED = """
import os, signal
from blendin_mlx.distributed import leader
def lost(self, next_one=leader.Leader._next):
    try:
        return next_one(self)
    except leader.MachineError:
        os.kill(os.getpid(), signal.SIGTERM)
leader.Leader._next = lost
"""
ASKED = """
def held(self, *rest, read=leader.Leader.read):
    reads.append(rest)
    if len(reads) == 4:
        act()
    return read(self, *rest)
leader.Leader.read = held
"""
PHASES = {"loading": LOADING, "prompt": PROMPTED, "decoding": DECODING}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = write_model(folder / "base", 1, chat_template=False)
    return pair(base, write_model(folder / "aligned", 2))


@pytest.fixture(scope="module")
def alone(models):
    """What one machine writes."""
    ended = blendin("generate", *models, *ASKING, PROMPT)
    assert ended.returncode == 0
    return ended.stdout


def test_two_ranks_write_what_one_writes_and_read_only_their_own_weights(models, alone, tmp_path):
    told = """
from blendin_models.loading import loader
def held(network, progress=None, evaluate=loader.evaluate_weights):
    os.write(2, b"[weights]")
    evaluate(network, progress)
import os
loader.evaluate_weights = held
"""
    first, second = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, codes=(told, told))
    assert (first.returncode, first.stdout, first.stderr) == (0, alone, b"[weights]")
    assert (second.returncode, second.stdout, second.stderr) == (0, b"", b"[weights]")


def test_mlx_launch_is_all_it_takes(models, alone):
    """In fresh processes."""
    ended = launched("generate", *models, *ASKING, PROMPT, fresh=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, alone, b"")


def test_lines_are_answered_one_after_the_other(models, tmp_path):
    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(json.dumps({"prompt": f"hello {n}"}) + "\n" for n in range(3)))
    options = ("run", *models, *ASKING, "--batch", "2", lines)
    one = blendin(*options)
    first, second = run_ranks(tmp_path, *options)
    assert (first.returncode, second.returncode) == (0, 0)
    assert [line["token_ids"] for line in map(json.loads, first.stdout.splitlines())] == [
        line["token_ids"] for line in map(json.loads, one.stdout.splitlines())
    ]


@pytest.mark.parametrize("phase", PHASES)
def test_rank_1_is_killed(models, alone, tmp_path, phase):
    code = AT.format(act=KILLED) + PHASES[phase]
    trace = ("--trace", tmp_path / "kept.jsonl") if phase == "decoding" else ()
    first, _ = run_ranks(tmp_path, "generate", *models, *ASKING, *trace, PROMPT, codes=("", code))
    line = the_line(first, 1)
    assert line.startswith("blendin: rank 1 (")
    assert line.endswith(") ended, so this one ends too")
    assert_kept(first.stdout, alone, phase)
    if trace:
        lines = (tmp_path / "kept.jsonl").read_text().splitlines()
        assert [json.loads(line)["type"] for line in lines][:2] == ["run", "step"]


@pytest.mark.parametrize("phase", PHASES)
def test_rank_1_hangs(models, alone, tmp_path, phase):
    code = AT.format(act=STOPPED) + PHASES[phase]
    options = {"codes": (IMPATIENT, code), "stopped": [1]}
    first, _ = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, **options)
    line = the_line(first, 1)
    assert line.endswith(") has made no progress for 0.2 seconds, so this one ends")
    assert_kept(first.stdout, alone, phase)


def assert_kept(text, whole, phase):
    """What was written until then is there, and its line is ended."""
    written = text.removesuffix(b"\n")
    assert whole.startswith(written)
    assert bool(written) == (phase == "decoding")
    assert text != whole


@pytest.mark.parametrize("phase", [LOADING, ASKED], ids=["loading", "decoding"])
def test_rank_0_is_killed(models, tmp_path, phase):
    code = AT.format(act=KILLED) + phase
    _, second = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, codes=(code, ""))
    assert the_line(second, 1) == "blendin: rank 0 ended, so this one ends too"
    assert second.stdout == b""


def test_what_was_lost_is_said_though_mlx_launch_ends_rank_0_first(models, alone, tmp_path):
    codes = (TERMINATED, AT.format(act=KILLED) + DECODING)
    first, _ = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, codes=codes)
    assert the_line(first, 1).endswith(") ended, so this one ends too")
    assert_kept(first.stdout, alone, "decoding")


def test_ctrl_c_ends_both_as_rank_0_decides(models, alone, tmp_path):
    pressed = AT.format(act="os.kill(os.getpid(), signal.SIGINT)")
    codes = (pressed + ASKED, pressed + DECODING)
    first, second = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, codes=codes)
    assert (first.returncode, second.returncode) == (130, 130)
    assert_kept(first.stdout, alone, "decoding")
    assert second.stdout == second.stderr == b""


def test_under_mlx_launch_one_line_says_why_it_ends(models, alone):
    code = AT.format(act=KILLED) + DECODING
    ended = launched("generate", *models, *ASKING, PROMPT, code=code)
    lines = ended.stderr.decode().splitlines()
    (own,) = (line for line in lines if line.startswith("blendin: "))
    assert own.endswith(") ended, so this one ends too")
    assert any("Node with rank 0 exited with code 1" in line for line in lines)
    assert_kept(ended.stdout, alone, "decoding")


def test_other_weights_are_refused_at_the_start(models, tmp_path):
    other = write_model(tmp_path / "other" / "aligned", 3)
    code = f"""
import blendin_models.two_machines as loading
def elsewhere(names, *rest, found=loading.check_models):
    return found([({str(other)!r}, None)], *rest)
loading.check_models = elsewhere
"""
    first, second = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, codes=("", code))
    assert "is not the aligned of rank 0: its files differ" in the_line(first, 1)
    assert (second.returncode, second.stdout, second.stderr) == (1, b"", b"")


def test_another_version_is_refused_at_the_start(models, tmp_path):
    code = """
from blendin_mlx.distributed import meeting
meeting.version = lambda name: "0.0.1"
"""
    first, second = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, codes=("", code))
    assert "has blendin-mlx 0.0.1, not " in the_line(first, 1)
    assert (second.returncode, second.stdout, second.stderr) == (1, b"", b"")


def test_what_is_wrong_on_rank_1_is_said_by_rank_0(models, tmp_path):
    code = """
import blendin_models.two_machines as loading
from blendin_models.errors import ModelError
def damaged(*rest):
    raise ModelError("a file is damaged here")
loading.check_models = damaged
"""
    first, second = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, codes=("", code))
    assert the_line(first, 1).endswith("): a file is damaged here")
    assert (second.returncode, second.stdout, second.stderr) == (1, b"", b"")


def test_what_goes_wrong_on_rank_1_later_is_said_by_rank_0_too(models, tmp_path):
    code = """
from blendin_mlx.distributed import follower
def full(self, message):
    raise RuntimeError("out of memory")
follower.Follower._read = full
"""
    first, second = run_ranks(tmp_path, "generate", *models, *ASKING, PROMPT, codes=("", code))
    assert "): unexpected RuntimeError: out of memory" in the_line(first, 1)
    assert (second.returncode, second.stdout, second.stderr) == (1, b"", b"")


REFUSED = {
    "a command": (("score", "in.jsonl"), 2, "blendin score runs on one machine; on more do"),
    "a cache": (("generate", "--prompt-cache", "kept", "hi"), 2, "--prompt-cache works on one"),
    "no prompt": (("generate",), 2, "give the prompt as an argument"),
    "an option": (("generate", "--no-such", "hi"), 2, "No such option"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_work_on_two_is_said_once(tmp_path, name):
    arguments, code, said = REFUSED[name]
    first, second = run_ranks(tmp_path, *arguments)
    assert said in the_line(first, code)
    assert (second.returncode, second.stdout, second.stderr) == (code, b"", b"")


TWO = [["10.0.0.1:5000", "10.0.0.1:5001"], ["10.0.0.2:5002"]]


@pytest.fixture
def grouped(monkeypatch, tmp_path):
    """``grouped(hosts, MLX_RANK="1")``: the group of a process that is started so."""

    def make(hosts=TWO, **variables):
        file = tmp_path / "hosts"
        file.write_text(hosts if isinstance(hosts, str) else json.dumps(hosts))
        variables = {"MLX_RANK": "0", "MLX_HOSTFILE": str(file), **variables}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return group.__wrapped__()

    return make


def test_rank_0_listens_on_its_first_address(grouped):
    for rank in (0, 1):
        assert grouped(MLX_RANK=str(rank)) == Group(rank, ("10.0.0.1", 5000), 60.0)
    assert grouped(BLENDIN_MACHINES_TIMEOUT="2.5").patience_s == 2.5


@pytest.mark.parametrize("hosts", ["", "\n", [], TWO[:1]])
def test_one_rank_is_no_group(grouped, hosts):
    assert grouped(hosts) is None


PROBLEMS = {
    "no file": (TWO, {"MLX_HOSTFILE": "/no/such/file"}, "start with mlx.launch --backend ring"),
    "no list": ("{", {}, "start with mlx.launch --backend ring"),
    "no port": ([["here"], ["there"]], {}, "start with mlx.launch --backend ring"),
    "no address": ([[], []], {}, "start with mlx.launch --backend ring"),
    **{
        seconds: (TWO, {"BLENDIN_MACHINES_TIMEOUT": seconds}, f"TIMEOUT={seconds} is not a number")
        for seconds in ("soon", "0", "-1", "nan", "1e999")
    },
}


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("rank", [0, 1])
def test_what_cannot_start_is_known_to_both(grouped, name, rank):
    hosts, variables, said = PROBLEMS[name]
    found = grouped(hosts, MLX_RANK=str(rank), **variables)
    assert found.rank == rank
    assert said in found.problem


def test_help_needs_no_guide(tmp_path):
    first, second = run_ranks(tmp_path, "generate", "--help")
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.startswith(b"Usage: blendin generate")
    assert (second.stdout, second.stderr) == (b"", b"")


def test_alone_nothing_of_this_is_imported(models):
    told = f"""
import sys
from blendin_cli.main import main
try:
    main({["generate", *models, "-q", "-m", "2", PROMPT]!r})
finally:
    print(sorted(name for name in sys.modules if name.startswith("blendin_mlx.distributed")))
"""
    line = [sys.executable, "-c", told]
    ended = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert ended.stdout.endswith(b"[]\n")
