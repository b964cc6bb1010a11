"""How a frozen representation is judged: fit a map from embeddings to locations, judge it on new data, in pixels."""

from jepa.probing.adam import AdamProbe
from jepa.probing.base import Probe
from jepa.probing.least_squares import LeastSquares
from jepa.probing.report import ProbeReport, ProbeSamples

__all__ = ["AdamProbe", "LeastSquares", "Probe", "ProbeReport", "ProbeSamples"]
