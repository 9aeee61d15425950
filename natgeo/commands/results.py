"""What verbs do with their results: check where they go, write, put in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from natgeo.errors import ArgumentError, StoreError


def origin(store: Any) -> dict[str, str]:
    """Where the features of a store came from, for the provenance of a result."""
    keep = ("task", "projector", "params")
    return {key: str(store.metadata[key]) for key in keep if key in store.metadata}


def check_folders(*paths: Path | None) -> None:
    """Refuses results that could not be written, before they are computed."""
    for path in paths:
        if path is not None and not path.resolve().parent.is_dir():
            raise ArgumentError(f"{path}: its folder does not exist. Make it first.")


def refuse_used(*paths: Path) -> None:
    """Refuses new stores where something is already, before they are computed."""
    for path in paths:
        if path.exists() and any(path.iterdir()):
            raise StoreError(f"{path} is in use: name a new folder.")


def finish(document: dict[str, Any], record: Path | None, page: Path | None) -> tuple:
    """Writes a document where it was asked for; the document, and it in words."""
    from natgeo.report import text
    from natgeo.report.document import write_document
    from natgeo.report.page import write_report

    words = text.render(document)
    for path, write in ((record, write_document), (page, write_report)):
        if path is not None:
            write(document, path)
            words += f"\nWrote {path}."
    return document, words
