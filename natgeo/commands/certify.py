"""The verbs about certificates: `certify` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from natgeo import console
from natgeo.commands import threats
from natgeo.commands.options import FILE, FOLDER, ridge_option
from natgeo.commands.results import check_folders, finish, origin
from natgeo.commands.threats import threat_options
from natgeo.errors import ArgumentError

_PATIENCE_S = 10.0  # work that takes longer is announced


@click.command()
@click.argument("train", type=FOLDER)
@click.option("--targets", required=True, type=FOLDER, help="Store of target features.")
@ridge_option
@click.option(
    "--changed",
    type=FOLDER,
    help="Store of the same training examples after a known change (an augmentation, "
    "a relabelling), to compare eps with.",
)
@threat_options
@click.option(
    "--show", type=int, default=4, show_default=True, help="Targets in detail."
)
@click.option(
    "--top", type=int, default=10, show_default=True, help="Proponents shown."
)
@click.option(
    "--sample",
    type=click.IntRange(1),
    metavar="PAIRS",
    help="Estimate from so many random pairs, with an interval, instead of counting "
    "all pairs. Ranks are left out.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of --sample."
)
@click.option("--result", type=FILE, help="Write the result as JSON.")
@click.option("--report", type=FILE, help="Write the result as an HTML page.")
@click.option("--out", type=FOLDER, help="Write a certificate for `natgeo check`.")
@console.json_option
def certify(
    train: Path,
    targets: Path,
    ridge: float | None,
    changed: Path | None,
    threat: str,
    show: int,
    top: int,
    sample: int | None,
    seed: int,
    result: Path | None,
    report: Path | None,
    out: Path | None,
    **numbers: Any,
) -> tuple:
    """Certify the ranking of the training examples for every target."""
    from natgeo import checks
    from natgeo.certify.rankings import certify_rankings
    from natgeo.geometry import kernels
    from natgeo.geometry.natural import natural_geometry
    from natgeo.geometry.scores import scores
    from natgeo.proof.certificate import refuse_used
    from natgeo.proof.issue import issue_certificate
    from natgeo.report import sections
    from natgeo.store.disk import DiskStore

    against = threats.make(threat, numbers)
    checks.count("--show", show, low=0)
    checks.count("--top", top)
    check_folders(result, report, out)
    if out is not None:
        refuse_used(out)
        if show == 0:
            raise ArgumentError(
                "--out certifies the targets that --show shows: --show must be at "
                "least 1."
            )
    store, points = DiskStore(train), DiskStore(targets)
    geometry = natural_geometry(store, ridge)
    n, m = store.shape[0], points.shape[0]
    kernel = kernels.for_work(n, m, len(sections.RADII))
    rankings = certify_rankings(geometry, points, against, progress=True, kernel=kernel)
    if sample is None and kernel is not None:
        work = rankings.workload(sections.curve_radii(rankings))
        if work.seconds > _PATIENCE_S:
            click.echo(f"{work}; --sample PAIRS estimates it.", err=True)
    scale = None if changed is None else _scale(rankings, DiskStore(changed))
    curve = sections.curve_section(
        rankings, sample=None if sample is None else (sample, seed)
    )
    against_words = threats.label(threat, numbers)
    summary, says = _certified_summary(rankings, against_words, sample, seed)
    guarantee = sections.guarantee_section(rankings, scale)
    guarantee["says"] += says
    all_scores = scores(geometry, points)
    document = sections.document(
        "certify",
        "Certified attribution rankings",
        summary=[summary],
        guarantee=guarantee,
        geometry=sections.geometry_section(rankings),
        curve=curve,
        targets=[
            sections.target_section(rankings, all_scores[target], target, top=top)
            for target in range(min(show, m) if sample is None else 0)
        ],
        provenance={"train": str(train), "targets": str(targets), **origin(store)},
    )
    values, words = finish(document, result, report)
    if out is not None:
        shown = range(min(show, m))
        issued = issue_certificate(
            out, rankings, all_scores, shown, top=top, provenance=origin(store)
        )
        words += f"\nWrote the certificate {out}: {issued.summary}."
    return values, words


@click.command()
@click.argument("certificate", type=FOLDER)
@click.option(
    "--features", required=True, type=FOLDER, help="Your store of training features."
)
@click.option("--targets", type=FOLDER, help="Your store of target features.")
@console.json_option
def check(certificate: Path, features: Path, targets: Path | None) -> tuple:
    """Re-check a certificate against your own stores, without JAX.

    Exit code 0: valid, and about these data. 1: valid but about other data, or a claim
    is rejected. 2: malformed.
    """
    from natgeo.proof.checker import check_certificate
    from natgeo.store.disk import DiskStore

    points = None if targets is None else DiskStore(targets)
    found = check_certificate(certificate, DiskStore(features), points)
    return found.values(), str(found), found.exit_code


def _scale(rankings: Any, changed: Any) -> dict[str, Any]:
    """Distances of the change that a store holds, and of bootstrap resamples."""
    from natgeo.certify import distances
    from natgeo.report import sections

    geometry = rankings.geometry
    found = distances.change(geometry, geometry.train, changed)
    again = distances.resample(geometry)
    return sections.scale_section(rankings, {"changed in this way": found}, again)


def _certified_summary(
    rankings: Any, against: str, sample: int | None, seed: int
) -> tuple[dict[str, str], str]:
    """The headline of the certified fraction, counted or estimated, and its words."""
    from natgeo.certify.guarantee import estimate_in_words
    from natgeo.display import percent

    m, says = rankings.targets.shape[0], ""
    of = f"of {rankings.pairs:,} pairs"
    if sample is None:
        fraction = rankings.fraction  # known from the curve's pass over all pairs
    else:
        found = rankings.estimate(sample, seed=seed)
        fraction, says = found.fraction, " " + estimate_in_words(found)
        of = f"estimated from {sample:,} {of}, seed {seed}"
    return {
        "label": f"Certified pairs {against}",
        "value": percent(fraction.mean()),
        "note": f"{of}, mean of {m} targets",
    }, says
