"""Image loaders: idx and JPEG files made here, and what is missing is named."""

from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import datasets
from natgeo.errors import DataError, UnfitEnvironmentError


def idx(array):
    """The idx format by its specification: 0, 0, type 8, rank, big-endian sizes."""
    head = bytes([0, 0, 8, array.ndim])
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path):
    rng = np.random.default_rng(0)
    made = {}
    for part, count in (("train", 6), ("t10k", 4)):
        images = rng.integers(0, 256, (count, 28, 28))
        labels = rng.integers(0, 10, count)
        made[part] = images, labels
        packed = gzip.compress(idx(images))
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(packed)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path, made


def test_fashion_mnist_from_plain_and_packed_files(fashion):
    folder, made = fashion
    data = datasets.fashion_mnist(folder)
    assert (data.x.shape, data.x.dtype) == ((6, 28, 28, 1), np.float32)
    assert (data.y.dtype, len(data.y_test)) == (np.int32, 4)
    np.testing.assert_array_equal(np.rint(data.x[..., 0] * 255), made["train"][0])
    np.testing.assert_array_equal(data.y_test, made["t10k"][1])
    assert data.x.max() <= 1
    head = data.head(3, 2)
    np.testing.assert_array_equal(head.x, data.x[:3])
    assert len(head.y_test) == 2


def test_a_missing_file_is_named_with_what_to_install(fashion, tmp_path):
    folder, _ = fashion
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UnfitEnvironmentError, match="t10k-labels-idx1-ubyte") as info:
        datasets.fashion_mnist(folder)
    assert "dataset-fashion-mnist" in str(info.value)
    assert "--fashion FOLDER" in str(info.value)
    missing = tmp_path / "nowhere.npz"
    with pytest.raises(UnfitEnvironmentError, match="--cifar FILE") as info:
        datasets.cifar10(missing)
    assert str(missing) in str(info.value)


@pytest.mark.parametrize("damage", ["cut", "magic", "long", "gzip"])
def test_a_damaged_idx_file_is_refused(fashion, damage):
    folder, made = fashion
    file = folder / "train-images-idx3-ubyte.gz"
    whole = idx(made["train"][0])
    bad = {"cut": whole[:-1], "magic": b"\1" + whole[1:], "long": whole + b"\0"}
    file.write_bytes(b"no" if damage == "gzip" else gzip.compress(bad[damage]))
    with pytest.raises(DataError, match="train-images"):
        datasets.fashion_mnist(folder)


def test_labels_that_do_not_fit_are_refused(fashion):
    folder, _ = fashion
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.array([1, 2, 3])))
    with pytest.raises(DataError, match="one label from 0 to 9 for each of 6"):
        datasets.fashion_mnist(folder)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.full(6, 10)))
    with pytest.raises(DataError, match="one label from 0 to 9"):
        datasets.fashion_mnist(folder)


def cifar_file(path, **changes):
    images = [np.full((32, 32, 3), 20 * i, np.uint8) for i in range(5)]
    held = {}
    for part in ("train", "test"):
        packed = []
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=75)
            packed.append(buffer.getvalue())
        held |= {
            f"{part}_jpeg": np.frombuffer(b"".join(packed), np.uint8),
            f"{part}_off": np.cumsum([0, *map(len, packed)]),
            f"{part}_y": np.arange(5, dtype=np.uint8),
        }
    held |= changes
    np.savez(path, **{name: value for name, value in held.items() if value is not None})
    return path


def test_cifar_images_are_decoded_in_order(tmp_path):
    data = datasets.cifar10(cifar_file(tmp_path / "c.npz"), train=4, test=2)
    assert data.x.shape == (4, 32, 32, 3)
    assert data.note == "JPEG quality 75, not bit-exact"
    # Flat images survive JPEG to within a grey level.
    want = 20 * np.arange(4)[:, None, None, None] / 255
    np.testing.assert_allclose(data.x, want * np.ones(data.x.shape), atol=1.5 / 255)
    np.testing.assert_array_equal(data.y, np.arange(4))
    assert len(data.x_test) == 2


def test_a_cifar_file_that_is_something_else_is_refused(tmp_path):
    file = tmp_path / "c.npz"
    with pytest.raises(DataError, match="train_off"):
        datasets.cifar10(cifar_file(file, train_off=None))
    with pytest.raises(DataError, match="train image 0 is not a readable JPEG"):
        datasets.cifar10(cifar_file(file, train_jpeg=np.zeros(9000, np.uint8)))
    with pytest.raises(DataError, match="one label from 0 to 9"):
        datasets.cifar10(cifar_file(file, test_y=np.zeros(3, np.uint8)))


def test_a_shift_moves_every_image_to_the_right():
    x = np.arange(12.0).reshape(1, 2, 3, 2)
    moved = datasets.shifted(x)
    np.testing.assert_array_equal(moved[:, :, 1:], x[:, :, :-1])
    np.testing.assert_array_equal(moved[:, :, 0], x[:, :, 0])
