"""The threats of the command line: one name and the numbers that go with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from natgeo.errors import ArgumentError

_EPS = 0.01
# What `threat_options` adds beside the name, as keywords.
NUMBERS = ("eps", "points", "support_radius", "move_target", "move_examples")
# Name -> the options that it takes; those in brackets have a default.
TAKES = {
    "w2": ("[--eps]",),
    "w1": ("[--eps]", "--support-radius"),
    "euclidean2": ("[--eps]",),
    "delete": ("--points",),
    "add": ("--points", "--support-radius"),
    "replace": ("--points", "--support-radius"),
    "winf": ("[--eps]",),
    "moving": ("[--eps]", "--move-target", "--move-examples"),
}


def threat_options(command: Callable) -> Callable:
    """Adds --threat and its numbers to a verb, which gets them as keywords."""
    options = [
        click.option(
            "--threat",
            type=click.Choice(list(TAKES)),
            default="w2",
            show_default=True,
            help="What happens to the training distribution: a ball of order 2, of "
            "order 1, or of order 2 in raw features; examples deleted, added or "
            "replaced; every example and target moved; a ball of order 2 and moved "
            "points.",
        ),
        click.option(
            "--eps",
            type=float,
            help=f"Radius of w2, w1, euclidean2, winf and moving. [default: {_EPS}]",
        ),
        click.option(
            "--points", type=int, help="How many examples: delete, add and replace."
        ),
        click.option(
            "--support-radius",
            type=float,
            help="The largest natural norm that is assumed: w1, add and replace.",
        ),
        click.option(
            "--move-target", type=float, help="How far a target moves: moving."
        ),
        click.option(
            "--move-examples",
            type=float,
            help="How far each example of a claim moves: moving.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def make(name: str, numbers: Mapping[str, Any]) -> Any:
    """The threat that the options of a command line describe.

    Args:
        name: one of `TAKES`.
        numbers: value of each option, None where it was not given.

    Raises:
        ArgumentError: for a number that is missing, bad, or of another threat.
    """
    from natgeo.certify import threats

    _check(name, numbers)
    eps = _EPS if numbers["eps"] is None else numbers["eps"]
    points, support = numbers["points"], numbers["support_radius"]
    if name == "moving":
        ball = threats.Wasserstein2(eps)
        return threats.Moving(ball, numbers["move_target"], numbers["move_examples"])
    makers: dict[str, Callable[[], Any]] = {
        "w2": lambda: threats.Wasserstein2(eps),
        "w1": lambda: threats.Wasserstein1(eps, support),
        "euclidean2": lambda: threats.Euclidean2(eps),
        "delete": lambda: threats.Delete(points),
        "add": lambda: threats.Add(points, support),
        "replace": lambda: threats.Replace(points, support),
        "winf": lambda: threats.WassersteinInfinity(eps),
    }
    return makers[name]()


def label(name: str, numbers: Mapping[str, Any]) -> str:
    """The threat in a few words, for a headline."""
    given = {key: value for key, value in numbers.items() if value is not None}
    if "[--eps]" in TAKES[name]:
        given = {"eps": _EPS, **given}
    shown = ", ".join(
        f"{key.replace('_', ' ')} = {value:g}" for key, value in given.items()
    )
    return f"at {shown}" if name == "w2" else f"under {name}, {shown}"


def _check(name: str, numbers: Mapping[str, Any]) -> None:
    takes = {option.strip("[]"): option.startswith("[") for option in TAKES[name]}
    for key, value in numbers.items():
        option = "--" + key.replace("_", "-")
        if value is None and takes.get(option) is False:
            raise ArgumentError(
                f"--threat {name} needs {option}: it takes {' '.join(TAKES[name])}."
            )
        if value is not None and option not in takes:
            raise ArgumentError(
                f"{option} {value} does not go with --threat {name}, which takes "
                f"{' '.join(TAKES[name])}."
            )
