"""Door: encoded images, as ingest, embed and download decode and store them.

A bad image has to become a status with a reason in one line, in bounded memory and time. A harmless change of a file
has to leave its pixels as they are, and the three ways to decode have to agree on which images are good.
"""

from __future__ import annotations

import random

import numpy as np

from react_ray import schema
from react_ray.pairs.image import decode_batch, decode_rgb, inspect
from react_ray.pairs.store import Stored, prepare
from react_ray.pairs.store_config import StoreConfig
from tests.campaign.case import Case, check
from tests.campaign.damage import damaged
from tests.campaign.image_damage import harmless, structural
from tests.campaign.image_seeds import seed_image

SIZE = 32
BAD = (schema.UNDECODABLE, schema.TOO_LARGE, schema.EMPTY, schema.NOT_AN_IMAGE, schema.TOO_SLOW)
DROPPED = (schema.TOO_SMALL, schema.TOO_LARGE_AREA, schema.ASPECT)


def run(case: Case) -> str:
    rng = case.rng()
    name, data = seed_image(rng)
    kind = rng.choices(("harmless", "structural", "bytes"), (2, 5, 5))[0]
    if kind == "harmless":
        made, how = harmless(name, data, rng)
        check(_try(data) is not None, f"a valid {name} is not decoded: {inspect(data).error}")
    elif kind == "structural":
        made, how = structural(name, data, rng)
    else:
        made, how = damaged(data, rng, seed_image(rng)[1])
    pixels = _try(made)
    if kind == "harmless":
        check(pixels is not None, f"{name} with {how} is lost: {inspect(made).error}")
        check(np.array_equal(pixels, _try(data)), f"{name} with {how} shows another picture")
    facts = inspect(made)
    _check_reason(facts.status, facts.error)
    is_good = facts.status == schema.OK
    check(is_good == (facts.phash is not None), "a good image without a hash, or a bad one with one")
    check(is_good == (pixels is not None), f"inspect says {facts.status} ({facts.error}), decode_rgb does not")
    batch, errors = decode_batch([made, b""], SIZE)
    check((errors[0] is None) == is_good and errors[1] is not None, "decode_batch does not agree with inspect")
    check(is_good or not batch[0].any(), "a bad row of a batch is not black")
    stored = prepare(made, config := _config(rng))
    _check_stored(stored, config)
    if is_good:
        wanted = (facts.width, facts.height)
        found = (stored.original_width, stored.original_height)
        check(found == wanted, f"{name} with {how} has the size {wanted} in inspect and {found} in prepare")
        kept = (schema.OK, schema.TOO_LARGE, *DROPPED)
        check(stored.status in kept, f"inspect decodes {name} with {how}, prepare says {stored.error}")
    return f"{name} with {how}: {facts.status}"


def _try(data: bytes) -> np.ndarray | None:
    try:
        pixels = decode_rgb(data, SIZE)
    except ValueError as error:
        check(bool(str(error)), "an error without a reason")
        return None
    check(pixels.shape == (3, SIZE, SIZE) and pixels.dtype == np.uint8, "pixels of another shape")
    return pixels


def _check_reason(status: str, error: str | None) -> None:
    check(status in (schema.OK, *BAD), f"status {status}: {error}")
    if status == schema.OK:
        check(error is None, "a good image with an error")
    else:
        check(bool(error) and len(error or "") < 500, f"{status} without a reason, or with too long a one")
        check((error or "").isprintable(), f"a reason with control characters: {error!r}")


def _check_stored(stored: Stored, config: StoreConfig) -> None:
    if stored.status in DROPPED:
        check(stored.image is None and bool(stored.error), "a dropped image without a reason, or with bytes")
        return
    _check_reason(stored.status, stored.error)
    check((stored.status == schema.OK) == (stored.image is not None), f"{stored.status}, and the bytes say otherwise")
    if stored.image is not None:
        facts = inspect(stored.image, max_pixels=10**9)
        check(facts.status == schema.OK, f"a stored image cannot be decoded: {facts.error}")
        check((facts.width, facts.height) == (stored.width, stored.height), "a stored image of another size")


def _config(rng: random.Random) -> StoreConfig:
    encoding = rng.choice(("jpg", "png", "webp"))
    return StoreConfig(
        resize_mode=rng.choice(("no", "border", "keep_ratio", "keep_ratio_largest", "center_crop")),
        image_size=rng.choice((16, 64, 256)),
        resize_only_if_bigger=rng.random() < 0.3,
        skip_reencode=rng.random() < 0.2,
        disable_all_reencoding=rng.random() < 0.2,
        encode_format=encoding,
        encode_quality=6 if encoding == "png" else 90,
        min_image_size=rng.choice((0, 0, 20)),
        max_aspect_ratio=rng.choice((0, 0, 5)),
    )
