"""Promises about imports: names resolve, nothing happens early, rooms keep apart."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import natgeo

ROOT = Path(natgeo.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
MODULES = sorted(
    module.name for module in pkgutil.walk_packages([str(ROOT)], prefix="natgeo.")
)


@pytest.mark.parametrize("name", natgeo.__all__)
def test_every_public_name_resolves(name):
    value = getattr(natgeo, name)
    assert getattr(natgeo, name) is value
    assert value.__name__.split(".")[-1] == name
    assert value.__doc__
    assert name in dir(natgeo)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'scroes'"):
        natgeo.scroes  # noqa: B018


def test_names_for_type_checkers_and_at_run_time_are_the_same():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname: (node.module, alias.name)
        for node in guarded.body
        for alias in node.names
    }
    assert sorted(typed) == natgeo.__all__
    for name, (module, original) in typed.items():
        assert name == original
        value = importlib.import_module(module)
        assert getattr(natgeo, name) is getattr(value, name, None) or (
            getattr(natgeo, name).__name__ == f"{module}.{name}"
        )


def modules_after(statement):
    """Top-level packages that a fresh Python holds after `statement`."""
    code = f"import sys\n{statement}\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


HEAVY = {"jax", "jaxlib", "flax", "optax", "chex", "matplotlib", "sklearn", "rich"}


def test_importing_natgeo_imports_nothing_heavy():
    loaded = modules_after("import natgeo")
    assert not loaded & (HEAVY | {"numpy", "scipy"})


@pytest.mark.parametrize(
    "statement",
    [
        "import natgeo.store.disk, natgeo.store.memory",
        "import natgeo.geometry.natural",
        "import natgeo.certify.rankings, natgeo.certify.sensitivity",
        "from natgeo import DiskStore, certify_rankings, natural_geometry, threats",
        "from natgeo import convex; convex.fit, convex.influence, convex.first_order",
        "import natgeo.proof.checker, natgeo.proof.certificate, natgeo.proof.issue",
        "import natgeo.cli",
    ],
)
def test_reading_stores_and_certifying_do_not_import_jax(statement):
    assert not modules_after(statement) & (HEAVY - {"rich"})


IMPORT_EVERYTHING = """
import os, threading, warnings
before = dict(os.environ), threading.active_count(), os.getcwd()
import importlib, logging, jax
level = logging.getLogger().level, list(logging.getLogger().handlers)
config = dict(jax.config.values)
for name in {modules!r}:
    importlib.import_module(name)
assert not jax._src.xla_bridge._backends, "a device was started"
assert dict(jax.config.values) == config, "the JAX configuration changed"
assert (logging.getLogger().level, list(logging.getLogger().handlers)) == level
assert (dict(os.environ), os.getcwd()) == (before[0], before[2])
assert threading.active_count() == before[1]
"""


def test_no_module_does_work_at_import():
    modules = [name for name in MODULES if not name.endswith("__main__")]
    code = IMPORT_EVERYTHING.format(modules=modules)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


PRODUCTS = {"matmul", "dot", "einsum", "tensordot", "vdot", "inner", "dot_general"}
KERNELS = [*sorted((ROOT / "features").glob("*.py")), ROOT / "geometry" / "scores.py"]


def imprecise_products(source):
    """Lines of matrix products that leave the precision to the device."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.BinOp, ast.AugAssign)):
            if isinstance(node.op, ast.MatMult):
                found.append(node.lineno)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            named = node.func.attr in PRODUCTS
            host = isinstance(node.func.value, ast.Name) and node.func.value.id == "np"
            explicit = any(keyword.arg == "precision" for keyword in node.keywords)
            if named and not host and not explicit:
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.name)
def test_every_product_on_a_device_asks_for_its_precision(path):
    """Float32 products are bfloat16 or TF32 passes on accelerators unless told."""
    assert imprecise_products(path.read_text()) == []


def test_the_precision_check_sees_what_it_must():
    assert imprecise_products("a @ b") == [1]
    assert imprecise_products("jnp.matmul(a, b)") == [1]
    assert imprecise_products("x\njax.lax.dot_general(a, b, c)") == [2]
    assert imprecise_products("a.dot(b)") == [1]
    assert imprecise_products("a @= b") == [1]
    assert imprecise_products("jnp.matmul(a, b, precision=p)\nnp.einsum('i', a)") == []


# What each room may import from natgeo; a room that is not listed may import any.
BASE = {"types", "errors", "checks", "progress", "display", "resources", "cells"}
ALLOWED = {
    "types": set(),
    "errors": set(),
    "checks": {"errors"},
    "progress": set(),
    "display": set(),
    "resources": {"errors"},
    "cells": {"errors"},
    "store": BASE,
    "features": BASE | {"store"},
    "geometry": BASE | {"store"},
    "certify": BASE | {"store", "geometry"},
    "proof": BASE | {"store", "geometry", "certify"},
    "convex": BASE | {"certify"},
    "evaluate": BASE | {"store", "features", "geometry", "certify"},
    "labels": BASE | {"store", "features", "geometry", "certify", "evaluate"},
}
TOP = {"cli", "commands", "demo", "demo_page", "attribution"}
# Outside packages that a room must not know, at any depth of its own code.
FORBIDDEN = {
    "store": {"jax", "flax", "optax", "chex"},
    "geometry": {"flax", "optax"},
    "certify": {"jax", "flax", "optax", "chex"},
    "proof": {"jax", "flax", "optax", "chex", "scipy"},
    "checks": {"jax"},
    "display": {"jax"},
}


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Every module imported anywhere in the file, lazily or not, in full."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            if node.module == "natgeo":
                yield from (f"natgeo.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path != ROOT / "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_room_imports_only_from_rooms_above_it(path):
    here = room(path)
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "natgeo" and rest:
            other = rest[0]
            assert other == here or other in ALLOWED.get(here, {other}), name
            assert here in TOP or other not in TOP, name
            assert other != "cli", "nothing imports the entry point"
        else:
            assert package not in FORBIDDEN.get(here, ()), name


def test_the_rooms_of_the_table_exist():
    rooms = {room(path) for path in SOURCES}
    assert set(ALLOWED) <= rooms
    assert set(FORBIDDEN) <= rooms
