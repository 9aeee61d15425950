"""Words and numbers as they may be shown: inert text, and rounding that never flatters.

Strings of a document come from data sets and file names, so they may hold terminal
escapes or characters that reorder a line. They are made visible here; escaping for HTML
is the template's work. Numbers that are proven bounds are rounded to the safe side.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import unicodedata
from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

# Joiners shape emoji and Indic scripts; they cannot reorder text.
_HARMLESS_FORMATS = "\u200c\u200d"
_SPACE = "\u00a0"  # does not break, so a number stays in one piece
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def visible(text: str) -> str:
    r"""The text with everything invisible spelled out, so that nothing acts.

    Line breaks and tabs become spaces; other control characters, bidirectional
    overrides, unpaired surrogates and line separators become escapes.

    Examples:
        >>> visible("red \x1b[31m and \u202egnp.exe")
        'red \\x1b[31m and [U+202E]gnp.exe'
    """
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\n\r\t":
        return " "
    category = unicodedata.category(character)
    if category == "Cc":
        return f"\\x{ord(character):02x}"
    hidden = category in ("Cs", "Zl", "Zp") or (
        category == "Cf" and character not in _HARMLESS_FORMATS
    )
    return f"[U+{ord(character):04X}]" if hidden else character


def count(value: int) -> str:
    """A whole number with thousands separated.

    Examples:
        >>> count(1124250)
        '1,124,250'
    """
    return f"{value:,}"


def percent(value: float) -> str:
    """A share as a percentage with one decimal, rounded down.

    A share that is not 1 never prints as 100 %.

    Examples:
        >>> print(percent(0.818), percent(0.99996), percent(1.0), sep=", ")
        81.8 %, 99.9 %, 100 %
    """
    if value in (0, 1):
        return f"{100 * value:.0f}{_SPACE}%"
    tenths = (Decimal(repr(float(value))) * 1000).to_integral_value(ROUND_FLOOR)
    return f"{tenths / 10:.1f}{_SPACE}%" if tenths else f"<{_SPACE}0.1{_SPACE}%"


def short(value: float) -> str:
    """A number to four significant digits.

    Examples:
        >>> print(short(3163.21), short(81234.5), short(-3.7e-6), short(0.05))
        3,163 81,234 −3.7 × 10⁻⁶ 0.05
    """
    return _number(value, 4, ROUND_HALF_EVEN)


def given(value: float) -> str:
    """A number that a person chose, such as a radius: exactly, in its shortest form.

    Examples:
        >>> given(0.01), given(1e-05), given(0.3), given(12.0)
        ('0.01', '0.00001', '0.3', '12')
    """
    exact = Decimal(repr(float(value)))
    if exact and not -7 <= exact.adjusted() <= 7:
        return repr(float(value))
    return f"{exact.normalize():f}"


def at_least(value: float) -> str:
    """A proven lower bound, such as a certified radius: five digits, rounded down.

    Examples:
        >>> at_least(0.00612399), at_least(-123456.7)
        ('0.0061239', '−123,457')
    """
    return _number(value, 5, ROUND_FLOOR)


def at_most(value: float) -> str:
    """A proven upper bound, such as a cost: five digits, rounded up.

    Examples:
        >>> at_most(0.00612391)
        '0.006124'
    """
    return _number(value, 5, ROUND_CEILING)


def _number(value: float, digits: int, rounding: str) -> str:
    exact = Decimal(value)
    if not exact.is_finite():
        return str(value)
    if not exact:
        return "0"
    rounded = Context(prec=digits, rounding=rounding).plus(exact)
    sign = "−" if rounded < 0 else ""
    rounded = abs(rounded)
    exponent = rounded.adjusted()
    if -4 <= exponent < digits:
        plain = f"{rounded.normalize():f}"
        whole, _, decimals = plain.partition(".")
        return f"{sign}{int(whole):,}" + (f".{decimals}" if decimals else "")
    if digits <= exponent < 7:
        # Rounded before the sign is taken off: down is away from zero below it.
        whole_number = exact.to_integral_value(rounding)
        return f"{sign}{abs(int(whole_number)):,}"
    mantissa = f"{rounded.scaleb(-exponent).normalize():f}"
    power = str(exponent).translate(_SUPERSCRIPTS)
    return f"{sign}{mantissa}{_SPACE}×{_SPACE}10{power}"


@contextlib.contextmanager
def stdout_on_stderr() -> Iterator[None]:
    """Sends what libraries print on standard output to standard error.

    The transport of CPU collectives prints there from C++, into what may be a result.
    """
    _flush_everything()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        _flush_everything()
        os.dup2(kept, 1)
        os.close(kept)


def _flush_everything() -> None:
    sys.stdout.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)  # the buffers of C, which nobody else empties
