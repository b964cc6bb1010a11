"""Probes judge a frozen representation: they fit maps from embeddings to targets, and judge the maps on new data."""

from jepa.probes.adam import AdamProbe
from jepa.probes.base import Probe
from jepa.probes.least_squares import LeastSquares
from jepa.probes.report import ProbeReport, ProbeSamples

__all__ = ["AdamProbe", "LeastSquares", "Probe", "ProbeReport", "ProbeSamples"]
