"""Companion of *EmbedLLM: Learning Compact Representations of Large Language Models* (ICLR 2025).

The public names stand in ``__init__.pyi``. Each is imported when it is first used: reading answers needs no PyTorch,
whose import takes seconds. Modules import downwards only::

    __main__
    book, evaluation
    router, studies
    plots
    protocol
    predictors
    datasets
    matrix
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
