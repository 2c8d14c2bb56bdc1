"""Counts the images that a labelled set holds more than once, by digests of their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable

from react_ray.counted import counted


def digest_of(image: bytes | None) -> str | None:
    return hashlib.sha256(image).hexdigest() if image else None


def copies(digests: Iterable[str | None], labels: Iterable[Hashable]) -> tuple[int, str]:
    """Returns the number of images that are copies of an earlier one, and what to say of them, "" of none.

    digests: None for an image that is not there, which is no copy. labels: of the same images.
    """
    labels_of: dict[str, set[Hashable]] = {}
    num_images = 0
    for digest, label in zip(digests, labels, strict=True):
        if digest is not None:
            labels_of.setdefault(digest, set()).add(label)
            num_images += 1
    num = num_images - len(labels_of)
    otherwise = sum(len(labels) > 1 for labels in labels_of.values())
    told = f"{num} of {num_images} images {'is a copy' if num == 1 else 'are copies'} of another one"
    if otherwise:
        told += f", and {counted(otherwise, 'image')} {'has' if otherwise == 1 else 'have'} copies of another label"
    return num, f"{told}; they count as often as they are there" if num else ""
