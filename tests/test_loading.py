"""Orbax checkpoints: what is restored, and what is refused by its path."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from natgeo import loading
from natgeo.errors import DataError, StoreError


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    return {"dense": {"kernel": draw(3, 2), "bias": draw(2)}, "blocks": [draw(4)]}


def save(folder, tree):
    with ocp.StandardCheckpointer() as writer:
        writer.save(folder, tree)
    return folder


def test_parameters_come_back_bit_for_bit(tmp_path):
    saved = parameters(1)
    found = loading.checkpoint(save(tmp_path / "one", saved), like=parameters(2))
    assert jax.tree.structure(found) == jax.tree.structure(saved)
    for ours, theirs in zip(
        jax.tree.leaves(found), jax.tree.leaves(saved), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_step_of_a_manager_is_read(tmp_path):
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(7, args=ocp.args.StandardSave(parameters(1)))
        manager.wait_until_finished()
    found = loading.checkpoint(tmp_path / "run" / "7", like=parameters(2))
    want = parameters(1)["dense"]["kernel"]
    np.testing.assert_array_equal(found["dense"]["kernel"], want)


def changed(**parts):
    return {**parameters(), **parts}


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        ({"dense": parameters()["dense"]}, "blocks/0 is missing"),
        (changed(head=jnp.ones(2)), "head is not of this model"),
        (
            changed(blocks=[jnp.ones((4, 1))]),
            r"blocks/0 has shape \(4, 1\), not \(4,\)",
        ),
        (
            changed(blocks=[jnp.ones(4, jnp.bfloat16)]),
            "blocks/0 has dtype bfloat16, not float32",
        ),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(tmp_path, saved, says):
    folder = save(tmp_path / "one", saved)
    with pytest.raises(DataError, match=says):
        loading.checkpoint(folder, like=parameters())


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreError, match="is not an Orbax checkpoint"):
            loading.checkpoint(folder, like=parameters())


def test_a_damaged_checkpoint_is_refused(tmp_path):
    folder = save(tmp_path / "one", parameters())
    (folder / "_METADATA").write_text("{")
    with pytest.raises(StoreError, match="cannot be read as a checkpoint"):
        loading.checkpoint(folder, like=parameters())
