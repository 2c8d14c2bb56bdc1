from __future__ import annotations

from react_ray.evals.copies import copies, digest_of


def test_copies_are_counted_and_images_that_are_not_there_are_none() -> None:
    assert copies([digest_of(image) for image in (b"a", b"b", None, b"", b"")], "vwxyz") == (0, "")
    assert copies("aabbb", "xxxyx") == (
        3,
        "3 of 5 images are copies of another one, and 1 image has copies of another label; they count as often as "
        "they are there",
    )
