"""The ceiling: the cross-entropy method on the true dynamics."""

from __future__ import annotations

from jepa.planning.solvers.cem import CEM
from jepa.planning.view import CostFunction, View


class Oracle(CEM):
    """The solver of ``planner=cem``, with the environment in place of the model and the true distance as cost."""

    uses_predictor = False
    uses_encoder = False

    def cost(self, view: View) -> CostFunction:
        return view.true
