"""A server under clients that come and go: is its last answer right, is its memory flat?

Clients ask for chats, streams, several answers at once and scored echoes, and every second of them
goes away somewhere: in the middle of their request, before the reply, in the middle of a stream.
One answer is asked for before and after; both have to be the same.

    python benchmarks/serve.py --seconds 120 -- --pair demo
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from timing import machine

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QUESTIONS = (
    *("Name a colour.", "How do I boil an egg?", "Why is the sky blue?", "What is 2 + 2?"),
    "Summarise this. " + "The tide comes in and the tide goes out, and boats wait. " * 20,
)
PATIENCE_S = 600
MOST_TOKENS = 24
BROKEN_OFF = (OSError, http.client.HTTPException)


@dataclass
class Soak:
    """What clients and a watcher note.

    Attributes:
        counts: how requests went.
        firsts: seconds until the first byte of a reply.
        tokens: that were answered in whole replies.
        memory: resident bytes of the server, each second.
    """

    port: int
    ends: float
    counts: Counter[str] = field(default_factory=Counter)
    firsts: list[float] = field(default_factory=list)
    tokens: int = 0
    memory: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, first: float | None = None, tokens: int = 0) -> None:
        """Note how a request went."""
        with self.lock:
            self.counts[what] += 1
            self.tokens += tokens
            if first is not None:
                self.firsts.append(first)


def asked(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """What a client asks for, and where."""
    question = chance.choice(QUESTIONS)
    common = {"max_tokens": chance.randint(1, MOST_TOKENS)}
    if chance.random() < 0.15:
        return TEXT, {**common, "prompt": question, "echo": True, "logprobs": 1}
    body = {**common, "messages": [{"role": "user", "content": question}]}
    if chance.random() < 0.3:
        body |= {"temperature": 1, "seed": chance.randrange(9), "n": chance.randint(1, 2)}
    if chance.random() < 0.3:
        body["blendin"] = {"method": chance.choice(("base", "nudging", "ensemble"))}
    return CHAT, {**body, "stream": chance.random() < 0.5}


def client(soak: Soak, seed: int) -> None:
    """Ask again and again; go away before the end in about half of the cases."""
    chance = random.Random(seed)
    while time.monotonic() < soak.ends:
        connection = http.client.HTTPConnection("127.0.0.1", soak.port, timeout=PATIENCE_S)
        try:
            one_request(soak, connection, chance)
        except BROKEN_OFF as error:
            soak.note(f"broken off by the server: {type(error).__name__}")
        finally:
            connection.close()


def one_request(soak: Soak, connection: http.client.HTTPConnection, chance: random.Random) -> None:
    path, body = asked(chance)
    leaves = chance.choice(("", "", "request", "waiting", "reply", "reply"))
    data = json.dumps(body).encode()
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders(data[: len(data) // 2] if leaves == "request" else data)
    started = time.monotonic()
    if leaves in ("request", "waiting"):
        time.sleep(chance.random())
        return soak.note(f"left while {'asking' if leaves == 'request' else 'waiting'}")
    reply = connection.getresponse()
    first = time.monotonic() - started
    if leaves and body.get("stream"):
        reply.read(chance.randint(1, 2000))
        return soak.note("left within a stream", first)
    whole = reply.read()
    if reply.status == 429:
        time.sleep(float(reply.headers["Retry-After"]))
        return soak.note("told to come again (429)")
    if reply.status != 200 or (body.get("stream") and not whole.endswith(b"[DONE]\n\n")):
        return soak.note(f"failed: {reply.status} {whole[-200:]!r}")
    return soak.note("answered", first, tokens_of(whole, body))


def tokens_of(whole: bytes, body: dict[str, Any]) -> int:
    """How many tokens a whole reply has."""
    if body.get("stream"):
        return whole.count(b'"source"')
    count: int = json.loads(whole)["usage"]["completion_tokens"]
    return count


def watch(soak: Soak, process: int) -> None:
    """Note the server's memory each second."""
    server = psutil.Process(process)
    while time.monotonic() < soak.ends:
        soak.memory.append(server.memory_info().rss)
        time.sleep(1)


def answer(port: int) -> str:
    """One answer that is always the same."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    body = {"messages": [{"role": "user", "content": QUESTIONS[1]}], "max_tokens": MOST_TOKENS}
    connection.request("POST", CHAT, json.dumps(body), {"Content-Type": "application/json"})
    reply = json.loads(connection.getresponse().read())
    connection.close()
    text: str = reply["choices"][0]["message"]["content"]
    return text


@contextmanager
def served(options: list[str]) -> Iterator[tuple[int, int]]:
    """A server that runs: its process and its port."""
    command = [sys.executable, "-m", "blendin_cli", "serve", "--port", "0", *options]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    lines: list[str] = []
    for line in server.stderr:
        lines.append(line)
        if found := re.search(r"is ready at http://\S+:(\d+)", line):
            break
    else:
        raise SystemExit("".join(lines))
    drain = threading.Thread(target=server.stderr.read, daemon=True)
    drain.start()
    try:
        yield server.pid, int(found[1])
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            print(f"ended with exit code {server.wait(60)}")
        server.kill()


def report(soak: Soak, clients: int, seconds: float) -> None:
    """Print counts, speed and memory."""
    print(f"{clients} clients, {seconds:.0f} s; {machine()}\n")
    for what, count in soak.counts.most_common():
        print(f"{count:>6}  {what}")
    print(f"\ntokens in whole replies       {soak.tokens / seconds:.1f} a second")
    firsts = sorted(soak.firsts)
    if len(firsts) > 1:
        late = firsts[int(0.95 * (len(firsts) - 1))]
        print(
            f"until a reply begins          {statistics.median(firsts):.2f} s, 95 %: {late:.2f} s"
        )
    quarters = [soak.memory[n * (len(soak.memory) - 1) // 4] / 2**20 for n in range(5)]
    print(f"memory at each quarter, MB    {' '.join(f'{one:.0f}' for one in quarters)}")
    print(f"memory at most, MB            {max(soak.memory) / 2**20:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("options", nargs="*", help="Of the server.")
    arguments = parser.parse_args()
    with served(arguments.options) as (process, port):
        before = answer(port)
        began = time.monotonic()
        soak = Soak(port, began + arguments.seconds)
        threads = [threading.Thread(target=watch, args=(soak, process))]
        threads += [
            threading.Thread(target=client, args=(soak, seed)) for seed in range(arguments.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        after = answer(port)
        report(soak, arguments.clients, seconds)
        print(f"the answer afterwards         {'the same' if after == before else 'ANOTHER'}")
    sys.exit(after != before)


if __name__ == "__main__":
    main()
