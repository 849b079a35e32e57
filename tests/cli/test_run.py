"""``blendin run``: a line in, a line out, in order; a bad line costs nothing but itself."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import signal

import pytest

from commands import DEADLINE_S

json_lines = importlib.import_module("blendin_cli.json_lines")
run_module = importlib.import_module("blendin_cli.run")


@pytest.fixture
def lines(run, tiny):
    """``lines({"prompt": …}, b"raw")``: what comes out, the exit code and stderr."""

    def call(*given, options=()):
        data = b"".join(
            (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n"
            for line in given
        )
        result = run("run", *tiny, *options, "-", stdin=data)
        return [json.loads(line) for line in result.text.splitlines()], result.code, result.err

    return call


def test_each_line_is_answered_as_generate_does_in_order(run, tiny, lines):
    found, code, err = lines(*({"prompt": p, "max_tokens": 9} for p in ("hi", "ho", "he")))
    assert (code, err) == (0, "3 lines, 0 failed\n")
    for prompt, answer in zip(("hi", "ho", "he"), found, strict=True):
        alone = json.loads(run("generate", *tiny, "--json", "-m", 9, prompt).text)
        assert answer["text"] == alone["text"]
        assert answer["token_ids"] == alone["token_ids"]
        assert answer.keys() == {"line", *alone}


def test_options_of_a_line_are_its_own(lines):
    found, code, _ = lines(
        {"prompt": "hi", "max_tokens": 3, "method": "nudging", "tau": 0.9},
        {"prompt": "hi", "lambda": 0.5},
        {"prompt": "hi", "stop": ["§"], "temp": 0.7, "seed": 3},
        options=("-m", 5),
    )
    assert code == 0
    assert [answer["usage"]["completion_tokens"] for answer in found] == [3, 5, 5]
    assert [answer["blend"]["method"] for answer in found] == ["nudging", "blendin", "blendin"]
    assert [answer["blend"].get("lambda") for answer in found] == [None, 0.5, 0.1]
    assert [answer["seed"] for answer in found] == [None, None, 3]


def test_messages_are_a_conversation_and_an_id_comes_back(lines):
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "bye"},
    ]
    (one, other), code, _ = lines(
        {"messages": messages, "id": "a", "max_tokens": 2},
        {"prompt": "bye", "id": ["b"], "max_tokens": 2},
    )
    assert code == 0
    assert (one["id"], other["id"]) == ("a", ["b"])
    assert one["usage"]["base_prompt_tokens"] > other["usage"]["base_prompt_tokens"]


WHOLE = ("max_tokens", "top_k", "repetition_context_size", "seed")
NO_WHOLE = (2.5, 1e300, 10**250, -1, "x", [1], {}, True)
REAL = ("temp", "top_p", "min_p", "tau", "alpha", "lambda", "beta", "repetition_penalty")
NO_REAL = (-1, 10**299, "x", [1], {}, True)


def said(key, value):
    """How an error names an option whose value is a number, or something else altogether."""
    wrong_kind = isinstance(value, list | dict | bool)
    return f"{key!r} must be" if wrong_kind else f"--{key.replace('_', '-')}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        ({"prompt": "a", "tau": [1]}, "'tau' must be a text or a number"),
        ({"prompt": "a", "max_tokens": {}}, "'max_tokens' must be"),
        ({"prompt": "a", "max_tokens": True}, "'max_tokens' must be"),
        ({"prompt": "a", "base_template": [1]}, "'base_template' must be"),
        ({"prompt": "a", "base_template": 5}, "must be a text"),
        ({"prompt": "a", "thinking": 3}, "'thinking' must be true or false"),
        ({"prompt": "a", "stop": 3}, "'stop' must be a text or a list of texts"),
        ({"prompt": "a", "json_schema": {"type": 3}}, "json_schema: "),
        ({}, '"prompt" or "messages"'),
        ({"prompt": "a", "messages": []}, '"prompt" or "messages"'),
        ({"prompt": 5}, "must be a string"),
        ({"prompt": "  "}, "empty"),
        ({"prompt": "\ud800"}, ""),
        ({"messages": "a"}, "must be a list"),
        ({"messages": [{"role": "user"}]}, "must be a list"),
        ({"messages": []}, "must end with a user message"),
        (
            {"prompt": "a", "taus": 1},
            "'taus' is not an option that can be changed here; did you mean 'tau'?",
        ),
        ({"prompt": "a", "pair": "demo"}, "'pair' is not an option"),
        ({"prompt": "a", "context": 9}, "give it at the start: --context"),
        ({"prompt": "a", "num_predict": 9}, "did you mean 'max_tokens'?"),
        ({"promt": "a"}, 'did you mean "prompt" by "promt"?'),
        ({"mesages": []}, 'did you mean "messages" by "mesages"?'),
        ({"prompt": "a", "tau": 2}, "--tau"),
        ({"prompt": "a", "max_tokens": "many"}, "--max-tokens"),
        ({"prompt": "a", "method": "base", "tau": 0.3}, "tau"),
        ({"prompt": "a", "stop": 5}, "stop"),
        ({"prompt": "a b " * 4000}, "context holds"),
        (b'{"prompt": "a", "temp": Infinity}', "Infinity is not a number in JSON"),
        (b'{"prompt": "a", "temp": -Infinity}', "-Infinity is not a number in JSON"),
        (b'{"prompt": "a", "tau": NaN}', "NaN is not a number in JSON"),
        (b'{"prompt": "a", "id": [{"x": NaN}]}', "NaN is not a number in JSON"),
        (b'{"prompt": "a", "id": 1e999}', "1e999 is too large a number"),
        (b'{"prompt": "a", "max_tokens": -1e999}', "-1e999 is too large a number"),
        (b'{"prompt": "a", "seed": 1' + b"0" * 5000 + b"}", "5001 digits"),
        (b'{"prompt": "a", "tau": 1' + b"0" * 400 + b"}", "401 digits"),
        *(({"prompt": "a", key: value}, said(key, value)) for key in WHOLE for value in NO_WHOLE),
        *(({"prompt": "a", key: value}, said(key, value)) for key in REAL for value in NO_REAL),
        ({"prompt": "a", "system": 5}, "'system' must be a text"),
        ({"prompt": "a", "method": 5}, "--method"),
        ({"prompt": "a", "json_schema": [1]}, "'json_schema' must be a text"),
        ({"prompt": "a", "stop_policy": None, "temp": "cold"}, "--temp"),
        (b'{"prompt": "\\ud800"}', "half of a surrogate pair, '\\ud800', is not text"),
        (b'{"prompt": "a", "id": "\\udfff"}', "half of a surrogate pair"),
        (b'{"prompt": "a", "\\ud800": 1}', "half of a surrogate pair"),
        (b'{"prompt": "a", "stop": ["\\ud800"]}', "half of a surrogate pair"),
        (b'{"prompt": "a", "json_schema": {"enum": ["\\ud800"]}}', "half of a surrogate pair"),
        (b'\xff\xfe{\x00"\x00', "begins UTF-16; save it as UTF-8"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "is not text"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "is not text"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "is not text"),
        ({"messages": [3]}, "must be a list"),
        ({"messages": [{"role": 3, "content": "a"}]}, "must be a list"),
    ],
)
def test_a_bad_line_is_one_error_line_and_the_rest_is_answered(lines, line, reason):
    good = {"prompt": "hi", "max_tokens": 2}
    found, code, err = lines(good, line, good)
    assert code == 1
    assert found[0]["text"] == found[2]["text"]
    assert found[1].keys() == {"line", "error"}
    assert found[1]["line"] == 2
    assert reason in found[1]["error"]
    assert "line 2: " in err
    assert "Traceback" not in err


def test_empty_lines_are_none(lines):
    found, code, _ = lines(b"", {"prompt": "hi", "max_tokens": 2}, b"  ")
    assert (len(found), found[0]["line"], code) == (1, 2, 0)


def test_shared_beginnings_are_read_once(run, tiny, tmp_path):
    text = "a long beginning " * 20
    file = tmp_path / "in.jsonl"
    asked = [{"prompt": f"{text}{n}", "max_tokens": 2} for n in range(3)]
    file.write_text("".join(json.dumps(line) + "\n" for line in asked))
    from blendin_mlx.reading.context import Context

    read = []
    forward = Context._forward

    def counted(self, ids):
        read.append(len(ids))
        return forward(self, ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Context, "_forward", counted)
        result = run("run", *tiny, file)
    answers = [json.loads(line) for line in result.text.splitlines()]
    prompt_tokens = sum(sum(a["usage"].values()) for a in answers)
    assert sum(read) < prompt_tokens / 2


def test_a_missing_file_is_a_usage_error(run, tiny):
    result = run("run", *tiny, "no-such.jsonl")
    assert result.code == 2
    assert "no-such.jsonl" in result.error()


def test_lines_come_out_as_they_are_answered_and_an_interrupt_keeps_them(start, tiny):
    process = start("run", *tiny, "-m", "5", "-")
    line = b'{"prompt": "hi"}\n'
    for _ in range(2):
        process.stdin.write(line)
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"]
    process.send_signal(signal.SIGINT)  # while it waits for the next line
    out, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


def test_an_interrupted_answer_is_kept_and_is_the_last(lines, monkeypatch):
    asked = itertools.count()

    class Interrupt:
        pressed = False

        def __call__(self):
            self.pressed = self.pressed or next(asked) > 20  # in the second answer
            return self.pressed

    monkeypatch.setattr(json_lines, "interruptible", lambda: contextlib.nullcontext(Interrupt()))
    found, code, _ = lines(*[{"prompt": "hi", "max_tokens": 12}] * 3)
    assert [answer["finish_reason"] for answer in found] == ["length", "interrupted"]
    assert code == 130


def test_lines_that_were_answered_are_skipped(run, tiny, tmp_path):
    given = tmp_path / "in.jsonl"
    given.write_text("".join(f'{{"prompt": "{word}"}}\n' for word in ("one", "two", "three")))
    whole = run("run", *tiny, "-m", 3, given).out.splitlines(keepends=True)
    kept = tmp_path / "out.jsonl"
    kept.write_bytes(whole[0] + b'{"line": 2, "error": "x"}\n' + whole[1][:20])
    rest = run("run", *tiny, "-m", 3, given, "--resume-from", kept)
    assert [json.loads(line)["line"] for line in rest.text.splitlines()] == [2, 3]
    assert [json.loads(line)["text"] for line in rest.text.splitlines()] == [
        json.loads(line)["text"] for line in whole[1:]
    ]
    assert "2 lines, 0 failed, 1 answered before" in rest.err


def test_a_stop_string_may_stand_alone_and_a_schema_in_the_line(lines):
    found, code, _ = lines(
        {"prompt": "hi", "stop": "e", "max_tokens": 40},
        {"prompt": "hi", "json_schema": {"enum": ["yes"]}},
        {"prompt": "hi", "tau": None, "max_tokens": 2},
    )
    assert code == 0
    assert found[0]["finish_reason"] == "stop_string"
    assert found[1]["text"] == '"yes"'
    assert found[2]["blend"]["tau"] == 0.4


def test_a_bad_line_keeps_its_id(lines):
    (found,), _, _ = lines({"prompt": 5, "id": "seven"})
    assert found["id"] == "seven"
    assert "error" in found


@pytest.mark.parametrize("cut", [20, None])
def test_answers_that_are_appended_mend_what_was_cut(start, tiny, tmp_path, cut):
    given, kept = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text("".join(f'{{"prompt": "{word}"}}\n' for word in ("one", "two", "three")))
    whole = start("run", *tiny, "-qm", "3", given).communicate(timeout=DEADLINE_S)[0]
    first, second, third = whole.splitlines(keepends=True)
    kept.write_bytes(first + second[:cut])
    with kept.open("ab") as appended:
        process = start("run", *tiny, "-qm", "3", given, "--resume-from", kept, stdout=appended)
        assert process.wait(timeout=DEADLINE_S) == 0
    found = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(one["line"], one["text"]) for one in found] == [
        (n, json.loads(line)["text"]) for n, line in enumerate((first, second, third), 1)
    ]


def test_a_file_that_is_only_read_is_left_as_it_is(run, tiny, tmp_path):
    given, kept = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text('{"prompt": "one"}\n')
    kept.write_text('{"line": 1, "tex')
    assert run("run", *tiny, "-qm", 3, given, "--resume-from", kept).code == 0
    assert kept.read_text() == '{"line": 1, "tex'


def test_a_content_may_be_a_list_of_texts(lines):
    parts = [{"type": "text", "text": "the cat "}, {"type": "text", "text": "sat"}]
    (one, other), code, _ = lines(
        {"messages": [{"role": "user", "content": "the cat sat"}], "max_tokens": 3},
        {"messages": [{"role": "user", "content": parts}], "max_tokens": 3},
    )
    assert code == 0
    assert (one["text"], one["usage"]) == (other["text"], other["usage"])


def test_a_byte_order_mark_and_crlf_are_no_part_of_a_line(lines):
    line = b'{"prompt": "hi", "max_tokens": 2}'
    (plain, marked), code, _ = lines(line, b"\xef\xbb\xbf" + line + b"\r")
    assert code == 0
    assert marked["text"] == plain["text"]


def test_whole_numbers_may_have_a_decimal_point(lines):
    (answer,), code, _ = lines(b'{"prompt": "hi", "max_tokens": 2.0, "top_k": 1e3}')
    assert (code, answer["usage"]["completion_tokens"]) == (0, 2)


def strip(result):
    """A result but for times, memory, and means that rounding touches."""
    kept = {key: value for key, value in result.items() if key not in ("timing", "memory")}
    rounded = ("mean_alpha", "exact_mass")
    counts = {key: n for key, n in kept.pop("blend", {}).items() if key not in rounded}
    return {**kept, **counts}


MIXED = (
    {"prompt": "hi", "max_tokens": 9, "id": "a"},
    {"prompt": "ho " * 40, "method": "nudging", "tau": 0.9, "max_tokens": 3},
    b"no json",
    {"prompt": "he", "temp": 0.8, "seed": 5, "max_tokens": 7},
    {"prompt": "x", "tau": 7},
    {"prompt": "hu", "method": "ensemble", "stop_policy": "guide", "max_tokens": 5},
    {"prompt": "hi", "max_tokens": 1},
    {"prompt": " "},
)


@pytest.mark.parametrize("size", ["2", "5", "auto"])
def test_a_batch_gives_the_results_of_one_by_one_in_order(lines, size):
    alone, code, _ = lines(*MIXED, options=("-m", 4))
    found, batch_code, err = lines(*MIXED, options=("-m", 4, "--batch", size))
    assert (code, batch_code) == (1, 1)
    assert [result["line"] for result in found] == list(range(1, 9))
    assert [strip(one) for one in found] == [strip(one) for one in alone]
    assert "8 lines, 3 failed" in err


def test_a_result_is_written_when_its_turn_has_come(lines, monkeypatch):
    """The second answer is ready first, and waits; a bad line waits for no answer after it."""
    events = []
    inner = json_lines.Output.write

    def write(self, text):
        events.append(json.loads(text)["line"])
        inner(self, text)

    monkeypatch.setattr(json_lines.Output, "write", write)
    answer = run_module.SideBySide.answer

    def watched(*arguments):
        for index, outcome in answer(*arguments):
            if outcome.finish_reason:
                events.append(f"ready {index}")
            yield index, outcome

    monkeypatch.setattr(run_module.SideBySide, "answer", watched)
    given = [{"prompt": "hi", "max_tokens": n} for n in (6, 2, 9)]
    _, code, _ = lines(given[0], given[1], b"x", given[2], options=("--batch", 3))
    assert code == 1
    assert events == ["ready 1", "ready 0", 1, 2, 3, "ready 2", 4]


def test_an_interrupt_ends_a_batch_and_keeps_what_was_written(lines, monkeypatch):
    asked = itertools.count()

    class Interrupt:
        pressed = False

        def __call__(self):
            self.pressed = self.pressed or next(asked) > 30
            return self.pressed

    monkeypatch.setattr(run_module, "interruptible", lambda: contextlib.nullcontext(Interrupt()))
    given = [{"prompt": "hi", "max_tokens": n} for n in (2, 40, 40, 40)]
    found, code, _ = lines(*given, options=("--batch", 2))
    assert [answer["finish_reason"] for answer in found] == ["length", "interrupted", "interrupted"]
    assert code == 130


def test_a_batch_skips_lines_that_were_answered(run, tiny, tmp_path):
    given = tmp_path / "in.jsonl"
    given.write_text("".join(f'{{"prompt": "{word}"}}\n' for word in ("one", "two", "three")))
    whole = run("run", *tiny, "-m", 3, given).out.splitlines(keepends=True)
    kept = tmp_path / "out.jsonl"
    kept.write_bytes(whole[1] + whole[0][:20])
    rest = run("run", *tiny, "-m", 3, given, "--batch", 2, "--resume-from", kept)
    texts = [json.loads(line)["text"] for line in rest.text.splitlines()]
    assert texts == [json.loads(whole[n])["text"] for n in (0, 2)]


@pytest.mark.parametrize("size", ["0", "-1", "65", "x", "2.5"])
def test_a_size_that_is_none_is_a_usage_error(run, tiny, size):
    result = run("run", *tiny, "--batch", size, "-", stdin=b"")
    assert result.code == 2
    assert "neither auto nor a number from 1 to 64" in result.error()


def test_a_kept_prompt_and_a_batch_do_not_go_together(run, tiny, tmp_path):
    result = run("run", *tiny, "--batch", 2, "--prompt-cache", tmp_path / "kept", "-", stdin=b"")
    assert result.code == 2
    assert "--prompt-cache cannot be used with --batch" in result.error()


def test_more_answers_than_memory_holds_are_fewer_and_that_is_said_once(lines, monkeypatch):
    memory = importlib.import_module("blendin_models.loading.memory")
    given = [{"prompt": "hi", "max_tokens": 2}] * 5
    expected, _, _ = lines(*given)
    monkeypatch.setattr(memory, "rows_that_fit", lambda each: 2 if each > 0 else 64)
    found, code, err = lines(*given, options=("--batch", 4))
    assert [one["text"] for one in found] == [one["text"] for one in expected]
    assert code == 0
    assert err.count("2 answers at once, as memory holds no more; --force tries 4") == 1


def test_quantized_caches_are_used_one_after_the_other_and_that_is_said_once(lines):
    given = [{"prompt": "hi", "max_tokens": 4}] * 3
    expected, _, _ = lines(*given, options=("--kv-bits", "8"))
    found, code, err = lines(*given, options=("--kv-bits", "8", "--batch", "3"))
    assert [one["text"] for one in found] == [one["text"] for one in expected]
    assert code == 0
    line = "one answer after the other: quantized caches cannot hold several answers"
    assert err.count(line) == 1


def test_json_is_held_to_its_schema_in_a_batch_too(lines):
    pytest.importorskip("llguidance")
    schema = {"enum": ["yes", "no"]}
    given = [{"prompt": "hi", "json_schema": schema}, {"prompt": "ho", "max_tokens": 3}]
    (held, free), code, _ = lines(*given, options=("--batch", 2))
    assert code == 0
    assert json.loads(held["text"]) in ("yes", "no")
    assert free["finish_reason"] == "length"
