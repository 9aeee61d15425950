"""How a command behaves as a process: exit codes, one-line errors, signals, JSON."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click

from natgeo.display import visible
from natgeo.errors import NatgeoError
from natgeo.progress import forget_interrupts, interrupt

INTERRUPTED = 130


def run(group: click.Group) -> NoReturn:
    """Runs a command group as the process: exit codes, one-line errors, signals."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    forget_interrupts()
    handle_signals()
    try:
        sys.exit(group.main(arguments, prog_name="natgeo", standalone_mode=False) or 0)
    except click.exceptions.Abort:
        fail("interrupted; nothing was lost that was complete", INTERRUPTED)
    except KeyboardInterrupt:
        fail("interrupted; nothing was lost that was complete", INTERRUPTED)
    except click.ClickException as error:
        if debug:
            raise
        fail(error.format_message(), error.exit_code)
    except NatgeoError as error:
        if debug:
            raise
        fail(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        fail(f"{kind}: {error} (run again with --debug to see where)", 1)


def handle_signals() -> None:
    """SIGINT and SIGTERM end the command, whoever else took them over meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def fail(message: str, code: int) -> NoReturn:
    """Ends the process with one line on standard error, made harmless."""
    line = " ".join(visible(message).split())
    click.echo(f"natgeo: {line}", err=True)
    sys.exit(code)


def json_option(command: Callable) -> Callable:
    """Adds --json: the command returns (values, words) and prints one of them."""

    @click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
    @wraps(command)
    def wrapped(*args: Any, as_json: bool, **kwargs: Any) -> int | None:
        values, words, *code = command(*args, **kwargs)
        if values is None:
            return None  # another process of the run says it
        if as_json:
            click.echo(json.dumps(values, indent=1, allow_nan=False))
        else:
            click.echo("\n".join(visible(line) for line in words.splitlines()))
        return code[0] if code else None

    return wrapped
