"""Text from outside, decoded and parsed by one set of rules.

Text is UTF-8. A byte-order mark is removed and CRLF is a line end; other encodings are refused.
JSON follows the standard: finite numbers, and strings without lone surrogates.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MARK = "\ufeff"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff")  # UTF-16 and UTF-32
_MOST_DIGITS = 300


def decoded(data: bytes, where: str, start: int = 0) -> str:
    """Return the text of some bytes.

    Args:
        data: the bytes.
        where: the name of their source, for a message.
        start: the number of bytes before them in that source.

    Raises:
        ValueError: they are not UTF-8.

    Example:
        >>> decoded(b"\\xef\\xbb\\xbfone\\r\\ntwo", "notes.txt")
        'one\\ntwo'
    """
    if start == 0 and data.startswith(_OTHER_MARKS):
        raise ValueError(f"{where} is not UTF-8 text: byte 0 begins UTF-16; save it as UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 text: byte {start + error.start}") from None
    return (text if start else text.removeprefix(MARK)).replace("\r\n", "\n")


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        ValueError: it is not UTF-8.
        OSError: it cannot be read.
    """
    return decoded(path.read_bytes(), str(path))


def parsed_json(text: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON, nests too deeply, or holds an infinite or enormous number or a
            lone surrogate.
    """
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_number, parse_int=_whole
        )
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise ValueError(f"half of a surrogate pair, {half}, is not text") from None
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    return value


def parsed_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises:
        ValueError: it is not TOML, nests too deeply, or holds a number that is too large.
    """
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # Python does not read thousands of digits
        raise ValueError("a number in it has too many digits") from None
    return content


def _refuse_constant(written: str) -> None:
    raise ValueError(f"{written} is not a number in JSON")


def _number(written: str) -> float:
    number = float(written)
    if math.isinf(number):
        raise ValueError(f"{written:.20} is too large a number")
    return number


def _whole(written: str) -> int:
    if len(written) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(written)} digits is too large")
    return int(written)
