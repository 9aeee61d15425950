"""Wrong input through the public names: which exception, and which words are in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natgeo as ng
from natgeo.errors import ArgumentError, DataError, NatgeoError, StoreError

RNG = np.random.default_rng(99)
FEATURES = RNG.normal(size=(12, 3))
X = np.float32(RNG.normal(size=(12, 4)))
Y = RNG.integers(0, 3, size=12)
PARAMS = {"w": np.float32(RNG.normal(size=(4, 3)))}
VECTOR = {"w": np.float32(RNG.normal(size=4))}
IDENTITY = ng.projectors.Identity()


def logits(params, x):
    return x @ params["w"]


def batch_normalised(params, x):
    centred = x - jnp.mean(x, axis=0, keepdims=True)
    return (centred / (jnp.std(x, axis=0, keepdims=True) + 1e-3)) @ params["w"]


def dot(params, x):
    return jnp.sum(params["w"] * x)


CLASSES = ng.tasks.classification(logits)
REGRESSION = ng.tasks.regression(logits)


def changed(array, *changes):
    """A copy of `array` with `(index, value)` pairs set."""
    array = array.copy()
    for index, value in changes:
        array[index] = value
    return array


def featurize(task=dot, params=VECTOR, data=X, projector=IDENTITY, **options):
    return ng.featurize(task, params, data, projector, **options)


def classify(x=X, y=Y, **options):
    return featurize(CLASSES, PARAMS, (x, y), **options)


def geometry(features=FEATURES, ridge=0.1):
    return ng.natural_geometry(features, ridge=ridge)


def rankings(eps=0.1):
    return ng.certify_rankings(geometry(), FEATURES[:2], ng.threats.Wasserstein2(eps))


def float64_params():
    with jax.enable_x64(False):
        featurize(params={"w": np.ones(4)})


def verdict(**indices):
    return rankings().verdict(**{"target": 0, "above": 1, "below": 2, **indices})


def not_hashable():
    class Loose:
        """A projector in all but its hash."""

        __hash__ = None
        width = project = describe = lambda self, *_: {}

    return Loose()


CASES = {
    # Features.
    "features NaN": (
        lambda: geometry(changed(FEATURES, ((7, 2), np.nan))),
        DataError,
        ["train", "nan", "row 7, column 2", "1 of 12"],
    ),
    "features inf": (
        lambda: geometry(changed(FEATURES, ((3, 0), -np.inf))),
        DataError,
        ["-inf", "row 3, column 0"],
    ),
    "features one axis": (lambda: geometry(FEATURES[0]), DataError, ["two axes"]),
    "features three axes": (
        lambda: geometry(FEATURES[None]),
        DataError,
        ["(1, 12, 3)"],
    ),
    "no training examples": (lambda: geometry(FEATURES[:0]), DataError, ["empty"]),
    "no features": (lambda: geometry(FEATURES[:, :0]), DataError, ["(12, 0)"]),
    "integer features": (
        lambda: geometry(np.ones((3, 2), int)),
        DataError,
        ["int64", "Convert it yourself"],
    ),
    "object features": (
        lambda: geometry(FEATURES.astype(object)),
        DataError,
        ["train", "object"],
    ),
    "complex features": (
        lambda: geometry(FEATURES.astype(complex)),
        DataError,
        ["complex128"],
    ),
    "string features": (lambda: geometry(FEATURES.astype(str)), DataError, ["<U"]),
    "features None": (lambda: geometry(None), DataError, ["train"]),
    "ragged features": (lambda: geometry([[1.0], [1.0, 2.0]]), DataError, ["train"]),
    # Targets.
    "targets of another K": (
        lambda: ng.scores(geometry(), FEATURES[:, :2]),
        DataError,
        ["targets", "2 features", "3"],
    ),
    "rankings of another K": (
        lambda: ng.certify_rankings(
            geometry(), FEATURES[:, :2], ng.threats.Wasserstein2(0.1)
        ),
        DataError,
        ["targets", "2 features", "3"],
    ),
    "no targets": (
        lambda: ng.scores(geometry(), FEATURES[:0]),
        DataError,
        ["targets", "empty"],
    ),
    "targets NaN": (
        lambda: ng.scores(geometry(), changed(FEATURES, ((1, 1), np.nan))),
        DataError,
        ["targets", "row 1, column 1"],
    ),
    "one target without its axis": (
        lambda: ng.scores(geometry(), FEATURES[0]),
        DataError,
        ["targets", "(3,)", "two axes"],
    ),
    # Ridge.
    "ridge negative": (lambda: geometry(ridge=-1.0), ArgumentError, ["ridge=-1.0"]),
    "ridge NaN": (lambda: geometry(ridge=np.nan), ArgumentError, ["ridge=nan"]),
    "ridge inf": (lambda: geometry(ridge=np.inf), ArgumentError, ["ridge=inf"]),
    "ridge string": (
        lambda: geometry(ridge="0.1"),
        ArgumentError,
        ["ridge='0.1'", "a string"],
    ),
    "ridge True": (lambda: geometry(ridge=True), ArgumentError, ["ridge=True"]),
    "ridge zero, rank deficient": (
        lambda: geometry(np.ones((5, 3)), ridge=0),
        DataError,
        ["not positive definite", "ridge=0", "larger ridge, for instance"],
    ),
    "ridge zero, N < K": (
        lambda: geometry(FEATURES[:2], ridge=0),
        DataError,
        ["2 examples cannot span 3", "for instance"],
    ),
    # Radius.
    "eps negative": (lambda: rankings(-0.1), ArgumentError, ["eps=-0.1"]),
    "eps NaN": (lambda: rankings(np.nan), ArgumentError, ["eps=nan"]),
    "eps string": (lambda: rankings("0.1"), ArgumentError, ["eps='0.1'", "a string"]),
    "eps True": (lambda: rankings(True), ArgumentError, ["eps=True"]),
    "eps None": (lambda: rankings(None), ArgumentError, ["eps=None"]),
    "curve with a negative radius": (
        lambda: rankings().curve([0.1, -0.2]),
        ArgumentError,
        ["-0.2"],
    ),
    # Indices.
    "target M": (lambda: verdict(target=2), ArgumentError, ["target=2", "0 to 1"]),
    "above N": (lambda: verdict(above=12), ArgumentError, ["above=12", "0 to 11"]),
    "below -1": (lambda: verdict(below=-1), ArgumentError, ["below=-1", "0 to 11"]),
    "index 2**31": (lambda: verdict(above=2**31), ArgumentError, ["above=2147483648"]),
    "index True": (lambda: verdict(above=True), ArgumentError, ["above=True"]),
    "index 1.0": (lambda: verdict(above=1.0), ArgumentError, ["above=1.0"]),
    "index '3'": (lambda: verdict(target="3"), ArgumentError, ["target='3'"]),
    "ranks of target -1": (
        lambda: rankings().ranks(-1),
        ArgumentError,
        ["target=-1", "0 to 1"],
    ),
    "top_k of target True": (
        lambda: rankings().top_k(True, 3),
        ArgumentError,
        ["target=True"],
    ),
    "top_k of none": (lambda: rankings().top_k(0, 0), ArgumentError, ["k=0"]),
    "top_k of 1.5": (lambda: rankings().top_k(0, 1.5), ArgumentError, ["k=1.5"]),
    "group with a bad index": (
        lambda: ng.statements.group(
            geometry(), FEATURES, target=0, above=[0, 12], below=[1]
        ),
        ArgumentError,
        ["above=12"],
    ),
    "two empty groups": (
        lambda: ng.statements.group(geometry(), FEATURES, target=0, above=[], below=[]),
        ArgumentError,
        ["above and below are both empty"],
    ),
    "an example twice in a group": (
        lambda: ng.statements.group(
            geometry(), FEATURES, target=0, above=[3], below=[1, 2, 1]
        ),
        ArgumentError,
        ["below=[1, 2, 1]", "twice"],
    ),
    # Parameters.
    "float64 parameters, x64 off": (
        float64_params,
        ArgumentError,
        ["params['w']", "float64", "x64"],
    ),
    "integer parameter": (
        lambda: featurize(params={**VECTOR, "step": np.int32(3)}),
        ArgumentError,
        ["params['step']", "int32"],
    ),
    "NaN parameter": (
        lambda: featurize(params={"w": changed(VECTOR["w"], (1, np.nan))}),
        DataError,
        ["params['w']", "NaN"],
    ),
    "no parameters": (lambda: featurize(params={}), ArgumentError, ["no arrays"]),
    # Models.
    "vector loss": (
        lambda: featurize(lambda params, x: params["w"] * x),
        DataError,
        ["(4,)", "jnp.sum"],
    ),
    "tuple loss": (
        lambda: featurize(lambda params, x: (dot(params, x), x)),
        DataError,
        ["tuple"],
    ),
    "integer loss": (
        lambda: featurize(lambda params, x: jnp.argmax(params["w"] * x)),
        DataError,
        ["dtype int"],
    ),
    "batch statistics": (
        lambda: featurize(ng.tasks.classification(batch_normalised), PARAMS, (X, Y)),
        DataError,
        ["alone than in a batch", "batch normalisation"],
    ),
    "batch statistics, one example a batch": (
        lambda: featurize(
            ng.tasks.classification(batch_normalised),
            PARAMS,
            (X, Y),
            batch_size=1,
            devices=jax.devices()[:1],
        ),
        DataError,
        ["alone than in a batch", "batch normalisation"],
    ),
    "one logit": (
        lambda: featurize(
            ng.tasks.classification(lambda p, x: x @ p["w"][:, None]), VECTOR, (X, Y)
        ),
        DataError,
        ["(1, 1)", "at least two classes"],
    ),
    "two predictions": (
        lambda: featurize(REGRESSION, PARAMS, (X, X[:, 0])),
        DataError,
        ["regression"],
    ),
    "NaN gradient": (
        lambda: featurize(data=changed(X, ((9, 1), np.nan))),
        DataError,
        ["Example 9", "params['w']", "1 of"],
    ),
    "NaN gradient in a later batch": (
        lambda: featurize(data=changed(X, ((9, 1), np.inf)), batch_size=4),
        DataError,
        ["Example 9"],
    ),
    "NaN in the first example of a classifier": (
        lambda: classify(changed(X, ((0, 1), np.nan))),
        DataError,
        ["Example 0", "NaN"],
    ),
    # Labels.
    "label out of range": (
        lambda: classify(y=changed(Y, (5, 3))),
        DataError,
        ["Label 3", "row 5", "3 classes"],
    ),
    "label out of range in a later batch": (
        lambda: classify(y=changed(Y, (9, 7)), batch_size=4),
        DataError,
        ["Label 7", "9"],
    ),
    "label negative": (
        lambda: classify(y=changed(Y, (2, -1))),
        DataError,
        ["Label -1"],
    ),
    "float labels": (
        lambda: classify(y=np.float32(Y)),
        DataError,
        ["float32", "whole"],
    ),
    "one-hot labels": (lambda: classify(y=np.eye(3)[Y]), DataError, ["whole numbers"]),
    "Boolean labels": (lambda: classify(y=Y > 0), DataError, ["bool"]),
    # Data.
    "x and y of different lengths": (
        lambda: classify(y=Y[:11]),
        DataError,
        ["(12, 4)", "(11,)"],
    ),
    "x without y": (
        lambda: featurize(CLASSES, PARAMS, X),
        DataError,
        ["pair (x, y)", "ndarray"],
    ),
    "dict for a classifier": (
        lambda: featurize(CLASSES, PARAMS, {"x": X, "y": Y}),
        DataError,
        ["pair (x, y)", "dict"],
    ),
    "x without y for a regression": (
        lambda: featurize(REGRESSION, VECTOR, X),
        DataError,
        ["pair (x, y)", "ndarray"],
    ),
    "two numbers to predict": (
        lambda: featurize(REGRESSION, VECTOR, (X, X[:, :2])),
        DataError,
        ["float32", "2)"],
    ),
    "empty data": (lambda: featurize(data=X[:0]), DataError, ["no examples"]),
    "no batches": (lambda: featurize(data=[]), DataError, ["no examples"]),
    "a string for data": (lambda: featurize(data="digits"), DataError, ["str"]),
    "None for data": (lambda: featurize(data=None), DataError, ["NoneType"]),
    "string data": (
        lambda: featurize(data=X.astype(str)),
        DataError,
        ["Batch 0", "<U", "Encode"],
    ),
    "object data": (
        lambda: featurize(data=X.astype(object)),
        DataError,
        ["Batch 0", "object"],
    ),
    "lists for arrays": (
        lambda: featurize(CLASSES, PARAMS, ([[1.0, 2.0, 3.0, 4.0]], [0])),
        DataError,
        ["arrays"],
    ),
    # Projectors.
    "dim 0": (lambda: ng.projectors.Rademacher(0), ArgumentError, ["dim=0"]),
    "dim -1": (lambda: ng.projectors.Sparse(-1), ArgumentError, ["dim=-1"]),
    "dim 1.5": (lambda: ng.projectors.Rademacher(1.5), ArgumentError, ["dim=1.5"]),
    "dim True": (lambda: ng.projectors.Sparse(True), ArgumentError, ["dim=True"]),
    "seed -1": (lambda: ng.projectors.Rademacher(4, -1), ArgumentError, ["seed=-1"]),
    "seed 2**31": (
        lambda: ng.projectors.Sparse(4, 2**31),
        ArgumentError,
        ["seed=2147483648", "2**31"],
    ),
    "nonzeros 0": (
        lambda: ng.projectors.Sparse(4, 0, 0),
        ArgumentError,
        ["nonzeros=0"],
    ),
    "a number for a projector": (
        lambda: featurize(projector=512),
        ArgumentError,
        ["projector=512", "width, project and describe"],
    ),
    "a class for a projector": (
        lambda: featurize(projector=ng.projectors.Rademacher),
        ArgumentError,
        ["projector=", "Rademacher"],
    ),
    "a projector without a hash": (
        lambda: featurize(projector=not_hashable()),
        ArgumentError,
        ["hashable"],
    ),
    # Tasks and options.
    "a string for a task": (
        lambda: featurize("margin"),
        ArgumentError,
        ["task='margin'", "neither a Task"],
    ),
    "unknown output": (
        lambda: ng.tasks.classification(logits, output="logit"),
        ArgumentError,
        ["output='logit'", "'margin' or 'loss'"],
    ),
    "batch_size 0": (
        lambda: featurize(batch_size=0),
        ArgumentError,
        ["batch_size=0", "at least 1"],
    ),
    "batch_size 8.0": (lambda: featurize(batch_size=8.0), ArgumentError, ["8.0"]),
    "batch_size True": (lambda: featurize(batch_size=True), ArgumentError, ["True"]),
    "no devices": (lambda: featurize(devices=[]), ArgumentError, ["devices"]),
    # Stores.
    "no store": (
        lambda: ng.DiskStore("/nowhere/at/all"),
        StoreError,
        ["/nowhere/at/all", "not a folder"],
    ),
    "store on a file": (
        lambda: featurize(store=__file__),
        StoreError,
        [__file__, "folder"],
    ),
    "column of another length": (
        lambda: ng.MemoryStore(FEATURES, {"weights": np.ones(11)}),
        DataError,
        ["weights", "(11,)", "12 examples"],
    ),
    "NaN weight": (
        lambda: ng.MemoryStore(
            FEATURES, {"weights": changed(np.ones(12), (4, np.nan))}
        ),
        DataError,
        ["weights", "row 4"],
    ),
}


@pytest.mark.parametrize(("call", "kind", "words"), CASES.values(), ids=CASES)
def test_bad_input_gets_a_typed_error_that_names_it(call, kind, words):
    with pytest.raises(NatgeoError) as caught:
        call()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert [word for word in words if word not in message] == []
    # One sentence or two for a person: no dump of an array, no trailing traceback.
    assert len(message) < 600
    assert message[-1] in ".!"


def test_the_good_versions_of_these_inputs_work():
    assert classify().shape == (12, 12)
    assert featurize().shape == (12, 4)
    assert ng.scores(geometry(), FEATURES[:2]).shape == (2, 12)
    assert verdict().status in {"certified", "undecided"}
    assert rankings(1.5).fraction.tolist() == [0.0, 0.0]
