"""A base split over ranks of the command: real processes with MLX's ring between them."""

from __future__ import annotations

import json
import shutil

import pytest

from acting_ranks import AT, DECODING, IMPATIENT, KILLED, LOADING, PROMPTED, STOPPED
from blendin_mlx.backend.mlx import mx
from blendin_models.storage.paths import lacking, model_folder
from forked_ranks import run_ranks
from running import pair, the_line
from tiny_folders import VOCABULARY, write_model
from two_machines import launched

PROMPT = "hello there"
ASKING = ("--tau", ".9", "-m", "24", "-q")
HEADS = {"num_attention_heads": 6, "num_key_value_heads": 6}
CHECKING = """
def held(*rest, check=split_base.check_part):
    act()
    return check(*rest)
split_base.check_part = held
"""
MEETING = """
def held(*rest, load=split_base.load_split):
    act()
    return load(*rest)
split_base.load_split = held
"""
JOINING = """
def held(connection, join=ring.join_ring):
    act()
    return join(connection)
ring.join_ring = held
"""
PHASES = {
    "checking": CHECKING,
    "joining": JOINING,
    "loading": LOADING,
    "prompt": PROMPTED,
    "decoding": DECODING,
}
# A rank does not wait for one that cannot say that it stops: while the ring is connected nothing is
# heard.
UNJOINED = """
from blendin_mlx.distributed import split_base as ring
def impatient(connection, join=ring.join_ring):
    connection.patience_s = 0.2
    return join(connection)
ring.join_ring = impatient
"""
# Rank 0 stops where it has asked for the fourth token; then rank 1 waits no longer.
LEFT_ALONE = """
from blendin_mlx.distributed import split_base as ring
asked = []
def give(self, request, give_it=ring.Part.give):
    asked.extend([request] if request.second and request.kind is ring.Kind.READ else [])
    if len(asked) == 4:
        ends[0].patience_s = 0.2
    give_it(self, request)
ring.Part.give = give
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = write_model(folder / "base", 1, chat_template=False, shape=HEADS)
    return base, write_model(folder / "aligned", 2)


@pytest.fixture(scope="module")
def models(folders):
    return pair(*folders)


@pytest.fixture(scope="module")
def alone(models, tmp_path_factory):
    """What one machine writes."""
    folder = tmp_path_factory.mktemp("alone")
    trace = ("--trace", folder / "trace.jsonl")
    (ended,) = run_ranks(folder, "generate", *models, *ASKING, *trace, PROMPT, codes=[""])
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, steps(folder / "trace.jsonl")


def steps(trace):
    lines = map(json.loads, trace.read_text().splitlines())
    return [line for line in lines if line["type"] == "step"]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_write_what_one_machine_writes(models, alone, tmp_path, size):
    text, expected = alone
    trace = ("--trace", tmp_path / "trace.jsonl")
    options = (*models, *ASKING, *trace, "--shard", PROMPT)
    first, *others = run_ranks(tmp_path, "generate", *options, codes=size * [""])
    assert (first.returncode, first.stdout, first.stderr) == (0, text, b"")
    assert {(one.returncode, one.stdout, one.stderr) for one in others} == {(0, b"", b"")}
    found = steps(tmp_path / "trace.jsonl")
    assert len(found) == 24
    assert_alike(found, expected)


def test_each_rank_reads_its_part_of_the_base_and_rank_0_the_guide_too(models, tmp_path):
    told = """
import sys
from blendin_models.loading import loader
from mlx.utils import tree_flatten
def held(network, progress=None, evaluate=loader.evaluate_weights):
    size = sum(array.size for _, array in tree_flatten(network.layers[0].mlp.parameters()))
    sys.stderr.write(f"[{size}]")
    evaluate(network, progress)
loader.evaluate_weights = held
"""
    options = (*models, *ASKING, "--shard", PROMPT)
    read = run_ranks(tmp_path, "generate", *options, codes=(told, told))
    whole = 3 * 32 * 48
    assert [one.stderr.decode() for one in read] == [f"[{whole // 2}][{whole}]", f"[{whole // 2}]"]


@pytest.mark.parametrize("phase", PHASES)
def test_rank_1_is_killed(models, alone, tmp_path, phase):
    code = AT.format(act=KILLED) + PHASES[phase]
    codes = (UNJOINED if phase == "joining" else "", code)
    first, second = run_ranks(
        tmp_path, "generate", *models, *ASKING, "--shard", PROMPT, codes=codes
    )
    assert second.returncode == -9
    line = the_line(first, 1)
    assert line.startswith("blendin: rank 1 (")
    ended = "has made no progress for 0.2 seconds, so this one ends"
    assert line.endswith(ended if phase == "joining" else ") ended, so this one ends too")
    assert_kept(first.stdout, alone, phase)


@pytest.mark.parametrize("phase", PHASES)
def test_rank_1_hangs(models, alone, tmp_path, phase):
    code = AT.format(act=STOPPED) + PHASES[phase]
    codes = (UNJOINED if phase == "joining" else IMPATIENT, code)
    options = (*models, *ASKING, "--shard", PROMPT)
    first, _ = run_ranks(tmp_path, "generate", *options, codes=codes, stopped=[1])
    assert the_line(first, 1).endswith(") has made no progress for 0.2 seconds, so this one ends")
    assert_kept(first.stdout, alone, phase)


def assert_kept(text, alone, phase):
    """What was written until then is there, and its line is ended."""
    written = text.removesuffix(b"\n")
    assert alone[0].startswith(written)
    assert bool(written) == (phase == "decoding")
    assert text != alone[0]


@pytest.mark.parametrize("phase", ["checking", "loading", "decoding"])
def test_rank_0_is_killed(models, tmp_path, phase):
    codes = (AT.format(act=KILLED) + (MEETING if phase == "checking" else PHASES[phase]), "")
    first, second = run_ranks(
        tmp_path, "generate", *models, *ASKING, "--shard", PROMPT, codes=codes
    )
    assert first.returncode == -9
    assert the_line(second, 1) == "blendin: rank 0 ended, so this one ends too"
    assert second.stdout == b""


def test_rank_0_hangs_in_a_pass(models, tmp_path):
    stopping = AT.format(act="os.kill(os.getpid(), signal.SIGSTOP)") + DECODING
    options = (*models, *ASKING, "--shard", PROMPT)
    codes = (stopping, AT.format(act="pass") + LEFT_ALONE)
    _, second = run_ranks(tmp_path, "generate", *options, codes=codes, stopped=[0])
    line = "blendin: rank 0 has made no progress for 0.2 seconds, so this one ends"
    assert (the_line(second, 1), second.stdout) == (line, b"")


def test_of_several_ranks_all_end_and_one_speaks(models, alone, tmp_path):
    codes = ("", "", AT.format(act=KILLED) + DECODING)
    first, *others = run_ranks(
        tmp_path, "generate", *models, *ASKING, "--shard", PROMPT, codes=codes
    )
    assert the_line(first, 1).startswith("blendin: rank 2 (")
    assert_kept(first.stdout, alone, "decoding")
    assert [(one.returncode, one.stderr) for one in others] == [(1, b""), (-9, b"")]


def test_of_several_ranks_one_speaks_when_rank_0_is_killed(models, tmp_path):
    codes = (AT.format(act=KILLED) + DECODING, "", "")
    _, second, third = run_ranks(
        tmp_path, "generate", *models, *ASKING, "--shard", PROMPT, codes=codes
    )
    assert the_line(second, 1) == "blendin: rank 0 ended, so this one ends too"
    assert (third.returncode, third.stderr) == (1, b"")


def test_ctrl_c_in_a_pass_ends_all_after_it(models, alone, tmp_path):
    code = AT.format(act="os.kill(os.getpid(), signal.SIGINT)") + DECODING
    options = (*models, *ASKING, "--shard", PROMPT)
    first, second = run_ranks(tmp_path, "generate", *options, codes=(code, code))
    assert (first.returncode, second.returncode) == (130, 130)
    assert_kept(first.stdout, alone, "decoding")
    assert (first.stderr, second.stdout, second.stderr) == (b"", b"", b"")


def test_ctrl_c_ends_a_wait_for_a_rank_that_hangs(models, tmp_path):
    pressed = """
from blendin_mlx.distributed import channel, leader
import os, signal
def noticing(self, next_one=leader.Leader._next):
    message = next_one(self)
    if message.kind is channel.Kind.PROGRESS and message.described[0] == "stopping":
        for _ in range(2):  # once ends an answer after this pass
            os.kill(os.getpid(), signal.SIGINT)
    return message
leader.Leader._next = noticing
"""
    codes = (pressed, AT.format(act=STOPPED) + PROMPTED)
    options = (*models, *ASKING, "--shard", PROMPT)
    first, _ = run_ranks(tmp_path, "generate", *options, codes=codes, stopped=[1])
    assert (first.returncode, first.stdout, first.stderr) == (130, b"", b"")


def test_lines_are_answered_one_after_the_other(models, tmp_path):
    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(json.dumps({"prompt": f"hello {n}"}) + "\n" for n in range(3)))
    options = ("run", *models, *ASKING, "--batch", "2", lines)
    (one,) = run_ranks(tmp_path, *options, codes=[""])
    first, second = run_ranks(tmp_path, *options, "--shard")
    assert (first.returncode, second.returncode) == (0, 0)
    assert ids_of(first) == ids_of(one)
    assert len(ids_of(one)) == 3


def ids_of(ended):
    return [line["token_ids"] for line in map(json.loads, ended.stdout.splitlines())]


def test_under_mlx_launch_one_line_says_why_it_ends(models, alone):
    code = AT.format(act=KILLED) + DECODING
    ended = launched("generate", *models, *ASKING, "--shard", PROMPT, code=code)
    lines = ended.stderr.decode().splitlines()
    (own,) = (line for line in lines if line.startswith("blendin: "))
    assert own.endswith(") ended, so this one ends too")
    assert not [line for line in lines if "[ring]" in line]
    assert_kept(ended.stdout, alone, "decoding")


REFUSED = {
    "other weights": (1, "is not the base of rank 0: its files differ"),
    "another version": (1, "has blendin-mlx 0.0.1, not "),
    "a port in use": (1, "): MLX's ring cannot be connected: [ring] Couldn't bind socket"),
    "what fails later": (1, "): unexpected RuntimeError: out of memory"),
}
WRONG = {
    "other weights": """
import blendin_models.split_base as split
def elsewhere(names, *rest, found=split.check_models):
    return found([(names[0][0].replace("base", "other/base"), None)], *rest)
split.check_models = elsewhere
""",
    "another version": """
from blendin_mlx.distributed import meeting
meeting.version = lambda name: "0.0.1"
""",
    "a port in use": """
import json, os, socket
with open(os.environ["MLX_HOSTFILE"]) as file:
    host, port = json.load(file)[1][0].split(":")
used = socket.create_server((host, int(port)))
""",
    "what fails later": """
from blendin_mlx.distributed import follower
def full(self, message):
    raise RuntimeError("out of memory")
follower.Contexts._read = full
""",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_on_rank_1_is_said_by_rank_0(models, folders, tmp_path, name):
    other = folders[0].parent / "other" / "base"
    if not other.exists():
        write_model(other, 3, chat_template=False, shape=HEADS)
    code, said = REFUSED[name]
    codes = ("", WRONG[name])
    first, second = run_ranks(
        tmp_path, "generate", *models, *ASKING, "--shard", PROMPT, codes=codes
    )
    assert said in the_line(first, code)
    assert (second.returncode, second.stdout, second.stderr) == (1, b"", b"")


QWEN = "qwen-coder-gguf"
LAYERS = 3


def qwen_cut(folder, tiny):
    """The first layers of Qwen2.5-Coder with the words of a tiny model, which a test can load."""
    own = model_folder(QWEN)
    if lacking(own):
        pytest.skip(f"{QWEN} is not here: blendin models pull {QWEN}")
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / name, folder / name)
    kept = {}
    for name, array in mx.load(str(own / "model.safetensors")).items():
        if name.startswith(("model.embed_tokens", "lm_head")):
            kept[name] = array[:VOCABULARY]
        elif not name.startswith("model.layers.") or int(name.split(".")[2]) < LAYERS:
            kept[name] = array
    mx.save_safetensors(str(folder / "model.safetensors"), kept)
    config = json.loads((own / "config.json").read_text())
    own_eos = json.loads((tiny / "config.json").read_text())["eos_token_id"]
    config |= {"num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "eos_token_id": own_eos}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_layers_of_a_real_model_say_in_parts_what_they_say_whole(folders, tmp_path):
    base = qwen_cut(tmp_path / "qwen", folders[0])
    options = (*pair(base, folders[1]), "--tau", ".5", "-m", "12", "-q", PROMPT)
    traces = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    (one,) = run_ranks(tmp_path, "generate", *options, "--trace", traces[0], codes=[""])
    first, second = run_ranks(tmp_path, "generate", *options, "--trace", traces[1], "--shard")
    assert (one.returncode, first.returncode, second.returncode) == (0, 0, 0)
    assert_alike(*map(steps, traces))


def assert_alike(found, expected):
    """The sums of parts are rounded otherwise; so only a near-tie may fall otherwise."""
    assert found
    for step, other in zip(found, expected, strict=True):
        assert step["base"]["prob"] == pytest.approx(other["base"]["prob"], abs=1e-4)
        if step["id"] != other["id"]:
            first, second = (one["prob"] for one in other["candidates"]["base"][:2])
            assert first - second < 1e-3
            return
        assert step["prob"] == pytest.approx(other["prob"], abs=1e-4)


UNFIT = {
    "an architecture": (2, 4, "mlx-lm does not split gemma3_text models; leave out --shard"),
    "heads": (2, 4, "cannot be split over 2 machines, which must divide its n_kv_heads: 1"),
    "a number of machines": (3, 2, "a pair runs on two machines, not on 3; use mlx.launch -n 2"),
    "a cache": (2, 2, "--prompt-cache works on one machine only"),
    "an adapter": (2, 4, "a base with an adapter cannot be split; leave out --shard"),
    "one machine": (1, 2, "--shard splits the base over machines; start with mlx.launch -n 2"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_split_is_refused_before_it_is_loaded(folders, tmp_path, name):
    base, aligned = folders
    if name == "an architecture":
        base = write_model(tmp_path / "gemma", 1, chat_template=False, architecture="gemma3_text")
    elif name == "heads":
        base = aligned
    options = [*pair(base, aligned), "-q", PROMPT]
    if name != "a number of machines":
        options.append("--shard")
    if name == "a cache":
        options += ["--prompt-cache", tmp_path / "kept"]
    if name == "an adapter":
        options += ["--base-adapter", tmp_path]
    unread = "from blendin_models.loading import loader; del loader.evaluate_weights"
    size, code, said = UNFIT[name]
    first, *others = run_ranks(tmp_path, "generate", *options, codes=size * [unread])
    assert said in the_line(first, code)
    assert {(one.returncode, one.stdout, one.stderr) for one in others} <= {(code, b"", b"")}
