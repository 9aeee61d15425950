"""The command line: one verb for each public function, and nothing else.

Results go to standard output, progress and errors to standard error. Nothing heavy is
imported until a verb needs it, so `natgeo --help` is instant.
"""

from __future__ import annotations

import click

from natgeo import console
from natgeo.commands.attack import attack
from natgeo.commands.certify import certify, check
from natgeo.commands.convex import convex
from natgeo.commands.doctor import demo, doctor
from natgeo.commands.featurize import PROJECTORS, featurize
from natgeo.commands.scan import report, scan

__all__ = ["PROJECTORS", "cli", "main"]


def main() -> None:
    """Entry point of the `natgeo` command."""
    console.run(cli)


@click.group(
    commands=[demo, featurize, certify, check, attack, scan, convex, report, doctor],
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="natgeo")
def cli() -> None:
    """Certified robust data attribution.

    Which training examples made a model say what it says, and how far the training
    distribution may move before the answer can change. Add --debug to any command for a
    traceback.
    """
