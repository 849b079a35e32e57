"""Requests to the hub. Nothing of an answer decides a path, a size or a wait.

Answers are asked for uncompressed and never decoded, and not read beyond the size that is known
beforehand. Bodies of redirects and errors are not read at all.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..progress import Progress
from .errors import is_transport, retry

MOST_REDIRECTS = 10
_PARTIAL = 206
# What huggingface_hub makes an error of.
_ERROR_HEADERS = ("X-Error-Code", "X-Error-Message", "Retry-After", "RateLimit")


@contextmanager
def answer(url: str, more: Mapping[str, str], timeout: float) -> Iterator[Any]:
    """Context manager: the response to a GET, its body not read yet.

    Args:
        more: headers besides the token and what huggingface_hub always sends.
        timeout: seconds to wait for each piece of the answer.

    Raises:
        HfHubHTTPError: the hub refuses.
        ValueError: the answer is compressed, or redirected for ever.
    """
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers

    session = get_session()
    headers = {**build_hf_headers(), "Accept-Encoding": "identity", **more}
    request: Any = session.build_request("GET", url, headers=headers, timeout=timeout)
    for _ in range(MOST_REDIRECTS):
        response = session.send(request, stream=True, follow_redirects=False)
        try:
            request = response.next_request
            if request is None:
                _check(response)
                yield response
                return
        finally:
            response.close()
    raise ValueError(f"more than {MOST_REDIRECTS} redirects")


def _check(response: Any) -> None:
    """Raise what huggingface_hub makes of a refusal, from its headers alone."""
    from huggingface_hub.utils import hf_raise_for_status

    said = {name: response.headers[name] for name in _ERROR_HEADERS if name in response.headers}
    without_body = type(response)(response.status_code, headers=said, request=response.request)
    hf_raise_for_status(without_body)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise ValueError(f"it is compressed ({encoding}), which was not asked for")


def read(url: str, limit: int, timeout: float) -> bytes:
    """Return the body of an answer.

    Raises:
        ValueError: it has more than ``limit`` bytes.
    """
    body = bytearray()
    with answer(url, {}, timeout) as response:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > limit:
                raise ValueError(f"it is larger than {limit} bytes")
    return bytes(body)


def receive(url: str, target: Path, size: int, count: Callable[[int], None]) -> None:
    """Fetch a file of known size; an interrupted transfer continues where it was.

    Args:
        target: where it is put once it is complete.
        count: called with the bytes that are here.

    Raises:
        ValueError: more than ``size`` bytes came.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.incomplete")
    try:
        with part.open("xb") as out:
            while out.tell() < size:
                retry(lambda: _receive_more(url, out, size, count))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _receive_more(url: str, out: BinaryIO, size: int, count: Callable[[int], None]) -> None:
    """Append to a file what one request brings; raise if that is nothing."""
    from huggingface_hub import constants

    start = out.tell()
    wanted = {"Range": f"bytes={start}-"} if start else {}
    with answer(url, wanted, constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        if response.status_code != _PARTIAL:  # a server may send all of it again
            out.seek(0)
            out.truncate()
        try:
            for chunk in response.iter_raw():
                if out.tell() + len(chunk) > size:
                    raise ValueError(f"{url} has more than the {size} bytes that were announced")
                out.write(chunk)
                count(out.tell())
        except Exception as error:
            if not is_transport(error) or out.tell() <= start:
                raise
    if out.tell() <= start:
        raise OSError("the answer ends too early")


def counted(
    progress: Progress | None, what: str, start: int, end: int, total: int
) -> Callable[[int], None]:
    """Return what is to be called with the bytes that are here of one file."""

    def count(here: int) -> None:
        if progress:
            progress(what, min(start + here, end), total)

    return count
