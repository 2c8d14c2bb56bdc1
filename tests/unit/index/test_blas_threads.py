"""NumPy computes a product with one thread where our own threads compute them, and with as many as before elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from react_ray.index.blas_threads import one_thread_each

of_numpy = ThreadpoolController().select(threading_layer="pthreads")


def num_threads() -> set[int]:
    return {library.get_num_threads() for library in of_numpy.lib_controllers}


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    with of_numpy.limit(limits=3):
        yield


def test_numpy_computes_with_one_thread_inside_and_as_before_outside() -> None:
    assert num_threads() == {3}
    with one_thread_each():
        assert num_threads() == {1}
        assert np.array_equal(np.ones((64, 64)) @ np.ones((64, 64)), np.full((64, 64), 64.0))
    assert num_threads() == {3}
    with pytest.raises(ZeroDivisionError), one_thread_each():
        1 / 0  # noqa: B018
    assert num_threads() == {3}
