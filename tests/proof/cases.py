"""Small certificates of every kind, and tools to tamper with them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

import natgeo as ng
from natgeo.certify.rankings import Rankings
from natgeo.certify.statements import Statement
from natgeo.certify.verdict import decide


def rankings(
    seed=0, *, ridge=0.0, weighted=True, n=24, k=4, dtype=np.float32, eps=0.01
):
    """A random training set with three targets."""
    rng = np.random.default_rng(seed)
    scale = np.exp2(rng.integers(-3, 3, k))
    train = (rng.standard_normal((n, k)) * scale).astype(dtype)
    targets = (rng.standard_normal((3, k)) * scale).astype(dtype)
    columns = {"weights": np.float32(0.1 + rng.random(n))} if weighted else {}
    geometry = ng.natural_geometry(ng.MemoryStore(train, columns), ridge)
    return ng.certify_rankings(
        geometry, ng.MemoryStore(targets), ng.threats.Wasserstein2(eps)
    )


def statements(order: Rankings) -> list[Statement]:
    """One statement of each kind that is true of the data by a wide margin."""
    geometry, targets = order.geometry, order.targets
    scores = geometry.weights * (
        geometry.whiten(targets.rows([0, 1, 2])) @ (geometry.natural.T)
    )
    best = np.argsort(-scores, axis=1)
    i, j = int(best[0, 0]), int(best[0, -1])
    influence = np.argsort(-np.sum(geometry.natural**2, axis=1))
    example = int(np.argmax(scores[0] - scores[1]))
    make = ng.statements
    return [
        make.pair(geometry, targets, target=0, above=i, below=j),
        make.proponent(geometry, targets, target=0, example=i),
        make.opponent(geometry, targets, target=0, example=j),
        make.group(
            geometry,
            targets,
            target=2,
            above=best[2, :3].tolist(),
            below=best[2, -2:].tolist(),
        ),
        make.target_pair(geometry, targets, more=0, less=1, example=example),
        make.self_influence_pair(
            geometry, above=int(influence[0]), below=int(influence[-1])
        ),
    ]


def threats() -> list:
    """One threat of each kind."""
    make = ng.threats
    return [
        make.Wasserstein2(0.01),
        make.Wasserstein1(1e-3, 100.0),
        make.Delete(1),
        make.Add(2, 1.0),
        make.Replace(1, 0.5),
        make.Euclidean2(1e-3),
        make.Moving(make.Wasserstein2(0.01), target=0.01, examples=0.02),
        make.WassersteinInfinity(0.005),
    ]


def complete(folder: Path, order: Rankings, **options) -> ng.CheckReport:
    """A certificate with every kind of statement, every threat and every form.

    Small random data may leave out what is not certified, or cannot be refuted.
    """
    made = statements(order)
    wanted = [
        *((one, order.threat) for one in made),
        *((made[0], threat) for threat in threats()),
    ]
    claims = [
        (statement, threat)
        for statement, threat in wanted
        if decide(order.proof, statement, threat).status == "certified"
    ]
    first = made[0].about
    broken = order.refute(
        target=first["target"], above=first["above"], below=first["below"]
    )
    pairs = np.concatenate([ng.certified_pairs(order, t, [0, 1, 2]) for t in (0, 2)])
    return ng.write_certificate(
        folder,
        order,
        claims,
        refutations=[(made[0], broken)] if broken.flips else [],
        pairs=pairs,
        counts=[1],
        provenance={"model": "none"},
        **options,
    )


def text_of(body) -> bytes:
    """The canonical text of the format."""
    return (json.dumps(body, sort_keys=True, indent=1) + "\n").encode()


def edit(folder: Path, change: Callable[[dict], None]) -> None:
    """Changes the contents of a certificate and writes them canonically."""
    file = folder / "certificate.json"
    body = json.loads(file.read_bytes())
    change(body)
    file.write_bytes(text_of(body))


def load(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"{name}.npy")


def save(folder: Path, name: str, array: np.ndarray, *, pickled=False) -> None:
    """Replaces an array and everything that the certificate says about its file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=pickled)
    replace(folder, name, buffer.getvalue(), array.dtype.name, list(array.shape))


def replace(folder: Path, name: str, data: bytes, dtype=None, shape=None) -> None:
    """Replaces the bytes of an array's file and its hash."""
    (folder / f"{name}.npy").write_bytes(data)

    def change(body):
        entry = body["arrays"][name]
        entry["sha256"] = hashlib.sha256(data).hexdigest()
        entry["dtype"] = dtype or entry["dtype"]
        entry["shape"] = entry["shape"] if shape is None else shape

    edit(folder, change)
