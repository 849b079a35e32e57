"""The fields of a JSON object, taken one by one; what nobody took is refused by its name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from .errors import ApiError, refused


class Fields:
    """The fields of an object; ``null`` counts as absent.

    Args:
        value: what a JSON text said.
        path: the name of the object, empty for the whole request.

    Raises:
        ApiError: it is not an object.

    Example:
        >>> fields = Fields({"n": 2, "dance": True})
        >>> fields.whole("n", 1, 8, default=1)
        2
        >>> fields.finish()   # ApiError: dance is not supported
    """

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            what = path or "the request"
            raise ApiError(400, f"{what} must be a JSON object", path or None)
        self._left = {str(name): one for name, one in value.items() if one is not None}
        self._path = path

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def name(self, field: str) -> str:
        """Return a field's full name: ``blendin.tau``."""
        return f"{self._path}.{field}" if self._path else field

    def take(self, field: str) -> Any:
        """Return any value, None where there is none."""
        return self._left.pop(field, None)

    def take_if(self, field: str, value: float) -> bool:
        """Take a number if it is this one; return whether it was."""
        given = self._left.get(field)
        if not is_number(given) or given != value:
            return False
        del self._left[field]
        return True

    def boolean(self, field: str, default: bool = False) -> bool:
        """Return a truth value."""
        value = self.take(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise refused(self.name(field), "must be true or false")
        return value

    def text(self, field: str) -> str | None:
        """Return a string, None where there is none."""
        value = self.take(field)
        if value is not None and not isinstance(value, str):
            raise refused(self.name(field), "must be a string")
        return value

    def number(self, field: str) -> float | None:
        """Return a number, None where there is none."""
        value = self.take(field)
        if value is None:
            return None
        if not is_number(value):
            raise refused(self.name(field), "must be a number")
        number: float = value
        return number

    def whole(self, field: str, low: int, high: int = sys.maxsize, default: int = 0) -> int:
        """Return a whole number in a range."""
        value = self.take(field)
        if value is None:
            return default
        if not is_number(value) or value != int(value) or not low <= value <= high:
            limits = f"from {low} to {high}" if high < sys.maxsize else f"of at least {low}"
            raise refused(self.name(field), f"must be a whole number {limits}")
        return int(value)

    def fields(self, field: str) -> Fields:
        """Return the fields of an inner object, of an empty one where there is none."""
        value = self.take(field)
        return Fields({} if value is None else value, self.name(field))

    def finish(self, without_effect: Mapping[str, tuple[Any, ...]] | None = None) -> None:
        """Refuse every field that was not taken.

        Args:
            without_effect: fields that are not supported, with the values that ask for nothing;
                an empty tuple stands for any value.
        """
        known = without_effect or {}
        for field, value in self._left.items():
            if field in known and (not known[field] or value in known[field]):
                continue
            raise refused(self.name(field), "is not supported by this server; leave it out")


def is_number(value: Any) -> bool:
    """Return True if a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
