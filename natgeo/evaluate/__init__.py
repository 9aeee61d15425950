"""Does an attribution mean anything? Truth by retraining, and how stable a score is.

The public names, one per line. They are resolved on first use: judging scores needs no
JAX, training models does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from natgeo.evaluate.agreement import Agreement as Agreement
    from natgeo.evaluate.detection import auroc as auroc
    from natgeo.evaluate.detection import recall_at as recall_at
    from natgeo.evaluate.detection import recall_curve as recall_curve
    from natgeo.evaluate.retraining import Retrained as Retrained
    from natgeo.evaluate.retraining import further as further
    from natgeo.evaluate.retraining import retrain as retrain
    from natgeo.evaluate.subsets import half_subsets as half_subsets
    from natgeo.evaluate.subsets import leave_out as leave_out
    from natgeo.evaluate.training import Sgd as Sgd
    from natgeo.evaluate.training import outputs_of as outputs_of
    from natgeo.evaluate.training import shuffled as shuffled
    from natgeo.evaluate.truth import LeaveOneOut as LeaveOneOut
    from natgeo.evaluate.truth import ceiling as ceiling
    from natgeo.evaluate.truth import lds as lds
    from natgeo.evaluate.truth import leave_one_out as leave_one_out

_NAMES = {
    "Agreement": "agreement",
    "LeaveOneOut": "truth",
    "Retrained": "retraining",
    "Sgd": "training",
    "auroc": "detection",
    "ceiling": "truth",
    "further": "retraining",
    "half_subsets": "subsets",
    "lds": "truth",
    "leave_one_out": "truth",
    "leave_out": "subsets",
    "outputs_of": "training",
    "recall_at": "detection",
    "recall_curve": "detection",
    "retrain": "retraining",
    "shuffled": "training",
}
__all__ = sorted(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'natgeo.evaluate' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
