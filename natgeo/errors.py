"""The typed exceptions of natgeo, each with the exit code of the command line.

Every message has three parts: what is wrong with the value seen, where (the argument,
the file, the first offending index), and what to do about it.
"""

from __future__ import annotations


class NatgeoError(Exception):
    """Base of every error that natgeo raises on purpose."""

    exit_code = 1


class ArgumentError(NatgeoError, ValueError):
    """An argument that cannot mean anything: wrong type, sign, rank or index."""

    exit_code = 2


class DataError(NatgeoError, ValueError):
    """Well-formed arguments whose contents cannot be used: NaN, no rows, mismatch."""

    exit_code = 3


class StoreError(NatgeoError, OSError):
    """A feature store that is missing, damaged, or written by a different run."""

    exit_code = 4


class UnfitEnvironmentError(NatgeoError, RuntimeError):
    """This machine's arithmetic fails the self-test, so no verdict may be issued."""

    exit_code = 5
