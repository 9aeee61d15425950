"""Tables for convex models, from packages that are already here: no download, no hub.

breast_cancer, diabetes and digits come with scikit-learn. spam is in the Debian package
r-cran-kernlab; Satellite, DNA, Shuttle and Letter are in r-cran-mlbench. R itself is
not needed: the packages may be unpacked into any folder (`--tables FOLDER`, or the
environment variable NATGEO_TABLES), and the files are read with the Python package
rdata. What is missing or damaged is named in one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.errors import ArgumentError, DataError, UnfitEnvironmentError

DEBIAN = "/usr/lib/R/site-library"  # where the Debian packages put it
LIBRARY = Path(os.environ.get("NATGEO_TABLES", DEBIAN))


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of numbers with one label each.

    Attributes:
        name: of the data set.
        x: columns, [N, p] float64.
        y: classes [N] int32, or real labels [N] float64.
        columns: names of the columns, p of them.
        classes: names of the classes; empty if the label is a real number.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def split(self, test: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Shuffled row numbers of a training part and of a test part of `test` rows."""
        order = np.random.default_rng(seed).permutation(len(self.y))
        return order[test:], order[:test]


def breast_cancer() -> Table:
    """569 x 30, two classes; comes with scikit-learn."""
    return from_sklearn("breast_cancer")


def diabetes() -> Table:
    """442 x 10 with a real label; comes with scikit-learn."""
    return from_sklearn("diabetes", scaled=False)


def digits() -> Table:
    """1,797 x 64, ten classes; comes with scikit-learn."""
    return from_sklearn("digits")


def spam(library: Path = LIBRARY) -> Table:
    """4,601 x 57, spam or not; the Debian package r-cran-kernlab.

    Args:
        library: the folder of R packages, a folder into which the Debian package was
            unpacked, or the file `spam.rda` itself. So for every table below.

    Raises:
        UnfitEnvironmentError: naming the file, or the package, that is not there.
        DataError: if the file is not what its name says.
    """
    return _from_r("spam", library, "kernlab", "spam", "type", (4601, 57))


def satellite(library: Path = LIBRARY) -> Table:
    """6,435 x 36, six kinds of soil; the Debian package r-cran-mlbench."""
    return _from_r("Satellite", library, "mlbench", "Satellite", "classes", (6435, 36))


def dna(library: Path = LIBRARY) -> Table:
    """3,186 x 180 bits, three classes; the Debian package r-cran-mlbench."""
    return _from_r("DNA", library, "mlbench", "DNA", "Class", (3186, 180))


def shuttle(library: Path = LIBRARY) -> Table:
    """58,000 x 9, seven classes; the Debian package r-cran-mlbench."""
    return _from_r("Shuttle", library, "mlbench", "Shuttle", "Class", (58000, 9))


def letter(library: Path = LIBRARY) -> Table:
    """20,000 x 16, 26 letters; the Debian package r-cran-mlbench."""
    name = "LetterRecognition"
    return _from_r("Letter", library, "mlbench", name, "lettr", (20000, 16))


FROM_SKLEARN: dict[str, Callable[[], Table]] = {
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
    "digits": digits,
}
FROM_R: dict[str, Callable[[Path], Table]] = {
    "spam": spam,
    "Satellite": satellite,
    "DNA": dna,
    "Shuttle": shuttle,
    "Letter": letter,
}


def load(name: str, library: Path = LIBRARY) -> Table:
    """A table by its name.

    Raises:
        ArgumentError: if there is none of that name.
    """
    if name in FROM_SKLEARN:
        return FROM_SKLEARN[name]()
    if name in FROM_R:
        return FROM_R[name](library)
    known = ", ".join([*FROM_SKLEARN, *FROM_R])
    raise ArgumentError(f"There is no table {name!r}; there are {known}.")


def from_sklearn(name: str, **options: Any) -> Table:
    try:
        from sklearn import datasets
    except ModuleNotFoundError:
        raise UnfitEnvironmentError(
            f"{name} comes with scikit-learn, which is not installed. Install "
            f"natgeo[demo]."
        ) from None
    bunch = getattr(datasets, f"load_{name}")(**options)
    classes = tuple(str(each) for each in getattr(bunch, "target_names", ()))
    return Table(
        name,
        np.asarray(bunch.data, np.float64),
        np.asarray(bunch.target, np.int32 if classes else np.float64),
        tuple(str(each) for each in bunch.feature_names),
        classes,
    )


def _from_r(
    name: str,
    library: Path,
    package: str,
    stem: str,
    label: str,
    shape: tuple[int, int],
) -> Table:
    file = r_file(name, Path(library), package, stem)
    frame = read_r(file).get(stem)
    if frame is None or label not in getattr(frame, "columns", ()):
        raise DataError(f"{file} holds no table {stem!r} with a column {label!r}.")
    rest = frame.drop(columns=label)
    if rest.shape != shape:
        raise DataError(
            f"{file}: expected {shape[0]:,} rows and {shape[1]} columns beside "
            f"{label!r}, found {rest.shape[0]:,} and {rest.shape[1]}."
        )
    # DNA's bits are factors, whose values are the strings "0" and "1".
    x = np.stack([np.asarray(rest[each], np.float64) for each in rest], axis=1)
    codes = np.asarray(frame[label].cat.codes, np.int32)
    if not np.isfinite(x).all() or (codes < 0).any():
        raise DataError(f"{file} has missing values: expected none.")
    classes = tuple(str(each) for each in frame[label].cat.categories)
    return Table(name, x, codes, tuple(str(each) for each in rest), classes)


def r_file(name: str, library: Path, package: str, stem: str) -> Path:
    inside = Path(package) / "data" / f"{stem}.rda"
    places = (library / inside, library / DEBIAN[1:] / inside)
    if library.is_file():
        return library
    for file in places:
        if file.is_file():
            return file
    raise UnfitEnvironmentError(
        f"{name} was expected in {places[0]}, which is not there. Install the Debian "
        f"package r-cran-{package}, or unpack it into a folder ('apt-get download "
        f"r-cran-{package}', then 'dpkg -x') and name that with --tables FOLDER."
    )


def read_r(file: Path) -> dict[str, Any]:
    try:
        import rdata
    except ModuleNotFoundError:
        raise UnfitEnvironmentError(
            f"{file} is read with the package rdata, which is not installed. Install "
            f"natgeo[tables]."
        ) from None
    try:
        return rdata.read_rda(file, default_encoding="ascii")
    except Exception as error:  # its parser raises whatever the bytes lead it to
        raise DataError(f"{file} is not a readable .rda file: {error!r}.") from None
