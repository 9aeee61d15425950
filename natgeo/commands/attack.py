"""The verb `attack`: tries to break a claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from natgeo import console
from natgeo.commands import claims, threats
from natgeo.commands.claims import claim_options
from natgeo.commands.options import FOLDER, ridge_option
from natgeo.commands.results import check_folders, refuse_used
from natgeo.commands.threats import threat_options

_MOVES = ("winf", "moving")  # threats that move the points of a claim
_HELP = f"""\
Try to break a claim under a threat, and say how close that comes to its proof.

A claim is one of:

\b
{claims.FORMS}

For example, whether deleting five examples can take the lead from example 812:

\b
natgeo attack train --targets test --target 17 --above 812 --below 4411 \\
    --threat delete --points 5 --out edited
"""


@click.command(help=_HELP)
@click.argument("train", type=FOLDER)
@click.option("--targets", type=FOLDER, help="Store of target features.")
@claim_options
@threat_options
@ridge_option
@click.option("--out", type=FOLDER, help="New store for the perturbed training set.")
@console.json_option
def attack(
    train: Path,
    targets: Path | None,
    threat: str,
    ridge: float | None,
    out: Path | None,
    **options: Any,
) -> tuple:
    """Try to break a claim under a threat."""
    from natgeo.certify import challenge
    from natgeo.certify.refutation import refute
    from natgeo.certify.rounding import prove
    from natgeo.certify.verdict import decide
    from natgeo.geometry.natural import natural_geometry
    from natgeo.store.disk import DiskStore

    against = threats.make(threat, {name: options[name] for name in threats.NUMBERS})
    check_folders(out)
    if out is not None:
        refuse_used(out, *([_beside(out)] if threat in _MOVES else []))
    store, points = DiskStore(train), None if targets is None else DiskStore(targets)
    claim = claims.read(options, store.shape[0], points is not None)
    geometry = natural_geometry(store, ridge)
    statement = claims.make(claim, geometry, points)
    proof = prove(geometry)
    verdict = decide(proof, statement, against)
    found = refute(proof, statement, against)
    outcome = challenge.values(found, verdict, against)
    outcome["ridge"] = geometry.ridge
    words = challenge.in_words(outcome)
    if out is not None:
        written, more = _write(found, geometry, against, out)
        outcome |= written
        words += more
    return outcome, words


def _write(found: Any, geometry: Any, threat: Any, out: Path) -> tuple[dict, str]:
    """Writes what was found; the values and the words that say where it is."""
    from natgeo.certify import challenge
    from natgeo.certify.moving_attack import MovedCounterexample

    _, ridge = challenge.save(found, geometry, threat, out)
    written: dict[str, Any] = {"store": str(out), "store_ridge": ridge}
    words = (
        f"\nWrote {out}: the perturbed training features. The claim is evaluated "
        f"under their covariance, with ridge {ridge!r}"
    )
    if not isinstance(found, MovedCounterexample):
        return written, words + ", for the stored examples and targets."
    beside = _beside(out)
    names = challenge.save_points(found, geometry, beside)
    written |= {"points": str(beside), "moved": names}
    return written, f"{words}, for the moved points in {beside}: {', '.join(names)}."


def _beside(out: Path) -> Path:
    """Where the moved points go."""
    return out.with_name(f"{out.name}-points")
