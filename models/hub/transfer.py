"""Requests to the hub. Responses are not trusted: none decides a path, a size or a wait.

Responses are requested uncompressed and never decoded, and not read beyond the size that is known
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
# The headers that huggingface_hub turns into errors.
_ERROR_HEADERS = ("X-Error-Code", "X-Error-Message", "Retry-After", "RateLimit")


@contextmanager
def answer(url: str, more: Mapping[str, str], timeout: float) -> Iterator[Any]:
    """Context manager: send a GET and yield the response, its body not read yet.

    Args:
        url: the address.
        more: headers besides the token and those that huggingface_hub always sends.
        timeout: seconds to wait for each part of the response.

    Raises:
        HfHubHTTPError: the hub refuses the request.
        ValueError: the response is compressed, or there are too many redirects.
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
    """Raise huggingface_hub's error for an error status, from the headers alone."""
    from huggingface_hub.utils import hf_raise_for_status

    said = {name: response.headers[name] for name in _ERROR_HEADERS if name in response.headers}
    without_body = type(response)(response.status_code, headers=said, request=response.request)
    hf_raise_for_status(without_body)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise ValueError(f"it is compressed ({encoding}), which was not requested")


def read(url: str, limit: int, timeout: float) -> bytes:
    """Return the body of a response.

    Args:
        url: the address.
        limit: the largest accepted body, in bytes.
        timeout: seconds to wait for each part of the response.

    Raises:
        HfHubHTTPError: the hub refuses the request.
        ValueError: the body has more than ``limit`` bytes.
    """
    body = bytearray()
    with answer(url, {}, timeout) as response:
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > limit:
                raise ValueError(f"it is larger than {limit} bytes")
    return bytes(body)


def receive(url: str, target: Path, size: int, count: Callable[[int], None]) -> None:
    """Fetch a file of known size; retries resume an interrupted transfer.

    Args:
        url: the address.
        target: the path of the complete file; it is replaced atomically.
        size: bytes of the file.
        count: called with the bytes received so far.

    Raises:
        HfHubHTTPError: the hub refuses the request.
        ValueError: the response has more than ``size`` bytes.
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
    """Append the body of one response to a file; raise if it adds nothing."""
    from huggingface_hub import constants

    start = out.tell()
    wanted = {"Range": f"bytes={start}-"} if start else {}
    with answer(url, wanted, constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        if response.status_code != _PARTIAL:  # the server sends the file from the start
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
        raise OSError("the response ends too early")


def counted(
    progress: Progress | None, what: str, start: int, end: int, total: int
) -> Callable[[int], None]:
    """Return a callback for the bytes received of one file, which reports to `progress`."""

    def count(here: int) -> None:
        if progress:
            progress(what, min(start + here, end), total)

    return count
