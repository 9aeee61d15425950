"""The verbs that try things out: `demo`, and `doctor` for this machine."""

from __future__ import annotations

from pathlib import Path

import click

from natgeo import console
from natgeo.commands.options import FOLDER


@click.command()
@click.option("--out", type=FOLDER, default=Path("demo"), show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@console.json_option
def demo(out: Path, seed: int) -> tuple:
    """Real digits, a Flax model, wrong labels: certify, scan, and write a report."""
    from natgeo import demo as example
    from natgeo import demo_page
    from natgeo.report import text

    document = demo_page.document(example.study(seed, progress=True))
    record, page, queue = demo_page.write(document, out)
    words = f"Wrote {record}, {page} and {queue}, where the labels can be reviewed."
    return document, f"{text.render(document)}\n\n{words}"


@click.command()
@click.argument("stores", nargs=-1, type=FOLDER)
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
