"""Errors of the hub: retry transient ones, explain the others in one line."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from ..errors import ModelError, first_line, without_passwords
from . import cache

LOG = logging.getLogger("blendin_models.hub")
# Seconds before each retry, and the longest wait that a hub may ask for.
WAITS_S = (1.0, 3.0, 9.0)
LONGEST_WAIT_S = 60
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
# Headers that say how long to wait, and where the seconds are in them.
_ASKED_WAIT = {"RateLimit": re.compile(r"\bt=([0-9]+)"), "Retry-After": re.compile(r"([0-9]+)\Z")}
_TRANSPORTS = ("httpx", "httpx2")  # depends on the release of huggingface_hub

Answer = TypeVar("Answer")


def retry(ask: Callable[[], Answer]) -> Answer:
    """Call `ask`, and retry transient errors a few times with back-off."""
    for wait in WAITS_S:
        try:
            return ask()
        except Exception as error:
            if not _may_pass(error):
                raise
            time.sleep(max(wait, _asked_wait(error)))
    return ask()


def _may_pass(error: Exception) -> bool:
    """Return True if an error is transient."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING_STATUS
    ended_early = type(error) is OSError and error.errno is None
    return ended_early or is_transport(error)


def _asked_wait(error: Exception) -> int:
    """Return the seconds that the hub asks to wait, at most `LONGEST_WAIT_S`."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    for name, seconds in _ASKED_WAIT.items():
        if match := seconds.search(headers.get(name, "")):
            return min(int(match[1][:9]), LONGEST_WAIT_S)
    return 0


def is_transport(error: BaseException) -> bool:
    """Return True if the connection failed, as opposed to the request."""
    return any(kind.__module__.partition(".")[0] in _TRANSPORTS for kind in type(error).__mro__)


@contextmanager
def explained(repo: str, asked: str) -> Iterator[None]:
    """Context manager: silence huggingface_hub's log, and turn its errors into one line.

    Args:
        repo: the repo id, ``owner/name``.
        asked: the branch, tag or commit that is requested.

    Raises:
        ModelError: the request failed; the message says why, and what to do.
    """
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        line = _without_secrets(_explain(error, repo, asked))
        raise ModelError(line) from (None if _leaks(error) else error)
    finally:
        hub_logging.set_verbosity(verbosity)


def _leaks(error: BaseException | None) -> bool:
    """Return True if the traceback of an error or of its causes would show a secret."""
    if error is None:
        return False
    leaks = _without_secrets(str(error)) != str(error)
    return leaks or _leaks(error.__cause__ or error.__context__)


def _explain(error: Exception, repo: str, asked: str) -> str:
    from huggingface_hub import errors

    cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else None
    if isinstance(cause, Exception):  # the reason why the hub could not be reached
        return _explain(cause, repo, asked)
    if isinstance(error, errors.HFValidationError):
        return f"{repo!r} is not a hub repo id: {first_line(error)}"
    again, lacking = try_again(repo, asked), _lacking(repo, asked)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{repo}: {lacking}, and HF_HUB_OFFLINE is set; unset it and {again}"
    if isinstance(error, errors.HfHubHTTPError):
        return _explain_status(error, repo, asked)
    if isinstance(error, OSError) and error.errno is not None:
        return _explain_disk(error, repo)
    reason = f"{type(error).__name__}: {first_line(error)}"
    if is_transport(error) or type(error) is OSError:
        return f"{repo}: {lacking}, and {_endpoint()} cannot be reached ({reason}); {again}"
    return f"{repo}: {_endpoint()} sent an invalid response ({reason}); {again}"


def _explain_status(error: Exception, repo: str, asked: str) -> str:
    from huggingface_hub import errors, get_token

    assert isinstance(error, errors.HfHubHTTPError)
    status, page = error.response.status_code, f"{_endpoint()}/{repo}"
    again = try_again(repo, asked)
    if isinstance(error, errors.GatedRepoError):
        token = "with the account of the token in use" if get_token() else "and set HF_TOKEN"
        return f"{repo} is gated: request access at {page} {token}, then {again}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision {asked!r}; see {page}/commits/main"
    if status in (401, 403, 404):
        wrong = "the token in use may not read it" if get_token() else "it needs HF_TOKEN"
        return f"{repo} cannot be fetched ({status}): it does not exist, or {wrong}; see {page}"
    if status == 429:
        return f"{repo}: too many requests to {_endpoint()} (429); later {again}"
    return f"{repo}: {_endpoint()} answered with an error ({status}); later {again}"


def _explain_disk(error: OSError, repo: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{repo}: the disk of {cache.cache()} is full; free some space, or set HF_HOME"
    where = error.filename or cache.cache()
    return f"{repo} cannot be written to the cache: {where}: {error.strerror}; see HF_HOME"


def _lacking(repo: str, asked: str) -> str:
    """Return a clause that names the files missing from the cache."""
    for snapshot in cache.known(repo, asked):
        names = [file.name for file in snapshot.missing]
        return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not in the cache"
    return "nothing of it is in the cache"


def try_again(repo: str, asked: str) -> str:
    """Return advice to retry, with the exact command."""
    name = repo if asked == cache.MAIN else f"{repo}@{asked}"
    return f"try again: blendin models pull {name}"


def _endpoint() -> str:
    """Return the hub's URL without user name and password."""
    from huggingface_hub import constants

    scheme, _, rest = constants.ENDPOINT.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _without_secrets(text: str) -> str:
    """Return a message with the token and the passwords in URLs masked."""
    from huggingface_hub import constants, get_token

    login = constants.ENDPOINT.partition("://")[2].rpartition("@")[0]
    password = login.partition(":")[2]
    secrets: dict[str, list[str | None]] = {
        "<token>": [get_token()],
        "<password>": [login, password, unquote(password)],
    }
    for shown, hidden in secrets.items():
        for secret in filter(None, hidden):
            text = text.replace(secret, shown)
    return without_passwords(text)


def warn_of_plain_http() -> None:
    """Log a warning if a token or a password would be sent unencrypted."""
    from huggingface_hub import constants, get_token

    address = urlsplit(constants.ENDPOINT)
    secret = "token" if get_token() else "password" if address.password else None
    if secret and address.scheme == "http" and not _is_loopback(address.hostname or ""):
        where = _endpoint()
        LOG.warning("your %s is sent unencrypted to %s; use https in HF_ENDPOINT", secret, where)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
