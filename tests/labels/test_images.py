"""Folders of images: what is read, and what is refused by name."""

from __future__ import annotations

import shutil

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


def test_all_that_cannot_be_read_are_named_at_once(folder):
    for name in ("a/0.png", "b/1.png", "b/2.png"):
        (folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"0.png cannot.*Nor can 2 more: b/1.png, b/2."):
        read_images(folder)


def test_parts_of_a_data_set_are_no_classes(folder, tmp_path):
    for part in ("test", "train"):
        for name in ("a", "b"):
            place = folder / part / name
            place.mkdir(parents=True)
            (place / "x.png").write_bytes((folder / name / "0.png").read_bytes())
    assert read_images(folder).classes == ("a", "b", "test", "train")
    for name in ("a", "b"):
        shutil.rmtree(folder / name)
    (folder / "__MACOSX").mkdir()
    with pytest.raises(DataError, match=r"holds test, train, each with .* a, b: name"):
        read_images(folder)
    assert read_images(folder / "test").classes == ("a", "b")


def test_deep_grey_transparent_and_turned_images(folder):
    steps = np.arange(64).reshape(8, 8)
    for name in ("a/0", "a/1", "a/2", "b/0", "b/1", "b/2"):
        Image.fromarray(np.uint16(steps * 1000)).save(folder / f"{name}.png")
    Image.fromarray(np.float32(steps / 63)).save(folder / "a/float.TIF")
    found = read_images(folder)
    assert found.x.shape == (7, 8, 8, 1)
    assert np.abs(found.x[0, ..., 0] - steps * 1000 / 257).max() < 1
    assert np.abs(found.x[3, ..., 0] - steps * 255 / 63).max() < 1

    clear = np.zeros((8, 8, 4), np.uint8)
    clear[2:4, :, 3] = 255  # black where it is not transparent
    Image.fromarray(clear).save(folder / "b/clear.png")
    picture = Image.fromarray(np.uint8(np.repeat(steps, 3).reshape(8, 8, 3)))
    turned = picture.getexif()
    turned[0x112] = 3  # upside down
    picture.save(folder / "b/turned.png", exif=turned)
    found = read_images(folder)
    shown = dict(zip(found.names, found.x, strict=True))
    np.testing.assert_array_equal(
        shown["b/clear.png"][:, 0, 0], [255, 255, 0, 0, 255, 255, 255, 255]
    )
    np.testing.assert_array_equal(shown["b/turned.png"][..., 0], steps[::-1, ::-1])


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
