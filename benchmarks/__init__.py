"""What is measured, each against an independent plain implementation, on the machine that runs it.

`python -m benchmarks` measures everything; see :mod:`benchmarks.__main__`.
"""
