"""Errors as OpenAI's interface tells them: a status, and an object that names the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import FAILURE, PAIR, USAGE, explain

Headers = Sequence[tuple[str, str]]

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
RETRY_AFTER_S = 2


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: the status code.
        message: what is wrong, and what to do.
        param: the field that is meant, as ``blendin.tau``.
        code: a word for programs, as ``model_not_found``.
        headers: sent besides the usual ones.

    Example:
        >>> raise ApiError(400, "n must be at least 1", "n")
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.param, self.code = param, code
        self.headers = tuple(headers)

    def as_json(self) -> dict[str, Any]:
        """Return the body of the reply."""
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = TYPES.get(self.status, usual)
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


def refused(field: str, problem: str) -> ApiError:
    """Return the error of a field that cannot be used: ``n must be at least 1``."""
    return ApiError(400, f"{field} {problem}", field)


def busy() -> ApiError:
    """Return the error of a full queue."""
    headers = [("Retry-After", str(RETRY_AFTER_S))]
    return ApiError(429, "too many requests are waiting; try again later", None, "busy", headers)


def unavailable(why: str) -> ApiError:
    """Return the error of a server that cannot answer now."""
    return ApiError(503, why, code="unavailable")


def as_api_error(error: BaseException) -> ApiError:
    """Return what a client is told about any error.

    What went wrong inside would go wrong again, so clients are told not to retry it.
    """
    if isinstance(error, ApiError):
        return error
    message, code = explain(error) if isinstance(error, Exception) else (str(error), FAILURE)
    if code in (USAGE, PAIR):
        return ApiError(400, message)
    return ApiError(500, message, headers=[("x-should-retry", "false")])
