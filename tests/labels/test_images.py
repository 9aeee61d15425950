"""Folders of images: what is read, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from natgeo.errors import ArgumentError, DataError
from natgeo.labels.images import read_images


@pytest.fixture
def folder(tmp_path, rng):
    """Two classes of three grey 8 x 8 images each."""
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_images_in_the_order_of_their_paths(folder):
    (folder / "a" / "notes.txt").write_text("no image")
    (folder / "a" / ".hidden.png").write_text("no image")
    (folder / ".git").mkdir()
    found = read_images(folder)
    assert found.names == tuple(f"{c}/{i}.png" for c in "ab" for i in range(3))
    assert found.classes == ("a", "b")
    assert found.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.x.shape == (6, 8, 8, 1)
    with Image.open(folder / "b" / "1.png") as image:
        np.testing.assert_array_equal(found.x[4, ..., 0], np.asarray(image))


def test_one_coloured_image_makes_all_coloured_and_sizes_are_one(folder, rng):
    pixels = rng.integers(0, 256, (50, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "b" / "9.jpg")
    found = read_images(folder, size=16)
    assert found.x.shape == (7, 16, 16, 3)
    assert found.x.dtype == np.uint8
    for number in range(3):
        Image.fromarray(pixels).resize((300, 200)).save(folder / f"a/x{number}.png")
        Image.fromarray(pixels).resize((300, 200)).save(folder / f"b/x{number}.png")
    assert read_images(folder).x.shape[1:3] == (32, 32)  # large ones are made small


def test_a_second_folder_of_the_same_classes(folder, tmp_path):
    first = read_images(folder)
    again = read_images(folder, classes=["c", "b", "a"])
    assert again.classes == ("c", "b", "a")
    np.testing.assert_array_equal(again.y, 2 - first.y)
    with pytest.raises(DataError, match="b is not one of the classes a, c"):
        read_images(folder, classes=["a", "c"])


def test_what_cannot_be_read_is_named(folder, tmp_path):
    with pytest.raises(ArgumentError, match="not a folder of images"):
        read_images(folder / "none")
    with pytest.raises(ArgumentError, match="multiple of 8"):
        read_images(folder, size=20)
    with pytest.raises(DataError, match="holds no folders"):
        read_images(folder / "a")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no images"):
        read_images(folder)
    (folder / "empty").rmdir()
    (folder / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(DataError, match=r"broken.png cannot be read as an image"):
        read_images(folder)
    (folder / "a" / "broken.png").unlink()
    whole = (folder / "a" / "0.png").read_bytes()
    (folder / "a" / "0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"0.png cannot be read as an image"):
        read_images(folder)


def test_one_class_only(folder):
    for file in (folder / "b").iterdir():
        file.unlink()
    (folder / "b").rmdir()
    with pytest.raises(DataError, match="one class only, a"):
        read_images(folder)


def test_a_bomb_is_refused(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(DataError, match="cannot be read"):
        read_images(folder, size=8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(DataError, match="cannot be read"):
        read_images(folder, size=8)
