"""The command line: one verb for each public function, and nothing else.

Results go to standard output, progress and errors to standard error. Nothing heavy is
imported until a verb needs it, so `natgeo --help` is instant.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from natgeo import console
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
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_PATIENCE_S = 10.0  # work that takes longer is announced


def main() -> None:
    """Entry point of the `natgeo` command."""
    console.run(cli)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="natgeo")
def cli() -> None:
    """Certified robust data attribution.

    Which training examples made a model say what it says, and how far the training
    distribution may move before the answer can change. Add --debug to any command for a
    traceback.
    """


def _ridge_option(command: Callable) -> Callable:
    return click.option(
        "--ridge",
        type=float,
        help="Ridge >= 0 in squared feature units; default: mean eigenvalue / 1000. "
        "With 0 the certificates are exact.",
    )(command)


@cli.command()
@click.option("--out", type=_FOLDER, default=Path("demo"), show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@console.json_option
def demo(out: Path, seed: int) -> tuple:
    """Real digits, a Flax model, wrong labels: certify, scan, and write a report."""
    from natgeo import demo as example
    from natgeo.report import text

    document = example.run(seed, progress=True)
    record, page = example.write(document, out)
    return document, f"{text.render(document)}\n\nWrote {record} and {page}."


@cli.command()
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
    type=_FOLDER,
    help="Orbax checkpoint, in the place of the parameters that --model returned.",
)
@click.option("--out", required=True, type=_FOLDER, help="New folder for the store.")
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
    help="Examples per file; at most this many are lost when a run is stopped. "
    "Default: 8192, or as many as 64 MiB hold.",
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
    type=_FOLDER,
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


@cli.command()
@click.argument("train", type=_FOLDER)
@click.option(
    "--targets", required=True, type=_FOLDER, help="Store of target features."
)
@_ridge_option
@click.option(
    "--changed",
    type=_FOLDER,
    help="Store of the same training examples after a known change (an augmentation, "
    "a relabelling), to compare eps with.",
)
@click.option("--threat", type=click.Choice(["w2"]), default="w2", show_default=True)
@click.option("--eps", type=float, default=0.01, show_default=True, help="Radius.")
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
@click.option("--result", type=_FILE, help="Write the result as JSON.")
@click.option("--report", type=_FILE, help="Write the result as an HTML page.")
@click.option("--out", type=_FOLDER, help="Write a certificate for `natgeo check`.")
@console.json_option
def certify(
    train: Path,
    targets: Path,
    ridge: float | None,
    changed: Path | None,
    threat: str,
    eps: float,
    show: int,
    top: int,
    sample: int | None,
    seed: int,
    result: Path | None,
    report: Path | None,
    out: Path | None,
) -> tuple:
    """Certify the ranking of the training examples for every target."""
    from natgeo import checks
    from natgeo.certify.rankings import certify_rankings
    from natgeo.certify.threats import THREATS
    from natgeo.geometry import kernels
    from natgeo.geometry.natural import natural_geometry
    from natgeo.geometry.scores import scores
    from natgeo.proof.certificate import refuse_used
    from natgeo.proof.issue import issue_certificate
    from natgeo.report import sections
    from natgeo.store.disk import DiskStore

    against = THREATS[threat](eps)
    checks.count("--show", show, low=0)
    checks.count("--top", top)
    _check_folders(result, report, out)
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
    summary, says = _certified_summary(rankings, sample, seed)
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
        provenance={"train": str(train), "targets": str(targets), **_origin(store)},
    )
    values, words = _finish(document, result, report)
    if out is not None:
        shown = range(min(show, m))
        issued = issue_certificate(
            out, rankings, all_scores, shown, top=top, provenance=_origin(store)
        )
        words += f"\nWrote the certificate {out}: {issued.summary}."
    return values, words


@cli.command()
@click.argument("certificate", type=_FOLDER)
@click.option(
    "--features", required=True, type=_FOLDER, help="Your store of training features."
)
@click.option("--targets", type=_FOLDER, help="Your store of target features.")
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


@cli.command()
@click.argument("train", type=_FOLDER)
@click.option(
    "--targets", required=True, type=_FOLDER, help="Store of target features."
)
@click.option("--target", required=True, type=int, help="Index of a target.")
@click.option("--above", required=True, type=int, help="Example that scores higher.")
@click.option("--below", required=True, type=int, help="Example that scores lower.")
@click.option("--eps", type=float, help="Does the pair break inside this radius?")
@_ridge_option
@click.option("--out", type=_FOLDER, help="New store for the displaced features.")
@console.json_option
def attack(
    train: Path,
    targets: Path,
    target: int,
    above: int,
    below: int,
    eps: float | None,
    ridge: float | None,
    out: Path | None,
) -> tuple:
    """Try to break the order of a pair, and say how close that comes to its proof."""
    from natgeo import checks
    from natgeo.certify import challenge
    from natgeo.certify.rankings import certify_rankings
    from natgeo.certify.threats import Wasserstein2
    from natgeo.geometry.natural import natural_geometry
    from natgeo.store.disk import DiskStore

    if eps is not None:
        checks.nonnegative("--eps", eps)
    _check_folders(out)
    geometry = natural_geometry(DiskStore(train), ridge)
    rankings = certify_rankings(geometry, DiskStore(targets), Wasserstein2(eps or 0.0))
    found = rankings.refute(target=target, above=above, below=below)
    outcome = {**challenge.values(found, eps), "ridge": geometry.ridge}
    words = challenge.in_words(outcome)
    if out is not None:
        challenge.save(found, geometry, out)
        outcome["store"] = str(out)
        words += (
            f"\nWrote {out}: the displaced training features. The claim breaks for the "
            f"stored examples under their covariance, with ridge {geometry.ridge!r}."
        )
    return outcome, words


@cli.command()
@click.argument("store", type=_FOLDER)
@_ridge_option
@click.option(
    "--wrong",
    type=_FILE,
    help="Known wrong labels (.npy booleans), to judge detectors.",
)
@click.option("--top", type=int, default=20, show_default=True, help="Examples shown.")
@click.option("--result", type=_FILE, help="Write the result as JSON.")
@click.option("--report", type=_FILE, help="Write the result as an HTML page.")
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
    _check_folders(result, report)
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
        provenance={"store": str(store), **_origin(features)},
    )
    return _finish(document, result, report)


@cli.command()
@click.argument("result", type=_FILE)
@click.option("--out", type=_FILE, default=Path("report.html"), show_default=True)
@console.json_option
def report(result: Path, out: Path) -> tuple:
    """Draw the HTML page of a result that another verb wrote as JSON."""
    from natgeo.report.document import read_document
    from natgeo.report.page import write_report

    _check_folders(out)
    write_report(read_document(result), out)
    return {"report": str(out)}, f"Wrote {out}."


@cli.command()
@click.argument("stores", nargs=-1, type=_FOLDER)
@console.json_option
def doctor(stores: tuple[Path, ...]) -> tuple:
    """Test this machine's arithmetic and devices, and verify stores."""
    from natgeo.doctor import examine
    from natgeo.errors import StoreError, UnfitEnvironmentError

    found = examine(stores)
    lines = [
        f"{'ok  ' if passed else 'FAIL'}  {name}"
        for name, passed in found["arithmetic"].items()
    ]
    lines += [f"      device {device}" for device in found["devices"]]
    for store in found["stores"]:
        state = (
            f"ok    {store['path']}: {store['shape'][0]} x {store['shape'][1]} "
            f"{store['dtype']}, SHA-256 {store['sha256'][:12]}..."
            if store["intact"]
            else f"FAIL  {store['problem']}"
        )
        lines.append(state)
    code = 0
    if not all(found["arithmetic"].values()):
        code = UnfitEnvironmentError.exit_code
    elif not found["healthy"]:
        code = StoreError.exit_code
    return found, "\n".join(lines), code


def _scale(rankings: Any, changed: Any) -> dict[str, Any]:
    """Distances of the change that a store holds, and of bootstrap resamples."""
    from natgeo.certify import distances
    from natgeo.report import sections

    geometry = rankings.geometry
    found = distances.change(geometry, geometry.train, changed)
    again = distances.resample(geometry)
    return sections.scale_section(rankings, {"changed in this way": found}, again)


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


def _certified_summary(
    rankings: Any, sample: int | None, seed: int
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
        "label": f"Certified pairs at eps = {rankings.threat.eps:g}",
        "value": percent(fraction.mean()),
        "note": f"{of}, mean of {m} targets",
    }, says


def _origin(store: Any) -> dict[str, str]:
    """Where the features of a store came from, for the provenance of a result."""
    keep = ("task", "projector", "params")
    return {key: str(store.metadata[key]) for key in keep if key in store.metadata}


def _check_folders(*paths: Path | None) -> None:
    """Refuses results that could not be written, before they are computed."""
    for path in paths:
        if path is not None and not path.resolve().parent.is_dir():
            raise ArgumentError(f"{path}: its folder does not exist. Make it first.")


def _finish(document: dict[str, Any], record: Path | None, page: Path | None) -> tuple:
    from natgeo.report import text
    from natgeo.report.document import write_document
    from natgeo.report.page import write_report

    words = text.render(document)
    for path, write in ((record, write_document), (page, write_report)):
        if path is not None:
            write(document, path)
            words += f"\nWrote {path}."
    return document, words
