"""A folder of images, one sub-folder for each class, as arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from natgeo import checks
from natgeo.errors import ArgumentError, DataError, UnfitEnvironmentError
from natgeo.progress import Progress

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm"),
}
LARGEST = 32  # pixels of a side, unless asked otherwise
_STEP = 8
_GREY = {"1", "L", "LA"}
_DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}  # grey of more than 8 bits


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images of one size with the labels that their folders give them.

    Attributes:
        x: [N, S, S, channels], uint8; one channel if all are grey, else three.
        y: class numbers, [N], int32.
        classes: folder names, in order of the class numbers.
        names: path of each image below the folder, with forward slashes.
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]


def read_images(
    folder: str | os.PathLike,
    *,
    size: int | None = None,
    classes: Sequence[str] | None = None,
    progress: bool = False,
) -> ImageFolder:
    """Reads every image of every class folder, in the order of their paths.

    Args:
        folder: holds one folder for each class; hidden files and files that are no
            images by their names are left out.
        size: pixels of a side that all are resized to, a multiple of 8; default: that
            of the median image, 32 at most.
        classes: class names in their order, for a second folder of the same classes.
        progress: show a bar on standard error if it takes over a second.

    Raises:
        ArgumentError: if there is no such folder.
        DataError: for a folder without classes, with one class, or with an empty class,
            and for images that cannot be read; the message names them.
        UnfitEnvironmentError: if Pillow is not installed.
    """
    _require_pillow()
    root = Path(folder)
    if not root.is_dir():
        raise ArgumentError(f"{root} is not a folder of images.")
    if size is not None and checks.count("size", size, _STEP) % _STEP:
        raise ArgumentError(f"size={size} must be a multiple of {_STEP}.")
    found = class_files(root)
    order = list(found) if classes is None else list(classes)
    unknown = [name for name in found if name not in order]
    if unknown:
        raise DataError(
            f"{root / unknown[0]} is not one of the classes {', '.join(order[:10])}."
        )
    paths = [path for files in found.values() for path in files]
    y = [order.index(name) for name, files in found.items() for _ in files]
    if size is None:
        size = _common_size(paths)
    pictures, grey, refused = [], True, []
    with Progress("reading images", len(paths), visible=progress) as bar:
        for path in paths:
            bar.advance()
            try:
                picture, is_grey = _read(path, size)
            except DataError as error:
                refused.append((path.relative_to(root).as_posix(), str(error)))
                continue
            pictures.append(picture)
            grey &= is_grey
    if refused:
        more = ", ".join(name for name, _ in refused[1:9])
        rest = f" Nor can {len(refused) - 1} more: {more}." if more else ""
        raise DataError(refused[0][1] + rest)
    x = np.stack(pictures)
    names = [path.relative_to(root).as_posix() for path in paths]
    return ImageFolder(
        x[..., :1] if grey else x,
        np.array(y, np.int32),
        tuple(order),
        tuple(names),
    )


def class_files(root: Path) -> dict[str, list[Path]]:
    """The image files of each class folder, in order.

    Raises:
        DataError: for no class, one class, a class without images, or folders that are
            no classes but parts of a data set, such as train and test.
    """
    folders = sorted(
        path
        for path in root.iterdir()
        if path.is_dir() and path.name[0] != "." and path.name != "__MACOSX"
    )
    if not folders:
        raise DataError(
            f"{root} holds no folders: expected one sub-folder for each class, with "
            f"the images of that class in it."
        )
    found = {}
    for folder in folders:
        files = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and path.name[0] != "."
            and path.is_file()
        )
        if not files:
            raise DataError(
                f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}). Remove "
                f"the folder, or put the images of that class there."
            )
        found[folder.name] = files
    _refuse_parts(root, found)
    if len(found) == 1:
        raise DataError(
            f"{root} holds one class only, {folders[0].name}: a wrong label can only "
            f"be seen among several classes."
        )
    return found


def _refuse_parts(root: Path, found: dict[str, list[Path]]) -> None:
    """Raises if all folders have the same several folders and nothing beside them."""
    inner = {
        frozenset(path.relative_to(root / name).parts[:-1][:1] for path in files)
        for name, files in found.items()
    }
    names = next(iter(inner))
    if len(found) > 1 and len(inner) == 1 and len(names) > 1 and () not in names:
        classes = sorted(name for (name,) in names)
        raise DataError(
            f"{root} holds {', '.join(list(found)[:4])}, each with the folders "
            f"{', '.join(classes[:4])}: name one of them, such as "
            f"--images {root / next(iter(found))}."
        )


def _read(path: Path, size: int) -> tuple[np.ndarray, bool]:
    """One image as [S, S, 3] bytes, upright, and whether it is grey."""
    from PIL import ImageOps

    with _opened(path) as image:
        grey = image.mode in _GREY or image.mode in _DEEP
        upright = ImageOps.exif_transpose(image)
        resized = _coloured(upright).resize((size, size), resample=_box())
        return np.asarray(resized, np.uint8), grey


def _coloured(image: Any) -> Any:
    """In RGB of 8 bits: deep grey to its upper 8 bits, transparent parts on white."""
    from PIL import Image

    if image.mode in _DEEP:
        values = np.asarray(image, np.float64)
        largest = float(values.max())
        # The range of the format, as far as the values tell; else their own.
        top = next((top for top in (1, 255, 65535) if largest <= top), largest)
        top = 65535 if image.mode.startswith("I;16") else top
        image = Image.fromarray(np.uint8((values * (255 / top)).clip(0, 255)))
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _common_size(paths: Sequence[Path]) -> int:
    """A side that suits most images: that of the median one, up to `LARGEST`."""
    sides = []
    for path in paths[:: max(1, len(paths) // 200)]:
        try:
            with _opened(path) as image:
                sides.append(max(image.size))
        except DataError:
            continue  # reading them all names every one that cannot be read
    side = float(np.median(sides)) if sides else LARGEST
    return int(min(LARGEST, _STEP * max(1, -(-side // _STEP))))


class _opened:
    """Opens an image and turns whatever goes wrong into one error that names it."""

    def __init__(self, path: Path):
        self._path = path
        self._image: Any = None

    def __enter__(self) -> Any:
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                self._image = Image.open(self._path)
                self._image.load()
        except (
            *(OSError, ValueError, SyntaxError, Warning, MemoryError),
            Image.DecompressionBombError,
        ) as error:
            self.__exit__()
            raise self._refusal(error) from None
        return self._image

    def __exit__(self, *exception: object) -> None:
        if self._image is not None:
            self._image.close()

    def _refusal(self, error: BaseException) -> DataError:
        reason = str(error).partition("\n")[0][:200]
        return DataError(
            f"{self._path} cannot be read as an image: {reason}. Remove or repair it."
        )


def _box() -> Any:
    from PIL import Image

    return Image.Resampling.BOX


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError:
        raise UnfitEnvironmentError(
            "Reading images needs Pillow. Install natgeo[images]."
        ) from None
