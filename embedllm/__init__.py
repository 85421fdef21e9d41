"""Reproducible companion of *EmbedLLM: Learning Compact Representations of Large Language Models* (ICLR 2025).

Data flows one way, and no module imports one to its right::

    sources -> CorrectnessMatrix -> split -> fit (MatrixFactorization | KNNCorrectness) -> forecasting, routing -> plots
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedllm.baselines import BenchmarkMean
    from embedllm.correctness import CorrectnessMatrix, Split
    from embedllm.encode import encode_questions
    from embedllm.forecasting import evaluate_forecasts
    from embedllm.importers import import_lm_eval, import_long, import_resolved, import_wide
    from embedllm.knn import KNNCorrectness
    from embedllm.longform import write_long_form
    from embedllm.mf import PRESETS, MatrixFactorization, TrainingPreset
    from embedllm.published import load_published
    from embedllm.router import Router
    from embedllm.routing import evaluate_routers, route_shares, standard_routers
    from embedllm.sources import load_dataset

__all__ = [
    "PRESETS",
    "BenchmarkMean",
    "CorrectnessMatrix",
    "KNNCorrectness",
    "MatrixFactorization",
    "Router",
    "Split",
    "TrainingPreset",
    "encode_questions",
    "evaluate_forecasts",
    "evaluate_routers",
    "import_lm_eval",
    "import_long",
    "import_resolved",
    "import_wide",
    "load_dataset",
    "load_published",
    "route_shares",
    "standard_routers",
    "write_long_form",
]

# Imported when first used: reading answers needs no PyTorch, whose import takes seconds.
_MODULE_OF = {
    "PRESETS": "mf",
    "BenchmarkMean": "baselines",
    "CorrectnessMatrix": "correctness",
    "KNNCorrectness": "knn",
    "MatrixFactorization": "mf",
    "Router": "router",
    "Split": "correctness",
    "TrainingPreset": "mf",
    "encode_questions": "encode",
    "evaluate_forecasts": "forecasting",
    "evaluate_routers": "routing",
    "import_lm_eval": "importers",
    "import_long": "importers",
    "import_resolved": "importers",
    "import_wide": "importers",
    "load_dataset": "sources",
    "load_published": "published",
    "route_shares": "routing",
    "standard_routers": "routing",
    "write_long_form": "longform",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
