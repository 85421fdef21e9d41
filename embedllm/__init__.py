"""Reproducible companion of *EmbedLLM: Learning Compact Representations of Large Language Models* (ICLR 2025).

Data flows one way, and no module imports one to its right::

    sources -> CorrectnessMatrix -> split -> fit (MatrixFactorization | KNNCorrectness) -> forecasting, routing -> plots
"""

from embedllm.baselines import BenchmarkMean
from embedllm.correctness import CorrectnessMatrix, Split
from embedllm.forecasting import evaluate_forecasts
from embedllm.knn import KNNCorrectness
from embedllm.mf import PRESETS, MatrixFactorization, TrainingPreset
from embedllm.published import load_published
from embedllm.routing import evaluate_routers, route_shares, standard_routers
from embedllm.sources import load_dataset

__all__ = [
    "PRESETS",
    "BenchmarkMean",
    "CorrectnessMatrix",
    "KNNCorrectness",
    "MatrixFactorization",
    "Split",
    "TrainingPreset",
    "evaluate_forecasts",
    "evaluate_routers",
    "load_dataset",
    "load_published",
    "route_shares",
    "standard_routers",
]
