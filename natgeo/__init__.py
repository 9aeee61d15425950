"""Certified robust data attribution on JAX.

The public names, one per line. They are resolved on first use, so that importing
natgeo does no work, touches no device and does not import JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from natgeo import convex as convex
    from natgeo import evaluate as evaluate
    from natgeo.attribution import Attribution as Attribution
    from natgeo.attribution import EnsembleAttribution as EnsembleAttribution
    from natgeo.attribution import attribute as attribute
    from natgeo.certify import distances as distances
    from natgeo.certify import statements as statements
    from natgeo.certify import threats as threats
    from natgeo.certify.ensemble import EnsembleRankings as EnsembleRankings
    from natgeo.certify.ensemble import certify_ensemble as certify_ensemble
    from natgeo.certify.ranges import score_range as score_range
    from natgeo.certify.rankings import Rankings as Rankings
    from natgeo.certify.rankings import certify_rankings as certify_rankings
    from natgeo.certify.refutation import refute as refute
    from natgeo.certify.verdict import Verdict as Verdict
    from natgeo.errors import ArgumentError as ArgumentError
    from natgeo.errors import DataError as DataError
    from natgeo.errors import NatgeoError as NatgeoError
    from natgeo.errors import StoreError as StoreError
    from natgeo.errors import UnfitEnvironmentError as UnfitEnvironmentError
    from natgeo.features import projectors as projectors
    from natgeo.features import tasks as tasks
    from natgeo.features.featurize import featurize as featurize
    from natgeo.geometry.ensemble import Ensemble as Ensemble
    from natgeo.geometry.ensemble import ensemble as ensemble
    from natgeo.geometry.natural import NaturalGeometry as NaturalGeometry
    from natgeo.geometry.natural import natural_geometry as natural_geometry
    from natgeo.geometry.natural import self_influence as self_influence
    from natgeo.geometry.scores import scores as scores
    from natgeo.labels.scan import LabelScan as LabelScan
    from natgeo.labels.scan import scan_labels as scan_labels
    from natgeo.proof.certificate import certified_pairs as certified_pairs
    from natgeo.proof.certificate import write_certificate as write_certificate
    from natgeo.proof.checker import CheckReport as CheckReport
    from natgeo.proof.checker import check_certificate as check_certificate
    from natgeo.store.disk import DiskStore as DiskStore
    from natgeo.store.memory import MemoryStore as MemoryStore

_MODULES = {
    "convex": "natgeo.convex",
    "distances": "natgeo.certify.distances",
    "evaluate": "natgeo.evaluate",
    "projectors": "natgeo.features.projectors",
    "statements": "natgeo.certify.statements",
    "tasks": "natgeo.features.tasks",
    "threats": "natgeo.certify.threats",
}
_NAMES = {
    "ArgumentError": "natgeo.errors",
    "Attribution": "natgeo.attribution",
    "CheckReport": "natgeo.proof.checker",
    "DataError": "natgeo.errors",
    "DiskStore": "natgeo.store.disk",
    "Ensemble": "natgeo.geometry.ensemble",
    "EnsembleAttribution": "natgeo.attribution",
    "EnsembleRankings": "natgeo.certify.ensemble",
    "LabelScan": "natgeo.labels.scan",
    "MemoryStore": "natgeo.store.memory",
    "NatgeoError": "natgeo.errors",
    "NaturalGeometry": "natgeo.geometry.natural",
    "Rankings": "natgeo.certify.rankings",
    "StoreError": "natgeo.errors",
    "UnfitEnvironmentError": "natgeo.errors",
    "Verdict": "natgeo.certify.verdict",
    "attribute": "natgeo.attribution",
    "certified_pairs": "natgeo.proof.certificate",
    "certify_ensemble": "natgeo.certify.ensemble",
    "certify_rankings": "natgeo.certify.rankings",
    "check_certificate": "natgeo.proof.checker",
    "ensemble": "natgeo.geometry.ensemble",
    "featurize": "natgeo.features.featurize",
    "natural_geometry": "natgeo.geometry.natural",
    "refute": "natgeo.certify.refutation",
    "scan_labels": "natgeo.labels.scan",
    "score_range": "natgeo.certify.ranges",
    "scores": "natgeo.geometry.scores",
    "self_influence": "natgeo.geometry.natural",
    "write_certificate": "natgeo.proof.certificate",
}
__all__ = sorted([*_MODULES, *_NAMES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(_MODULES[name])
    elif name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    else:
        raise AttributeError(f"module 'natgeo' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
