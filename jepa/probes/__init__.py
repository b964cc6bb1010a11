"""How a frozen representation is judged: fit a map from embeddings to locations, judge it on new data, in pixels."""

from jepa.probes.adam import AdamProbe
from jepa.probes.base import Probe
from jepa.probes.least_squares import LeastSquares
from jepa.probes.report import ProbeReport, ProbeSamples

__all__ = ["AdamProbe", "LeastSquares", "Probe", "ProbeReport", "ProbeSamples"]
