"""Four simulated CPU devices, strict promotion, seeded randomness only."""

from __future__ import annotations

import os

# Before JAX is imported: it reads these once.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax
import numpy as np
import pytest

# A silent broadcast or a silent float64 dies here instead of in somebody's scores.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


# They need packages of peers; what they write is kept beside them.
collect_ignore = [
    "data/make_dattri.py",
    "data/make_influence.py",
    "data/make_lds.py",
]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20251209)
