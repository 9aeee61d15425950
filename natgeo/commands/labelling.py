"""What `natgeo scan` does: from a source to a document, from decisions to labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from natgeo import loading
from natgeo.errors import ArgumentError
from natgeo.labels.decisions import fingerprint, read_decisions
from natgeo.labels.scan import LabelScan, scan_labels
from natgeo.report import review, sections

_HELD_OUT = 5  # one in so many, where no test set is named


@dataclass(frozen=True)
class Source:
    """Where labelled data come from: exactly one of images, table and labels."""

    images: Path | None
    table: Path | None
    label: str | None
    ignore: tuple[str, ...]
    labels: Path | None
    size: int | None


@dataclass(frozen=True)
class Asked:
    """What a scan is asked for."""

    eps: float
    top: int
    queue: int | None
    wrong: Path | None
    ridge: float | None
    epochs: int | None
    seed: int


@dataclass(frozen=True, eq=False)
class Data:
    """Inputs and labels of a source, and how an example is shown."""

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...] | None
    words: Callable[[int], str | None]
    picture: Callable[[int], str | None]
    described: str
    read: Any
    left_out: str = ""


def scanned(source: Source, asked: Asked) -> dict[str, Any]:
    """Trains the built-in model, scans, and makes the document."""
    data = read(source, progress=True)
    flags = None if asked.wrong is None else loading.flags(asked.wrong, len(data.y))
    found = scan(data, asked)
    model = "residual network" if data.x.ndim == 4 else "perceptron"
    return review_document(
        found,
        asked,
        {
            "data": data.described,
            **({"left out": data.left_out} if data.left_out else {}),
            "model": f"built-in {model}, seed {asked.seed}",
            **found.choices,
        },
        classes=data.classes,
        names=data.names,
        words=data.words,
        picture=data.picture,
        flags=flags,
    )


def scan(data: Data, asked: Asked) -> LabelScan:
    """Trains the built-in model, and scans."""
    from natgeo.labels import builtin

    trained = builtin.train(
        data.x,
        data.y,
        len(data.classes),
        epochs=asked.epochs,
        seed=asked.seed,
        progress=True,
    )
    return scan_labels(
        trained.apply,
        trained.checkpoints[-1],
        (data.x, data.y),
        checkpoints=trained.checkpoints[:-1],
        opinions=_opinions(data, asked),
        ridge=asked.ridge,
        batch_size=builtin.FEATURE_BATCH,
        seed=asked.seed,
        progress=True,
    )


def _opinions(data: Data, asked: Asked) -> dict[str, np.ndarray] | None:
    """Of rows of a table, by models that were not trained on them; of images none."""
    if data.x.ndim == 4:
        return None
    from natgeo.labels.opinions import table_opinions

    return table_opinions(
        data.x,
        data.y,
        len(data.classes),
        epochs=asked.epochs,
        seed=asked.seed,
        progress=True,
    )


def review_document(
    found: LabelScan,
    asked: Asked,
    provenance: dict[str, str],
    *,
    classes: Sequence[str],
    names: Sequence[str] | None,
    words: Callable[[int], str | None] = lambda index: None,
    picture: Callable[[int], str | None] = lambda index: None,
    flags: np.ndarray | None = None,
) -> dict[str, Any]:
    """A document with a review queue."""
    if flags is None and asked.wrong is not None:
        flags = loading.flags(asked.wrong, found.geometry.train.shape[0])
    section = review.review_section(
        found,
        fingerprint=fingerprint(found.labels, names),
        classes=classes,
        top=max(asked.queue or _queued(len(found.scores[found.detector])), asked.top),
        eps=asked.eps,
        name=lambda index: None if names is None else names[index],
        words=words,
        picture=picture,
        wrong=flags,
    )
    return sections.document(
        "scan",
        "Which labels look wrong",
        summary=review.summary(section),
        guarantee=review.guarantee_in_words(found, asked.eps),
        scan=sections.scan_section(
            found,
            top=asked.top,
            flipped=flags,
            label=lambda i: _named(found, classes, names, i),
            suggested=_suggestions(found, classes),
        ),
        review=section,
        provenance=provenance,
    )


def _queued(size: int) -> int:
    """How many examples a person is asked to look at, unless they say."""
    return min(max(size // 5, 50), 500)


def plain_document(
    found: LabelScan, asked: Asked, provenance: dict[str, str]
) -> dict[str, Any]:
    """A document without a review: the labels are not known."""
    size = found.geometry.train.shape[0]
    flags = None if asked.wrong is None else loading.flags(asked.wrong, size)
    return sections.document(
        "scan",
        "Label-noise scan",
        summary=[
            {
                "label": "Examples scanned",
                "value": f"{size:,}",
                "note": f"by {found.detector}; with --labels they can be reviewed",
            }
        ],
        scan=sections.scan_section(found, top=asked.top, flipped=flags),
        provenance=provenance,
    )


def apply(
    decisions: Path,
    out: Path | None,
    source: Source,
    *,
    test: Path | None,
    compare: bool,
    epochs: int | None,
    seed: int,
) -> tuple[dict[str, Any], str]:
    """Writes the cleaned labels, and says what cleaning bought if that was asked."""
    given = (source.images, source.table, source.labels)
    if sum(value is not None for value in given) != 1:
        raise ArgumentError(
            "--apply needs what was scanned: one of --labels FILE, --images FOLDER and "
            "--table FILE --label COLUMN."
        )
    if out is None:
        raise ArgumentError("--apply needs --out, a file for the cleaned labels.")
    if compare and source.labels is not None:
        raise ArgumentError(
            "--compare trains a built-in model, which needs --images or --table. For a "
            "model of yours: natgeo.labels.cleaning.compare_cleaning."
        )
    made = read_decisions(decisions)
    if source.labels is not None:
        from natgeo.labels.files import read_labels, write_labels

        known = read_labels(source.labels)
        cleaned = made.apply(known.y, known.names)
        _check_classes(cleaned, known.classes)
        write_labels(out, cleaned, known.classes, known.names)
        before = known.y
    else:
        data = read(source, progress=compare)
        before, cleaned = data.y, made.apply(data.y, data.names)
        _check_classes(cleaned, data.classes)
        _write(out, data, cleaned)
    counts = {
        kind: sum(row.kind == kind for row in made.rows)
        for kind in ("accept", "relabel", "skip")
    }
    values: dict[str, Any] = {
        "out": str(out),
        "examples": len(before),
        "changed": int((before != cleaned).sum()),
        **counts,
    }
    words = (
        f"Changed {values['changed']} of {len(before):,} labels "
        f"({counts['accept']} kept, {counts['skip']} skipped).\nWrote {out}."
    )
    if compare:
        found, how = _compared(source, data, cleaned, test, epochs, seed)
        values["comparison"] = {
            arm: accuracy.tolist() for arm, accuracy in found.accuracy.items()
        }
        words += f"\n{found.describe()}\n{how}"
    return values, words


def read(source: Source, *, progress: bool) -> Data:
    """The data of a source with a model: images or a table."""
    if source.images is not None:
        return _images(source.images, source.size, None, progress)
    assert source.table is not None
    assert source.label is not None
    return _table(source.table, source.label, source.ignore, None)


def _images(folder: Path, size: int | None, like: Data | None, progress: bool) -> Data:
    from natgeo.labels.images import read_images
    from natgeo.report.thumbnails import png_data_uri

    found = read_images(
        folder,
        size=size if like is None else like.x.shape[1],
        classes=None if like is None else like.classes,
        progress=progress,
    )

    def picture(index: int) -> str:
        image = found.x[index]
        return png_data_uri(image[..., 0] if image.shape[2] == 1 else image)

    n, side, _, channels = found.x.shape
    kind = "grey" if channels == 1 else "coloured"
    return Data(
        found.x,
        found.y,
        found.classes,
        found.names,
        lambda index: None,
        picture,
        f"{n:,} {kind} images of {folder}, as {side} x {side} pixels",
        found,
    )


def _table(file: Path, label: str, ignore: tuple[str, ...], like: Data | None) -> Data:
    from natgeo.labels.tables import read_table

    found = read_table(
        file, label, ignore=ignore, like=None if like is None else like.read
    )
    return Data(
        found.x,
        found.y,
        found.classes,
        tuple(f"line {line}" for line in found.lines),
        found.words,
        lambda index: None,
        f"{len(found.y):,} rows of {file}, {found.x.shape[1]} inputs, label {label}",
        found,
        _left_out(found.left_out),
    )


def _left_out(columns: dict[str, str], most: int = 5) -> str:
    """Columns that the table's reader left out, with the reasons, in words."""
    shown = [f"{name!r} {why}" for name, why in list(columns.items())[:most]]
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    return f"{', '.join(shown)}{more}"


def _write(out: Path, data: Data, cleaned: np.ndarray) -> None:
    from natgeo.labels.files import write_labels
    from natgeo.store.manifest import write_atomically

    if hasattr(data.read, "with_labels"):
        write_atomically(out, data.read.with_labels(cleaned))
    else:
        write_labels(out, cleaned, data.classes, data.names)


def _compared(
    source: Source,
    data: Data,
    cleaned: np.ndarray,
    test: Path | None,
    epochs: int | None,
    seed: int,
) -> tuple[Any, str]:
    """Retrains; on a test set, or on a fifth that is held out with cleaned labels."""
    from natgeo.labels import builtin
    from natgeo.labels.cleaning import compare_cleaning

    train = builtin.trainer(len(data.classes), epochs)
    seeds = (seed, seed + 1, seed + 2)
    if test is not None:
        other = (
            _images(test, None, data, False)
            if source.images is not None
            else _table(test, str(source.label), source.ignore, data)
        )
        found = compare_cleaning(
            train, data.x, data.y, cleaned, other.x, other.y, seeds=seeds
        )
        return found, f"Judged on the {len(other.y):,} examples of {test}."
    order = np.random.default_rng(seed).permutation(len(data.y))
    held, kept = np.split(order, [len(order) // _HELD_OUT])
    found = compare_cleaning(
        train,
        data.x[kept],
        data.y[kept],
        cleaned[kept],
        data.x[held],
        cleaned[held],
        seeds=seeds,
    )
    return found, (
        f"Judged on {len(held):,} examples that were held out, by their cleaned "
        f"labels; those that nobody reviewed may be wrong. Better: --test."
    )


def _check_classes(cleaned: np.ndarray, classes: Sequence[str]) -> None:
    if len(cleaned) and cleaned.max() >= len(classes):
        raise ArgumentError(
            f"The decisions name class {int(cleaned.max())}, the labels have only "
            f"{len(classes)} classes."
        )


def _named(
    found: LabelScan, classes: Sequence[str], names: Sequence[str] | None, index: int
) -> str:
    assert found.labels is not None
    word = classes[int(found.labels[index])]
    return word if names is None else f"{word} ({names[index]})"


def _suggestions(found: LabelScan, classes: Sequence[str]) -> list[str] | None:
    if found.suggestion is None:
        return None
    return [classes[int(number)] for number in found.suggestion.labels]
