"""Checks of single fields of an untrusted document, and how they are put together.

A check takes the path of a field and its value, and returns the value as plain JSON
types or raises `DataError`. What may be nested in what is fixed by the composition of
checks, so a document cannot make the reader recurse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from natgeo.errors import DataError

Check = Callable[[str, Any], Any]

LONGEST_TEXT = 20_000
_LONGEST_IMAGE = 4 * 2**20
_LARGEST_WHOLE = 2**53
_PNG = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


def text(pattern: str | None = None, form: str = "", *, empty: bool = True) -> Check:
    """A string, optionally one that matches a pattern as a whole.

    Args:
        pattern: regular expression of the allowed strings.
        form: the pattern in words.
        empty: whether the empty string will do.
    """

    def check(where: str, value: Any) -> str:
        if not isinstance(value, str):
            refuse(where, value, "expected a string")
        if len(value) > LONGEST_TEXT:
            refuse(where, value, f"at most {LONGEST_TEXT:,} characters are shown")
        if not empty and not value.strip():
            refuse(where, value, "expected some words")
        if pattern is not None and not re.fullmatch(pattern, value):
            refuse(where, value, f"expected {form}")
        return str(value)

    return check


def choice(*allowed: str) -> Check:
    """One of a few words."""

    def check(where: str, value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            refuse(where, value, f"expected one of {', '.join(map(repr, allowed))}")
        return str(value)

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Check:
    """A finite number in [low, high], as a float."""

    def check(where: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            refuse(where, value, "expected a number")
        if isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
            refuse(where, value, "expected a number of ordinary size")
        if not math.isfinite(value):
            refuse(where, value, "expected a finite number, or null if there is none")
        if not low <= value <= high:
            refuse(where, value, f"expected a number {_range(low, high)}")
        return float(value)

    return check


def whole(low: int = 0) -> Check:
    """A whole number of at least `low`; True and 3.0 will not do."""

    def check(where: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            refuse(where, value, "expected a whole number")
        if not low <= value <= _LARGEST_WHOLE:
            refuse(where, value, f"expected a whole number of at least {low}")
        return int(value)

    return check


def flag(where: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        refuse(where, value, "expected true or false")
    return value


def thumbnail(where: str, value: Any) -> str:
    """A PNG as a data URI; no other address is ever followed or shown."""
    if not isinstance(value, str) or not _PNG.fullmatch(value):
        refuse(where, value, "expected a PNG as 'data:image/png;base64,...'")
    if len(value) > _LONGEST_IMAGE:
        refuse(where, value, "it is too large for a thumbnail; make it smaller")
    return str(value)


def maybe(check: Check) -> Check:
    """The same, or null."""
    return lambda where, value: None if value is None else check(where, value)


def rows(check: Check, *, most: int, least: int = 0) -> Check:
    """A list of `least` to `most` values that each pass the check."""

    def check_rows(where: str, value: Any) -> list:
        if not isinstance(value, (list, tuple)):
            refuse(where, value, "expected a list")
        if not least <= len(value) <= most:
            raise DataError(
                f"{where} has {len(value)} entries: expected {least} to {most:,}."
            )
        return [check(f"{where}[{i}]", entry) for i, entry in enumerate(value)]

    return check_rows


def record(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """An object with exactly these fields; absent optional ones become null."""
    known = {**required, **{name: maybe(check) for name, check in optional.items()}}

    def check_record(where: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(where, value, "expected an object")
        prefix = f"{where}." if where else ""
        for name in value:
            if name not in known:
                raise DataError(
                    f"{prefix}{_seen(name)} is not a field of this format: remove it; "
                    f"the fields are {', '.join(known)}."
                )
        for name in required:
            if name not in value:
                raise DataError(f"{prefix}{name} is missing: add it.")
        return {
            name: check(f"{prefix}{name}", value.get(name))
            for name, check in known.items()
        }

    return check_record


def mapping(check: Check, *, most: int) -> Check:
    """An object with any names, whose values each pass the check."""
    name_of = text()

    def check_mapping(where: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(where, value, "expected an object")
        if len(value) > most:
            raise DataError(f"{where} has {len(value)} entries: expected {most}.")
        return {
            name_of(f"a name in {where}", name): check(f"{where}.{_seen(name)}", entry)
            for name, entry in value.items()
        }

    return check_mapping


def refuse(where: str, value: Any, why: str) -> NoReturn:
    """Raises the error of one field."""
    raise DataError(f"{where or 'the document'} is {_seen(value)}: {why}.")


def _seen(value: Any) -> str:
    """A value in a one-line message: short, and with nothing in it that acts."""
    if isinstance(value, dict):
        return f"an object with {len(value)} fields"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > _LARGEST_WHOLE:
        return "a whole number beyond 2^53"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    shown = ascii(value if not isinstance(value, str) else value[:60])
    if isinstance(value, str):
        return shown + (f" (of {len(value)} characters)" if len(value) > 60 else "")
    return f"{' '.join(shown.split())[:60]} ({type(value).__name__})"


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f"of at least {low:g}"
    return f"from {low:g} to {high:g}"
