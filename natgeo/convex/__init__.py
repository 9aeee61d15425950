"""Convex models: exact influence, and how it reacts to the data.

Ridge, logistic and multinomial logistic regression at their optimum (`fit`,
`from_sklearn`), influence in closed form (`influence`, `leave_one_out`) and its
first-order sensitivity (`sensitivity_kernel`, `first_order`). NumPy and SciPy in
float64; JAX is imported by `smooth` alone.
"""

from natgeo.convex.attack import Attack as Attack
from natgeo.convex.attack import attack as attack
from natgeo.convex.fit import fit as fit
from natgeo.convex.functionals import Functional as Functional
from natgeo.convex.functionals import accuracy as accuracy
from natgeo.convex.functionals import coefficient as coefficient
from natgeo.convex.functionals import gap as gap
from natgeo.convex.functionals import smooth as smooth
from natgeo.convex.influence import functional_influence as functional_influence
from natgeo.convex.influence import influence as influence
from natgeo.convex.influence import self_influence as self_influence
from natgeo.convex.intervals import ProvenIntervals as ProvenIntervals
from natgeo.convex.intervals import proven_interval as proven_interval
from natgeo.convex.leave_out import held_out as held_out
from natgeo.convex.leave_out import leave_one_out as leave_one_out
from natgeo.convex.leave_out import refit_without as refit_without
from natgeo.convex.leave_out import without_group as without_group
from natgeo.convex.leave_out import without_one as without_one
from natgeo.convex.model import ConvexModel as ConvexModel
from natgeo.convex.model import Scaling as Scaling
from natgeo.convex.outputs import Targets as Targets
from natgeo.convex.outputs import targets as targets
from natgeo.convex.outputs import training_targets as training_targets
from natgeo.convex.rankings import InfluenceRanking as InfluenceRanking
from natgeo.convex.rankings import InfluenceVerdict as InfluenceVerdict
from natgeo.convex.rankings import (
    certify_influence_ranking as certify_influence_ranking,
)
from natgeo.convex.sensitivity import FirstOrder as FirstOrder
from natgeo.convex.sensitivity import Kernel as Kernel
from natgeo.convex.sensitivity import first_order as first_order
from natgeo.convex.sensitivity import sensitivity_kernel as sensitivity_kernel
from natgeo.convex.takeover import from_sklearn as from_sklearn
