"""Who may ask: the names and pages that are trusted, and the key.

A page of the web can make a browser ask a server on the loopback address. So the host that the
browser thinks it asks has to be an address or a name that was allowed (a name of the page's own
may lead here: DNS rebinding), and a page has to be our own or allowed.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import ApiError

HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[\w.-]+))(?::\d+)?")
OPEN_PATHS = ("/", "/health")  # they tell nothing, and the page asks for the key


@dataclass(frozen=True)
class Guard:
    """Checks the headers of requests.

    Args:
        api_key: what ``Authorization: Bearer`` has to say; None for nothing.
        hosts: names besides ``localhost`` that the server may be asked under.
        origins: pages that may ask besides our own, as ``https://chat.example``.

    Example:
        >>> Guard(None).check_source({"host": "127.0.0.1:8080"})
    """

    api_key: str | None
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()

    def check_source(self, headers: Mapping[str, str]) -> None:
        """Refuse a request by the host that it asks, and the page that it comes from.

        Raises:
            ApiError: 403, one of them is not allowed.
        """
        host = headers.get("host", "")
        if not self._is_known(host):
            raise ApiError(403, f"the host {host[:80]!r} is not allowed; see --allow-host")
        origin = headers.get("origin")
        if origin is not None and not self.allows(origin, host):
            raise ApiError(403, f"the page {origin[:80]!r} is not allowed; see --allow-origin")

    def check_key(self, path: str, headers: Mapping[str, str]) -> None:
        """Refuse a request without the key, where there is one.

        Raises:
            ApiError: 401.
        """
        if path not in OPEN_PATHS and not self._has_key(headers.get("authorization", "")):
            message = "the API key is missing or wrong: send Authorization: Bearer KEY"
            scheme = [("WWW-Authenticate", "Bearer")]
            raise ApiError(401, message, code="invalid_api_key", headers=scheme)

    def allows(self, origin: str, host: str) -> bool:
        """Return True for a page of our own, and for those that were allowed."""
        return origin == f"http://{host}" or origin in self.origins

    def _is_known(self, host: str) -> bool:
        found = HOST.fullmatch(host.lower())
        name = (found["address"] or found["name"]) if found else ""
        return name in ("localhost", *self.hosts) or is_address(name)

    def _has_key(self, given: str) -> bool:
        if self.api_key is None:
            return True
        scheme, _, key = given.partition(" ")
        right = hmac.compare_digest(key.strip().encode(), self.api_key.encode())
        return right and scheme.lower() == "bearer"


def is_address(name: str) -> bool:
    """Return True for an IP address: no name service was asked for it."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
