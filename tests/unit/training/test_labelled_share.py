"""How often each labelled image is in an epoch."""

from __future__ import annotations

import numpy as np
import pytest

from react_ray.training.labelled_share import copies


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_labelled_images_have_their_share_of_an_epoch_and_each_class_an_equal_part_of_it(share: float) -> None:
    class_id_N = np.array([0, 3, 0, 1, 0, 3, 0, 0])
    copies_N = copies(class_id_N, 600, share)
    assert copies_N.sum() / (copies_N.sum() + 600) == pytest.approx(share, abs=0.005)
    of_class = np.bincount(class_id_N, copies_N)
    assert of_class[2] == 0 and np.ptp(of_class[[0, 1, 3]]) <= 1
    assert np.ptp(copies_N[class_id_N == 0]) <= 1, "the images of a class take turns"


def test_no_image_is_left_out_where_the_share_has_no_room_for_all() -> None:
    class_id_N = np.repeat([0, 1], [100, 10])
    copies_N = copies(class_id_N, 20, 0.5)
    assert (copies_N[:100] == 1).all() and copies_N[100:].sum() == 55
    assert (copies(np.arange(7), 20, 1.0) == 1).all(), "with no pair beside them, each is there once"
    assert len(copies(np.zeros(0, np.int64), 20, 0.5)) == 0
