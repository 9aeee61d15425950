"""Image data sets from files that are already here: no download, no hub.

Fashion-MNIST: the Debian package `dataset-fashion-mnist`, or any folder with its four
idx files. CIFAR-10: one `.npz` of JPEG bytes with the keys `{train,test}_{jpeg,off,y}`.
What is missing or damaged is named in one sentence.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from natgeo.errors import DataError, UnfitEnvironmentError

ROOT = Path(__file__).parent.parent
FASHION = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package puts it
CIFAR = ROOT.parent / "shared" / "data" / "cifar10_jpeg.npz"
# What stands beside every figure that was made from this file.
CIFAR_NOTE = "JPEG quality 75, not bit-exact"
CLASSES = 10


@dataclass(frozen=True, eq=False)
class Images:
    """Images in [0, 1], [N, H, W, C] float32, and labels [N] int32."""

    name: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    note: str = ""

    def head(self, train: int, test: int) -> Images:
        """The first examples of both parts."""
        return Images(
            self.name,
            self.x[:train],
            self.y[:train],
            self.x_test[:test],
            self.y_test[:test],
            self.note,
        )


def fashion_mnist(folder: Path = FASHION) -> Images:
    """Fashion-MNIST: 60,000 and 10,000 images of 28 x 28 in 10 classes.

    Args:
        folder: holds `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, plain or `.gz`.

    Raises:
        UnfitEnvironmentError: naming the file that is not there.
        DataError: if a file is not what its name says.
    """
    parts = []
    for part in ("train", "t10k"):
        images = _idx(folder, f"{part}-images-idx3-ubyte", 3)
        labels = _idx(folder, f"{part}-labels-idx1-ubyte", 1)
        _check_labels(folder, labels, len(images))
        parts += [images[..., None] / np.float32(255), labels.astype(np.int32)]
    return Images("Fashion-MNIST", *parts)


def cifar10(file: Path = CIFAR, *, train: int = 50_000, test: int = 10_000) -> Images:
    """CIFAR-10 from JPEG bytes: images of 32 x 32 x 3 in 10 classes, not bit-exact.

    Args:
        file: keys `{train,test}_{jpeg,off,y}`: bytes of all images, offsets, labels.
        train: how many training images to decode, from the first.
        test: how many test images.

    Raises:
        UnfitEnvironmentError: naming the file that is not there.
        DataError: if it does not hold what is expected.
    """
    if not file.is_file():
        raise UnfitEnvironmentError(
            f"CIFAR-10 was expected in {file}, which is not there: an .npz with the "
            f"keys train_jpeg, train_off, train_y and the same for test. Name your own "
            f"copy with --cifar FILE."
        )
    parts = []
    with np.load(file, allow_pickle=False) as held:
        for part, most in (("train", train), ("test", test)):
            names = [f"{part}_{key}" for key in ("jpeg", "off", "y")]
            if missing := [name for name in names if name not in held]:
                raise DataError(f"{file} has no array {missing[0]!r}: not a CIFAR-10.")
            data, offsets, labels = (held[name] for name in names)
            _check_labels(file, labels, len(offsets) - 1)
            whole = data.tobytes()
            images = [
                _decode(whole[offsets[i] : offsets[i + 1]], f"{file}, {part} image {i}")
                for i in range(min(most, len(labels)))
            ]
            parts += [
                np.stack(images) / np.float32(255),
                labels[: len(images)].astype(np.int32),
            ]
    return Images("CIFAR-10", *parts, note=CIFAR_NOTE)


def synthetic(train: int, test: int, *, seed: int = 0) -> Images:
    """Small made-up images, 8 x 8: a pattern for each class, and noise."""
    rng = np.random.default_rng(seed)
    patterns = rng.uniform(0, 1, (CLASSES, 8, 8, 1))
    parts = []
    for count in (train, test):
        y = rng.integers(0, CLASSES, count, dtype=np.int32)
        noise = rng.uniform(0, 1, (count, 8, 8, 1))
        parts += [((patterns[y] + noise) / 2).astype(np.float32), y]
    return Images("made up", *parts)


def shifted(x: np.ndarray) -> np.ndarray:
    """The same images one pixel to the right; the left edge is repeated."""
    return np.concatenate([x[:, :, :1], x[:, :, :-1]], axis=2)


def _idx(folder: Path, name: str, rank: int) -> np.ndarray:
    """One idx file of unsigned bytes: magic number, sizes, then the bytes."""
    found = [p for p in (folder / name, folder / f"{name}.gz") if p.is_file()]
    if not found:
        raise UnfitEnvironmentError(
            f"Fashion-MNIST was expected in {folder}, where {name}[.gz] is not there. "
            f"Install the Debian package dataset-fashion-mnist, or name a folder with "
            f"the four idx files with --fashion FOLDER."
        )
    data = found[0].read_bytes()
    try:
        data = gzip.decompress(data) if found[0].suffix == ".gz" else data
    except (OSError, EOFError) as error:
        raise DataError(f"{found[0]} is not a readable gzip file: {error}.") from None
    shape = tuple(np.frombuffer(data[4 : 4 + 4 * rank], ">u4").tolist())
    wanted = bytes([0, 0, 8, rank])
    if data[:4] != wanted or len(data) != 4 + 4 * rank + np.prod(shape, dtype=object):
        raise DataError(f"{found[0]} is not an idx file of {rank} axes of bytes.")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _check_labels(where: Path, labels: np.ndarray, images: int) -> None:
    if labels.shape != (images,) or labels.dtype != np.uint8 or (labels > 9).any():
        raise DataError(
            f"{where}: expected one label from 0 to 9 for each of {images} images, "
            f"found shape {labels.shape} of {labels.dtype}."
        )


def _decode(data: bytes, where: str) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        image = np.asarray(Image.open(io.BytesIO(data)))
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{where} is not a readable JPEG: {error}.") from None
    if image.shape != (32, 32, 3):
        raise DataError(f"{where} has shape {image.shape}: expected (32, 32, 3).")
    return image
