"""Short trainings by SGD, which several test files share."""

from embedllm import MatrixFactorization, TrainingPreset

QUICK = TrainingPreset(pairs_per_step=64, epochs=12, learning_rate=1e-2, weight_decay=1e-5)


def quick(**settings):
    """Return a factorization that SGD trains in a moment."""
    return MatrixFactorization(**({"dim": 6, "solver": "sgd", "preset": QUICK, "device": "cpu"} | settings))


def bits(model):
    """Return all parameters of a fit, for comparisons without any tolerance."""
    return [value.numpy().tobytes() for value in model.parameters_]
