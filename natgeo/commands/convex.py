"""The verb `convex`: influence on a linear or logistic model of a table."""

from __future__ import annotations

from pathlib import Path

import click

from natgeo import console
from natgeo.commands.options import FILE
from natgeo.commands.results import check_folders, finish


@click.command()
@click.argument("table", type=FILE)
@click.option("--label", required=True, help="Column that is predicted.")
@click.option(
    "--loss",
    type=click.Choice(["squared", "logistic", "multinomial"]),
    help="Default: squared for decimals and many integers, else by the classes.",
)
@click.option("--drop", multiple=True, help="Column to leave out; may be repeated.")
@click.option(
    "--one-hot", multiple=True, help="Column whose values become columns; repeatable."
)
@click.option("--ridge", type=float, help="Default: chosen by cross-validation.")
@click.option("--folds", type=int, default=5, show_default=True)
@click.option(
    "--rule",
    type=click.Choice(["minimum", "one-se"]),
    default="minimum",
    show_default=True,
    help="Least held-out loss, or the largest ridge within one standard error.",
)
@click.option(
    "--rows", help="Rows to explain, as 3,17 (from 0); they are not trained on."
)
@click.option("--eps", type=float, default=0.01, show_default=True, help="Radius.")
@click.option("--top", type=int, default=10, show_default=True, help="Rows shown.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds.")
@click.option("--result", type=FILE, help="Write the result as JSON.")
@click.option("--report", type=FILE, help="Write the result as an HTML page.")
@console.json_option
def convex(
    table: Path,
    label: str,
    loss: str | None,
    drop: tuple[str, ...],
    one_hot: tuple[str, ...],
    ridge: float | None,
    folds: int,
    rule: str,
    rows: str | None,
    eps: float,
    top: int,
    seed: int,
    result: Path | None,
    report: Path | None,
) -> tuple:
    """Which rows of a table made a ridge or logistic model say what it says.

    TABLE is a .csv or .parquet file. Fits the model to machine precision, chooses the
    ridge by cross-validation, and lists the most influential training rows: for the
    loss of every row of --rows with intervals at radius --eps, proven ones and
    first-order ones (which are not certificates), and for the fit as a whole.
    """
    from natgeo import checks
    from natgeo.convex import study
    from natgeo.convex.table import labelled, read_table
    from natgeo.report import influence
    from natgeo.report.sections import document

    checks.count("--top", top)
    checks.nonnegative("--eps", eps)
    check_folders(result, report)
    data = labelled(read_table(table), label, drop=drop, one_hot=one_hot)
    found = study.study(
        data,
        study.row_numbers(rows, len(data.y)),
        study.Options(loss, ridge, folds, rule, eps, top, seed),
    )
    page = document(
        "convex",
        f"Influence on a {found.model.loss.name} model of {label}",
        summary=influence.summary(found),
        convex=influence.convex_section(found, label),
        provenance={"table": str(table), "label": label, "seed": str(seed)},
    )
    return finish(page, result, report)
