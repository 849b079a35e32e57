"""A headless Chromium that presses keys and moves the mouse, spoken to over a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
AS_3_AND_4 = (
    "import os, sys; read, write, *command = sys.argv[1:];"
    "os.dup2(int(read), 3); os.dup2(int(write), 4); os.execv(command[0], command)"
)
DEADLINE_S = 300
COLOURS = """(() => { let at = document.querySelector("SHOWN"), ink = getComputedStyle(at).color;
  while (at.parentElement && getComputedStyle(at).backgroundColor === "rgba(0, 0, 0, 0)")
    at = at.parentElement;
  return [ink, getComputedStyle(at).backgroundColor]; })()"""
NEEDED = "needs Chromium on the PATH to render the page"


class Page:
    """One page; each call is a message of the DevTools protocol and the answer to it."""

    def __init__(self, write: Any, read: Any) -> None:
        self._write, self._read = write, read
        self._session: str | None = None
        self._number = 0

    def open(self, page: Path | str, dark: bool = False, width: int = 800) -> None:
        """Show a file or an address, as wide as that, waiting until its scripts have run."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 600, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.enable")
        self.call("Page.navigate", url=f"file://{page}" if isinstance(page, Path) else page)
        self._answer(lambda message: message.get("method") == "Page.loadEventFired")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        answer = self._answer(lambda message: message.get("id") == number)
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        return dict(answer["result"])

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression of JavaScript is true."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.value(expression):
            assert time.monotonic() < deadline, f"{expression} never became true"

    def press(self, key: str, code: int) -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Write into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def contrast(self, selector: str) -> float:
        """The contrast of a text with what it stands on."""
        ink, paper = self.value(COLOURS.replace("SHOWN", selector))
        return contrast(ink, paper)

    def hover(self, selector: str) -> None:
        """Move the mouse over the middle of an element, of its last line where it has several."""
        box = f"[...document.querySelector({json.dumps(selector)}).getClientRects()].at(-1)"
        x, y = self.value(
            f"(() => {{ const b = {box}; return [b.x+b.width/2, b.y+b.height/2] }})()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def _answer(self, wanted: Any) -> dict[str, Any]:
        while True:
            message = json.loads(_until_zero(self._read))
            if wanted(message):
                return dict(message)


def contrast(ink: str, paper: str) -> float:
    """The ratio of two colours by the web's accessibility guidelines, 1 to 21."""
    dim, bright = sorted(luminance(colour) for colour in (ink, paper))
    return (bright + 0.05) / (dim + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _until_zero(stream: Any) -> bytes:
    content = bytearray()
    while (byte := stream.read(1)) != b"\0":
        if not byte:
            raise RuntimeError("the browser has ended")
        content += byte
    return bytes(content)


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are out of the way of 3 and 4."""
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return read, write


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A browser of our own, ended at the end."""
    here_read, there_write = _pipe()
    there_read, here_write = _pipe()
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu"]
    command += ["--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [sys.executable, "-c", AS_3_AND_4, str(there_read), str(there_write), *command],
        pass_fds=(there_read, there_write),
        env={**os.environ, "TMPDIR": tempfile.gettempdir()},  # not where MLX keeps its kernels
        stderr=subprocess.DEVNULL,
    )
    os.close(there_read)
    os.close(there_write)
    try:
        with os.fdopen(here_write, "wb") as write, os.fdopen(here_read, "rb") as read:
            yield Page(write, read)
    finally:
        process.kill()
        process.wait(timeout=120)
