"""one_thread_each: matrix products that several threads of this process compute at once take one thread each.

NumPy's OpenBLAS spreads every product over threads of its own and computes one product at a time, so threads that each
compute a product wait for one another, busily, and a scan of many lists takes a multiple of the CPU-seconds (compare
`bench_own_faiss.py --only bulk` with these lines and without). The number of threads belongs to the whole process:
where two of these blocks overlap, the one that ends last may leave it at one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def one_thread_each() -> AbstractContextManager[Any]:
    """Sets NumPy's BLAS to one thread inside of a `with` block, and afterwards back to the number before."""
    return _numpy_blas().limit(limits=1)  # type: ignore[no-any-return]


@cache
def _numpy_blas() -> ThreadpoolController:
    """NumPy's threads are pthreads; the BLAS of FAISS is built with OpenMP and obeys FAISS's own number."""
    return ThreadpoolController().select(threading_layer="pthreads")
