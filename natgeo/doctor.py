"""Whether this machine can issue certificates, and whether stores are intact."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from natgeo.certify.environment import self_test
from natgeo.certify.rounding import prove
from natgeo.certify.statements import Combination, Statement
from natgeo.certify.threats import Wasserstein2
from natgeo.certify.verdict import decide
from natgeo.errors import StoreError
from natgeo.geometry.natural import natural_geometry
from natgeo.store.disk import DiskStore, read_shard
from natgeo.store.manifest import MANIFEST, Manifest, read_manifest


def examine(stores: Iterable[Path]) -> dict[str, Any]:
    """Runs every self-test and verifies every shard of the given stores.

    Returns:
        `{"arithmetic": {...}, "devices": [...], "stores": [...], "healthy": bool}`.
    """
    arithmetic = {
        **self_test(),
        "the known float32 false certificate is refused": _refuses_known_falsehood(),
        "device scores agree with float64": _device_scores_agree(),
    }
    inspected = [_store(path) for path in stores]
    return {
        "arithmetic": arithmetic,
        "devices": _devices(),
        "stores": inspected,
        "healthy": all(arithmetic.values()) and all(s["intact"] for s in inspected),
    }


def _refuses_known_falsehood() -> bool:
    """The pair that plain float32 certifies in the wrong order.

    Its exact natural cosine is -0.5992; float32 Gram, Cholesky and triangular solve
    find +0.5899 and would claim a radius of 0.44.
    """
    train = np.array([[5768.0, 5767.0], [5767.0, 5766.0], [5767.0, 5767.0]])
    proof = prove(natural_geometry(train, ridge=1 / 16))
    target = Combination(np.array([136.0, 136.0]), 0.0)
    example = np.array([1644.0, 1643.0])
    threat = Wasserstein2(0.4)
    wrong, right = (
        decide(proof, Statement("", target, Combination(sign * example, 0.0)), threat)
        for sign in (1, -1)
    )
    return wrong.status == "undecided" and right.status == "certified"


def _device_scores_agree() -> bool:
    from natgeo.geometry.scores import scores

    rng = np.random.default_rng(0)
    train, targets = rng.standard_normal((64, 8)), rng.standard_normal((5, 8))
    q = train.T @ train / 64 + 0.1 * np.eye(8)
    want = targets @ np.linalg.solve(q, train.T)
    found = scores(natural_geometry(np.float32(train), 0.1), np.float32(targets))
    return bool(np.abs(found - want).max() <= 1e-4 * np.abs(want).max())


def _devices() -> list[str]:
    import jax

    return [f"{device.platform}: {device.device_kind}" for device in jax.devices()]


def _store(path: Path) -> dict[str, Any]:
    try:
        if (path / MANIFEST).exists() and not read_manifest(path).complete:
            return _unfinished(read_manifest(path))
        store = DiskStore(path)
        digest = store.digest()
        for name in store.columns:
            store.column(name)
    except StoreError as error:
        return {"path": str(path), "intact": False, "problem": str(error)}
    return {
        "path": str(path),
        "intact": True,
        "shape": list(store.shape),
        "dtype": store.dtype.name,
        "sha256": digest,
        "columns": list(store.columns),
        "metadata": dict(store.metadata),
    }


def _unfinished(manifest: Manifest) -> dict[str, Any]:
    """An unfinished store: its shards are verified before they are called safe."""
    for number in range(len(manifest.shards)):
        for name in ("features", *manifest.columns):
            read_shard(manifest, name, number)
    return {
        "path": str(manifest.path),
        "intact": False,
        "problem": f"{manifest.path} is incomplete: {manifest.rows} examples are safe. "
        f"Run the command that wrote it again with --resume to go on.",
    }
