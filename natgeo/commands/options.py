"""Options and argument types that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def ridge_option(command: Callable) -> Callable:
    """Adds --ridge to a verb."""
    return click.option(
        "--ridge",
        type=float,
        help="Ridge >= 0 in squared feature units; default: mean eigenvalue / 1000. "
        "With 0 the certificates are exact.",
    )(command)
