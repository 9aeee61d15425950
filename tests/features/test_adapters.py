"""Data as other libraries hand them out: the same features as from plain arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from natgeo.errors import DataError
from natgeo.features import tasks
from natgeo.features.featurize import featurize
from natgeo.features.projectors import Identity

N, CLASSES = 23, 3
RNG = np.random.default_rng(4)
X = np.float32(RNG.normal(size=(N, 5)))
Y = RNG.integers(0, CLASSES, size=N)
PARAMS = {"w": np.float32(RNG.normal(size=(5, CLASSES)))}


def apply(params, x):
    return jnp.matmul(x, params["w"], precision="highest")


TASK = tasks.classification(apply)


def same(data):
    """Whether the data give, bit for bit, the features of the plain arrays."""
    want = featurize(TASK, PARAMS, (X, Y), Identity(), batch_size=8)
    made = featurize(TASK, PARAMS, data, Identity(), batch_size=8)
    return made.digest() == want.digest()


class Dataset:
    """The map-style protocol of torch and of Grain."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return X[index], Y[index]


class Numpy:
    """What `tf.data`'s as_numpy_iterator is: an iterator of tuples of arrays."""

    def __init__(self, size):
        self._starts = iter(range(0, N, size))
        self._size = size

    def __iter__(self):
        return self

    def __next__(self):
        start = next(self._starts)
        return X[start : start + self._size], Y[start : start + self._size]


def test_numpy_arrays_iterators_and_generators():
    assert same((jnp.asarray(X), Y))
    assert same(Numpy(5))
    assert same((X[i : i + 1], Y[i : i + 1]) for i in range(N))
    assert same([[X[:4], Y[:4]], [X[4:], Y[4:]]])


def test_columns_of_a_dictionary():
    rows = ({"image": X[i : i + 6], "label": Y[i : i + 6]} for i in range(0, N, 6))
    assert same((batch["image"], batch["label"]) for batch in rows)


def test_a_batch_of_what_numpy_cannot_read_is_refused():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    with pytest.raises(DataError, match=r"Batch 1 .*requires grad.*detach"):
        same([(X[:4], Y[:4]), (Tensor(), Y[4:])])


def test_torch_tensors_and_loaders():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    assert same((x, y))
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, y), batch_size=5, shuffle=False
    )
    assert same(loader)
    assert same(torch.utils.data.DataLoader(Dataset(), batch_size=4))
    with pytest.raises(DataError, match="detach"):
        same([(x.clone().requires_grad_(), y)])
    with pytest.raises(DataError, match="bfloat16"):
        same([(x.bfloat16(), y)])


def test_grain_datasets():
    grain = pytest.importorskip("grain", reason="grain is not installed")
    assert same(grain.MapDataset.source(Dataset()).batch(6))


def test_tensorflow_datasets():
    tensorflow = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    data = tensorflow.data.Dataset.from_tensor_slices((X, Y))
    assert same(data.batch(6).as_numpy_iterator())


def test_hugging_face_datasets():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_dict({"image": X, "label": Y}).with_format("numpy")
    rows = data.iter(6)
    assert same((np.float32(batch["image"]), batch["label"]) for batch in rows)
