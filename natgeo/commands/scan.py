"""The verbs `scan`, for wrong labels, and `report`, for the page of any result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from natgeo import console
from natgeo.commands.options import FILE, FOLDER, ridge_option
from natgeo.commands.results import check_folders, finish, origin
from natgeo.errors import ArgumentError


@click.command()
@click.argument("store", type=FOLDER, required=False)
@click.option(
    "--images", type=FOLDER, help="A folder of images, one sub-folder for each class."
)
@click.option("--table", type=FILE, help="A CSV file with a head line.")
@click.option("--label", metavar="COLUMN", help="Its label column.")
@click.option(
    "--ignore", metavar="COLUMN", multiple=True, help="A column to leave out; repeat."
)
@click.option(
    "--labels",
    type=FILE,
    help="Given labels of a STORE (.npy, or CSV with a column label), for a review.",
)
@click.option(
    "--apply",
    "decisions",
    type=FILE,
    help="Decisions of a review (CSV or JSON): write the cleaned labels to --out.",
)
@click.option("--out", type=FILE, help="With --apply: the cleaned labels.")
@click.option(
    "--compare",
    is_flag=True,
    help="With --apply: retrain before and after, and with random removal of as many.",
)
@click.option(
    "--test",
    type=click.Path(path_type=Path),
    help="With --compare: a folder or CSV like the first, with labels to be trusted.",
)
@click.option("--epochs", type=int, help="Of the built-in model; default: by N.")
@click.option("--size", type=int, help="Pixels of a side; default: 32 at most.")
@click.option("--seed", type=int, default=0, show_default=True)
@ridge_option
@click.option(
    "--eps",
    type=float,
    default=0.01,
    show_default=True,
    help="Radius at which the order by self-influence is certified.",
)
@click.option(
    "--wrong",
    type=FILE,
    help="Known wrong labels (.npy booleans), to judge detectors.",
)
@click.option("--top", type=int, default=10, show_default=True, help="Examples listed.")
@click.option(
    "--queue",
    type=int,
    help="Examples that the page puts up for review; default: a fifth, 50 to 500.",
)
@click.option("--result", type=FILE, help="Write the result as JSON.")
@click.option("--report", type=FILE, help="Write the result as an HTML page to review.")
@console.json_option
def scan(
    store: Path | None,
    images: Path | None,
    table: Path | None,
    label: str | None,
    ignore: tuple[str, ...],
    labels: Path | None,
    decisions: Path | None,
    out: Path | None,
    compare: bool,
    test: Path | None,
    epochs: int | None,
    size: int | None,
    seed: int,
    ridge: float | None,
    eps: float,
    wrong: Path | None,
    top: int,
    queue: int | None,
    result: Path | None,
    report: Path | None,
) -> tuple:
    """Find the labels that look wrong.

    In a folder of images (--images) or a CSV file (--table FILE --label COLUMN): a
    small model is trained here, and nothing else is needed. Or in a STORE of the loss
    features of a model of yours, from `natgeo featurize --output loss`.

    With --report the suspicious examples can be reviewed in a browser; the decisions
    that it saves are applied with --apply decisions.csv --out cleaned.csv.
    """
    from natgeo import checks

    sources = {"STORE": store, "--images": images, "--table": table}
    named = [name for name, value in sources.items() if value is not None]
    if (table is None) != (label is None):
        raise ArgumentError("--table needs --label COLUMN, and the other way round.")
    if decisions is None:
        if len(named) != 1:
            raise ArgumentError(
                f"Name one of STORE, --images FOLDER and --table FILE --label COLUMN; "
                f"{'none was' if not named else ' and '.join(named) + ' were'} named."
            )
        for name, value in (("--out", out), ("--compare", compare or None)):
            if value is not None:
                raise ArgumentError(f"{name} needs --apply decisions.csv.")
    checks.count("--top", top)
    if queue is not None:
        checks.count("--queue", queue)
    checks.count("--seed", seed, low=0)
    checks.nonnegative("--eps", eps)
    check_folders(result, report, out)
    from natgeo.commands import labelling

    if decisions is not None:
        return labelling.apply(
            decisions,
            out,
            labelling.Source(images, table, label, ignore, labels, size),
            test=test if compare or test else None,
            compare=compare,
            epochs=epochs,
            seed=seed,
        )
    asked = labelling.Asked(eps, top, queue, wrong, ridge, epochs, seed)
    if store is not None:
        document = _of_store(store, labels, asked)
    else:
        source = labelling.Source(images, table, label, ignore, None, size)
        document = labelling.scanned(source, asked)
    values, words = finish(document, result, report)
    if "left out" in document["provenance"]:
        words += f"\nColumns left out: {document['provenance']['left out']}."
    if report is None and result is None and "review" in document:
        words += "\nAdd --report scan.html to review them in a browser."
    return values, words


def _of_store(store: Path, labels: Path | None, asked: Any) -> dict[str, Any]:
    """The document of a scan of stored features, with a review if labels are known."""
    from natgeo.commands import labelling
    from natgeo.labels.files import read_labels
    from natgeo.labels.scan import scan_labels
    from natgeo.store.disk import DiskStore

    features = DiskStore(store)
    given = None if labels is None else read_labels(labels)
    found = scan_labels(
        features, ridge=asked.ridge, labels=None if given is None else given.y
    )
    provenance = {"store": str(store), **origin(features)}
    if given is None:
        return labelling.plain_document(found, asked, provenance)
    return labelling.review_document(
        found,
        asked,
        provenance,
        classes=given.classes,
        names=given.names,
    )


@click.command()
@click.argument("result", type=FILE)
@click.option("--out", type=FILE, default=Path("report.html"), show_default=True)
@console.json_option
def report(result: Path, out: Path) -> tuple:
    """Draw the HTML page of a result that another verb wrote as JSON."""
    from natgeo.report.document import read_document
    from natgeo.report.page import write_report

    check_folders(out)
    write_report(read_document(result), out)
    return {"report": str(out)}, f"Wrote {out}."
