"""The verbs `scan`, for wrong labels, and `report`, for the page of any result."""

from __future__ import annotations

from pathlib import Path

import click

from natgeo import console
from natgeo.commands.options import FILE, FOLDER, ridge_option
from natgeo.commands.results import check_folders, finish, origin


@click.command()
@click.argument("store", type=FOLDER)
@ridge_option
@click.option(
    "--wrong",
    type=FILE,
    help="Known wrong labels (.npy booleans), to judge detectors.",
)
@click.option("--top", type=int, default=20, show_default=True, help="Examples shown.")
@click.option("--result", type=FILE, help="Write the result as JSON.")
@click.option("--report", type=FILE, help="Write the result as an HTML page.")
@console.json_option
def scan(
    store: Path,
    ridge: float | None,
    wrong: Path | None,
    top: int,
    result: Path | None,
    report: Path | None,
) -> tuple:
    """Rank training examples by how suspicious their labels are (loss features)."""
    from natgeo import checks, loading
    from natgeo.labels.scan import scan_labels
    from natgeo.report import sections
    from natgeo.store.disk import DiskStore

    checks.count("--top", top)
    check_folders(result, report)
    features = DiskStore(store)
    found = scan_labels(features, ridge)
    flags = None if wrong is None else loading.flags(wrong, features.shape[0])
    part = sections.scan_section(found, top=top, flipped=flags)
    document = sections.document(
        "scan",
        "Label-noise scan",
        summary=[
            {
                "label": "Examples scanned",
                "value": f"{features.shape[0]:,}",
                "note": "by self-influence of their loss features",
            }
        ],
        scan=part,
        provenance={"store": str(store), **origin(features)},
    )
    return finish(document, result, report)


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
