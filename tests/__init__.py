"""Tests run beside each other: each process has one thread of BLAS, which NumPy is told before it is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
