"""The verb `featurize`: a model and its data become a store of features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from natgeo import console
from natgeo.commands.options import FOLDER
from natgeo.errors import ArgumentError

# By name, because importing the projectors imports JAX; a test compares the two lists.
PROJECTORS = (
    "countsketch",
    "sparse",
    "rademacher",
    "gaussian",
    "kronecker",
    "identity",
)


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="PKG.MOD:FN",
    help="Function that returns (apply, params); with --output function, (f, params).",
)
@click.option(
    "--data",
    required=True,
    metavar="PKG.MOD:FN",
    help="Function that returns (x, y) arrays or an iterable of batches.",
)
@click.option(
    "--checkpoint",
    type=FOLDER,
    help="Orbax checkpoint, in the place of the parameters that --model returned.",
)
@click.option("--out", required=True, type=FOLDER, help="New folder for the store.")
@click.option(
    "--output",
    type=click.Choice(["margin", "loss", "regression", "function"]),
    default="margin",
    show_default=True,
    help="What is attributed: margin for attribution, loss for label noise.",
)
@click.option(
    "--projector",
    type=click.Choice(PROJECTORS),
    default="countsketch",
    show_default=True,
)
@click.option(
    "--only", metavar="REGEX", help="Gradients in the parameters of these paths alone."
)
@click.option("--dim", type=int, default=512, show_default=True, help="Width K.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the projector."
)
@click.option("--batch-size", type=int, help="Examples a step; default: by its memory.")
@click.option(
    "--shard-rows",
    type=int,
    help="Examples per file, rounded up to whole steps; at most a file is lost when a "
    "run is stopped. Default: 8192, or as many as 64 MiB hold.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an unfinished store, as the run that began it.",
)
@click.option(
    "--share",
    metavar="P/N",
    help="Write part P, from 0, of the N parts of the store, alone.",
)
@click.option(
    "--distributed",
    is_flag=True,
    help="One of several processes that a cluster started: each writes its part.",
)
@click.option(
    "--coordinator", metavar="HOST:PORT", help="Of process 0, if no cluster says it."
)
@click.option("--processes", type=int, help="How many there are, likewise.")
@click.option("--process", type=int, help="Which one this is, from 0, likewise.")
@click.option(
    "--cache",
    type=FOLDER,
    help="Keep compiled programs in this private folder for the next run.",
)
@console.json_option
def featurize(
    model: str,
    data: str,
    checkpoint: Path | None,
    out: Path,
    output: str,
    projector: str,
    only: str | None,
    dim: int,
    seed: int,
    batch_size: int | None,
    shard_rows: int | None,
    resume: bool,
    share: str | None,
    distributed: bool,
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    cache: Path | None,
) -> tuple:
    """Write the projected per-example gradients of a model to a store."""
    from natgeo import loading
    from natgeo.features import projectors, tasks
    from natgeo.features.featurize import featurize as run

    named = None if share is None else loading.share("--share", share)
    joined = _join(distributed, (coordinator, processes, process), named)
    if cache is not None:
        from natgeo.features.compilation import keep_compiled

        keep_compiled(cache, out)
    function, params = loading.model("--model", model)
    if checkpoint is not None:
        params = loading.checkpoint(checkpoint, like=params)
    task = {
        "margin": lambda: tasks.classification(function),
        "loss": lambda: tasks.classification(function, output="loss"),
        "regression": lambda: tasks.regression(function),
        "function": lambda: tasks.Task(name=model, output=function),
    }[output]()
    if only is not None:
        task = tasks.restricted(task, only)
    options = {} if projector == "identity" else {"dim": dim, "seed": seed}
    try:
        store = run(
            task,
            params,
            loading.call_named("--data", data),
            projectors.PROJECTORS[projector](**options),
            store=out,
            resume=resume,
            shard_rows=shard_rows,
            batch_size=batch_size,
            share=None if joined is None else (joined.index, joined.of),
            progress=True,
        )
        if joined is not None and named is None:
            store = _whole(out, joined)
    except KeyboardInterrupt:
        part = out if joined is None else joined.folder(out)
        console.fail(f"interrupted; {_what_is_safe(part)}", console.INTERRUPTED)
    n, k = store.shape
    if joined is not None and named is None and joined.index:
        return None, ""  # process 0 speaks for all
    values = {"store": str(out), "N": n, "K": k, "sha256": store.digest()}
    return values, f"Wrote {n} features of dimension {k} to {out}."


def _join(distributed: bool, how: tuple, named: tuple[int, int] | None) -> Any:
    """The share of this process, after it has joined the others; None if it is alone.

    Raises:
        ArgumentError: if the options contradict each other.
    """
    from natgeo.store.parts import Share

    together = distributed or any(value is not None for value in how)
    if together and named is not None:
        raise ArgumentError(
            "--share writes a part alone: leave out --distributed, --coordinator, "
            "--processes and --process."
        )
    if named is not None:
        return Share(*named)
    if not together:
        return None
    from natgeo.features import processes

    share = processes.number(*how)
    console.handle_signals()  # joining replaces the one for SIGTERM
    return share if share.of > 1 else None


def _whole(out: Path, share: Any) -> Any:
    from natgeo.store import parts
    from natgeo.store.disk import DiskStore

    parts.wait(out, share, visible=True)
    return DiskStore(out)


def _what_is_safe(out: Path) -> str:
    """What an interrupted run has left, and how to go on, in words."""
    from natgeo.errors import StoreError
    from natgeo.store.manifest import read_manifest

    try:
        manifest = read_manifest(out)
    except StoreError:
        return f"nothing was stored in {out} yet; run the same command again"
    if manifest.complete:
        return f"{out} was complete: its {manifest.rows} examples are safe"
    return (
        f"{manifest.rows} examples are safe in {out}; run the same command with "
        f"--resume to go on"
    )
