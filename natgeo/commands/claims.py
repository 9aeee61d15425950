"""The claims of the command line: any attribution statement by five options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from natgeo.errors import ArgumentError

FORMS = """\
--target T --above I --below J           I scores higher than J for T
--target T --above I,J,.. --below K,..   one group scores higher than another in total
--target T --above I                     I is a proponent: a positive score
--target T --below I                     I is an opponent: a negative score
--target T --than S --above I            I scores higher for T than for target S
--self-influence --above I --below J     I has more self-influence than J"""
_PARTS = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Claim:
    """A claim that was typed, checked but for the index of a target."""

    target: int | None
    than: int | None
    above: list[int]
    below: list[int]
    self_influence: bool


def claim_options(command: Callable) -> Callable:
    """Adds the options of a claim to a verb, which gets them as keywords."""
    options = [
        click.option("--target", type=int, help="Index of a target."),
        click.option(
            "--above",
            metavar="LIST",
            help="Example that scores higher, or several: 3,5,10-19. Alone: a "
            "proponent, whose score is positive.",
        ),
        click.option(
            "--below",
            metavar="LIST",
            help="Example, or several, that score lower. Alone: an opponent.",
        ),
        click.option(
            "--than",
            type=int,
            help="Another target, for which the example scores lower.",
        ),
        click.option(
            "--self-influence",
            is_flag=True,
            help="Compare self-influence, without a target.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def read(options: Mapping[str, Any], size: int, targets: bool) -> Claim:
    """The claim that the options of a command line describe.

    Args:
        options: value of each option of `claim_options`.
        size: number of training examples.
        targets: whether a store of targets was named.

    Raises:
        ArgumentError: for options that do not make a claim, or an example out of range.
    """
    claim = Claim(
        options["target"],
        options["than"],
        _indices("--above", options["above"], size),
        _indices("--below", options["below"], size),
        options["self_influence"],
    )
    if not claim.above and not claim.below:
        raise _wrong("--above and --below are both missing: name an example")
    counts = f"--above names {len(claim.above)}, --below {len(claim.below)}"
    alone = claim.target is None and claim.than is None and not targets
    if claim.self_influence and not alone:
        raise _wrong(
            "--self-influence is about training examples alone: leave out --target, "
            "--than and --targets"
        )
    if claim.self_influence and not len(claim.above) == len(claim.below) == 1:
        raise _wrong(f"--self-influence compares one example with another: {counts}")
    if claim.than is not None and not (len(claim.above) == 1 and not claim.below):
        raise _wrong(f"--than is about one example and two targets: {counts}")
    if not claim.self_influence and claim.target is None:
        raise _wrong("--target is missing: for which target")
    if not claim.self_influence and not targets:
        raise _wrong("--targets is missing: the store that --target is an index into")
    return claim


def make(claim: Claim, geometry: Any, targets: Any) -> Any:
    """The statement of a claim.

    Args:
        claim: from `read`.
        geometry: the natural geometry of the training set.
        targets: the store of targets, None without one.

    Raises:
        ArgumentError: for a target out of range, or an example named twice.
    """
    from natgeo.certify import statements

    above, below = claim.above, claim.below
    target: Any = claim.target
    if claim.self_influence:
        return statements.self_influence_pair(geometry, above=above[0], below=below[0])
    of: Any = {"geometry": geometry, "targets": targets}
    if claim.than is not None:
        return statements.target_pair(
            **of, more=target, less=claim.than, example=above[0]
        )
    if len(above) == len(below) == 1:
        return statements.pair(**of, target=target, above=above[0], below=below[0])
    if len(above) + len(below) == 1:
        sign = statements.proponent if above else statements.opponent
        return sign(**of, target=target, example=(above or below)[0])
    return statements.group(**of, target=target, above=above, below=below)


def _wrong(problem: str) -> ArgumentError:
    forms = "; ".join(line.split("  ")[0] for line in FORMS.splitlines())
    return ArgumentError(f"{problem}. A claim is one of: {forms}.")


def _indices(option: str, text: str | None, size: int) -> list[int]:
    """The examples of a list such as 3,5,10-19.

    Raises:
        ArgumentError: for anything else, or an example that does not exist.
    """
    found: list[int] = []
    for part in () if text is None else text.split(","):
        match = _PARTS.fullmatch(part.strip())
        if match is None:
            raise ArgumentError(
                f"{option} {text!r}: {part!r} is neither an index nor a range of them. "
                f"Write 7, or 3,5,10-19."
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < size:
            raise ArgumentError(
                f"{option} {text!r}: {part.strip()!r} is out of range or backwards: "
                f"there are {size} training examples, numbered 0 to {size - 1}."
            )
        found += range(first, last + 1)
    return found
