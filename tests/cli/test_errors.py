"""Bad input: one line on stderr that says what and where, nothing on stdout, the right code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tiny_folders import write_model

BASE, ALIGNED = 1, 3  # where the folders are in the options


def test_unknown_pair_names_a_near_one(run):
    result = run("generate", "--pair", "dmo", "hi")
    assert result.code == 3
    assert "did you mean demo?" in result.error()


def test_input_that_is_not_utf_8_names_the_command(run, tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9")
    for command, given in (
        ("generate", {"stdin": b"caf\xe9"}),
        ("compare", {"stdin": b"caf\xe9"}),
        ("tune", {"options": ("--examples", file)}),
        ("diagnose", {"options": ("--prompts", file)}),
    ):
        result = run(command, *given.get("options", ()), stdin=given.get("stdin", b""))
        assert result.code == 2
        assert result.error().endswith(f"is not UTF-8 text: byte 3 (see blendin {command} --help)")


def test_a_traceback_of_bad_input_is_shown_only_on_request(run):
    assert "Traceback" not in run("generate", stdin=b"\xff").err
    assert "Traceback" in run("--debug", "generate", stdin=b"\xff").err


def test_unknown_model_names_a_near_one(run, tiny):
    result = run("generate", *tiny[:2], "--aligned", "smollm2-135m-instuct", "hi")
    assert result.code == 3
    assert "did you mean smollm2-135m-instruct?" in result.error()


def test_missing_folder(run, tiny):
    result = run("generate", *tiny[:2], "--aligned", "/no/such/folder", "hi")
    assert result.code == 3
    assert "'/no/such/folder' is not a folder" in result.error()


def test_folder_that_is_no_model_says_what_it_lacks(run, tiny, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    result = run("generate", *tiny[:2], "--aligned", tmp_path, "hi")
    assert result.code == 3
    assert (
        f"{tmp_path} is not a model folder: it lacks tokenizer.json, model*.safe" in result.error()
    )


def spoiled(tmp_path: Path, tiny: tuple[str, ...], file: str, content: bytes) -> Path:
    folder = tmp_path / "spoiled"
    shutil.copytree(tiny[ALIGNED], folder)
    (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("config.json", b'{"model_type": "llama", ', "config.json is not valid JSON"),
        ("config.json", b"\xff\xfe", "config.json is not valid JSON"),
        ("config.json", b"[]", "config.json is not a model's config"),
        ("config.json", b"{}", "config.json is not a model's config"),
        ("config.json", b'{"model_type": "nonesuch"}', "nonesuch"),
        ("config.json", b'{"model_type": "llama"}', "does not fit the weights"),
        ("tokenizer.json", b'{"version": ', "cannot be loaded"),
        ("model.safetensors", b"", "is empty"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
    ],
)
def test_damaged_file(run, tiny, tmp_path, file, content, named):
    folder = spoiled(tmp_path, tiny, file, content)
    result = run("generate", *tiny[:2], "--aligned", folder, "hi")
    assert result.code == 3
    line = result.error()
    assert named in line
    assert str(folder) in line


def test_truncated_weights(run, tiny, tmp_path):
    whole = Path(tiny[ALIGNED], "model.safetensors").read_bytes()
    folder = spoiled(tmp_path, tiny, "model.safetensors", whole[: len(whole) // 2])
    result = run("generate", *tiny[:2], "--aligned", folder, "hi")
    assert result.code == 3
    assert str(folder) in result.error()


def test_config_that_does_not_fit_the_weights(run, tiny, tmp_path):
    config = Path(tiny[ALIGNED], "config.json").read_bytes()
    wider = config.replace(b'"hidden_size": 32', b'"hidden_size": 64')
    assert wider != config
    folder = spoiled(tmp_path, tiny, "config.json", wider)
    result = run("generate", *tiny[:2], "--aligned", folder, "hi")
    assert result.code == 3
    assert "shape" in result.error()


def test_aligned_model_without_chat_template(run, tiny, tmp_path):
    raw = ("--base", tiny[BASE], "--aligned", tiny[BASE])
    result = run("generate", *raw, "hi")
    assert result.code == 4
    assert "--aligned-template" in result.error()
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}Q: {{ m.content }}\n{% endfor %}A:")
    assert run("generate", *raw, "--aligned-template", template, "-m", 3, "hi").code == 0


@pytest.mark.parametrize(("given", "missing"), [("--base", "--aligned"), ("--aligned", "--base")])
def test_half_a_pair(run, tiny, given, missing):
    result = run("generate", given, tiny[BASE], "hi")
    assert result.code == 2
    assert f"pass {missing} too" in result.error()


def test_stdin_that_is_not_utf8_names_the_byte(run):
    result = run("generate", stdin=b"abc\xff")
    assert result.code == 2
    assert "standard input is not UTF-8 text: byte 3" in result.error()


def test_argument_that_is_not_utf8_names_the_byte(run):
    result = run("generate", b"ab\xff".decode(errors="surrogateescape"))
    assert result.code == 2
    assert "the prompt argument is not UTF-8 text: byte 2" in result.error()


def test_system_prompt_that_is_not_utf8(run, tiny):
    result = run("generate", *tiny, "--system", b"\xff".decode(errors="surrogateescape"), "hi")
    assert result.code == 2
    assert "surrogate" in result.error()


@pytest.mark.parametrize("arguments", [(), ("",), (" \n",), ("-",)])
def test_empty_prompt(run, arguments):
    result = run("generate", *arguments, stdin=b"\n\n")
    assert result.code == 2
    assert "the prompt is empty" in result.error()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--tau", "2"), "--tau"),
        (("--tau", "nan"), "--tau"),
        (("--alpha", "1.5"), "'1.5' is neither auto nor a number from 0 to 1"),
        (("--alpha", "full"), "'full' is neither"),
        (("--temp", "-1"), "--temp"),
        (("--temp", "nan"), "--temp"),
        (("--temp", "inf"), "--temp"),
        (("--max-tokens", "0"), "--max-tokens"),
        (("--kv-bits", "3"), "--kv-bits"),
        (("--top-p", "1.1"), "--top-p"),
        (("--seed", "-1"), "--seed"),
        (("--seed", str(2**64)), "--seed"),
        (("--method", "nope"), "--method"),
        (("--stop-policy", "nope"), "--stop-policy"),
        (
            ("--method", "nudging", "--alpha", ".5"),
            "--method nudging has --gate and --tau; it does not take --alpha",
        ),
        (
            ("--method", "base", "--tau", ".5"),
            "--method base has no option of its own; it does not take --tau",
        ),
        (("--stop", ""), "a stop string must not be empty"),
        (("--base-template", "/no/such"), "'/no/such' is neither a file nor one of query"),
        (("--base-template", "/"), "'/' is neither a file nor one of query"),
        (("--aligned-template", "/no/such"), "--aligned-template"),
        (("--nope",), "--nope"),
    ],
)
def test_bad_option(run, tiny, options, named):
    result = run("generate", *tiny, *options, "hi")
    assert result.code == 2
    assert named in result.error()


@pytest.mark.parametrize("option", ["--base-template", "--aligned-template"])
@pytest.mark.parametrize("source", ["{% if", "{{ raise_exception('no') }}", "{{ nothing.at.all }}"])
def test_template_that_cannot_be_rendered(run, tiny, tmp_path, option, source):
    template = tmp_path / "t.jinja"
    template.write_text(source)
    result = run("generate", *tiny, option, template, "hi")
    assert result.code == 4
    assert "template cannot be rendered" in result.error()


@pytest.mark.parametrize("option", ["--base-template", "--aligned-template"])
def test_template_that_is_not_utf8(run, tiny, tmp_path, option):
    template = tmp_path / "t.jinja"
    template.write_bytes(b"ab\xff")
    result = run("generate", *tiny, option, template, "hi")
    assert result.code == 2
    assert "is not UTF-8 text: byte 2" in result.error()


@pytest.mark.parametrize("place", ["no/such/folder/t.jsonl", "."])
def test_trace_that_cannot_be_written(run, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    result = run("generate", "--trace", place, "hi")
    assert result.code == 2
    assert "--trace" in result.error()
    assert list(tmp_path.iterdir()) == []


def test_prompt_longer_than_the_context(run, tiny, tmp_path):
    small = write_model(tmp_path / "small", 1, max_position_embeddings=16)
    result = run("generate", "--base", small, *tiny[2:], "hi " * 20)
    assert result.code == 2
    assert "whose context holds 16" in result.error()


def test_an_error_shows_no_escape_sequences(run, tiny, tmp_path):
    folder = tmp_path / "\x1b]0;owned\x07\u202e"
    folder.mkdir()
    line = run("generate", *tiny[:2], "--aligned", folder, "hi").error()
    assert "]0;owned" in line
    assert not set("\x1b\x07\u202e") & set(line)


def test_traceback_only_with_debug(run, monkeypatch):
    def broken():
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr("blendin_models.catalogue.entries.pairs", broken)
    result = run("models", "show", "demo")
    assert result.code == 1
    assert "unexpected RuntimeError: first second" in result.error()
    assert "Traceback" in run("--debug", "models", "show", "demo").err


@pytest.mark.parametrize("arguments", [(), ("models",)])
def test_no_command_shows_the_help(run, arguments):
    result = run(*arguments)
    assert result.code == 2
    assert result.err.startswith("Usage: blendin")
    assert "\nCommands:\n" in result.err


def test_unknown_command(run):
    result = run("genrate")
    assert result.code == 2
    assert "'genrate'" in result.error()
