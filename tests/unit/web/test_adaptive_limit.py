"""The number in flight follows what line and servers can carry."""

from __future__ import annotations

from react_ray.web.adaptive_limit import FEWEST, START, AdaptiveLimit


def record(limit: AdaptiveLimit, num: int, seconds: float = 0.1, share_congested: float = 0.0) -> None:
    for n in range(num):
        limit.record((n * share_congested) % 1 + share_congested > 1 - 1e-9 and share_congested > 0, seconds)


def test_it_grows_to_the_most_while_all_goes_well_and_no_further() -> None:
    limit = AdaptiveLimit(256)
    assert limit.limit == START
    record(limit, 2000)
    assert limit.limit == 256


def test_switched_off_it_is_the_most_at_once_and_stays() -> None:
    limit = AdaptiveLimit(256, adaptive=False)
    record(limit, 2000, share_congested=0.5)
    assert limit.limit == 256


def test_it_never_passes_a_small_most() -> None:
    limit = AdaptiveLimit(3)
    record(limit, 500)
    record(limit, 500, share_congested=1.0)
    record(limit, 500)
    assert limit.limit == 3


def test_many_timeouts_halve_it_and_it_recovers() -> None:
    limit = AdaptiveLimit(256)
    record(limit, 2000)
    record(limit, 512, share_congested=0.5)
    assert limit.limit <= 128
    record(limit, 20_000)
    assert limit.limit == 256


def test_slower_answers_halve_it() -> None:
    limit = AdaptiveLimit(256)
    record(limit, 2000, seconds=0.1)
    record(limit, 512, seconds=0.5)
    assert limit.limit <= 128


def test_it_stays_above_the_fewest() -> None:
    limit = AdaptiveLimit(256)
    for share in (0.2, 0.5, 0.8, 1.0):
        record(limit, 300, share_congested=share)
    record(limit, 20_000, share_congested=1.0)
    assert limit.limit >= FEWEST


def test_dead_links_are_usual_and_do_not_slow_it_down() -> None:
    limit = AdaptiveLimit(256)
    record(limit, 20_000, share_congested=0.1)
    assert limit.limit == 256


def test_a_line_that_is_slower_for_good_is_accepted_in_the_end() -> None:
    limit = AdaptiveLimit(64)
    record(limit, 1000, seconds=0.1)
    record(limit, 100_000, seconds=1.0)
    assert limit.limit == 64


def test_one_window_of_a_very_fast_host_does_not_make_all_others_slow() -> None:
    limit = AdaptiveLimit(64)
    record(limit, 2000, seconds=0.3)
    record(limit, 64, seconds=0.005)
    record(limit, 2000, seconds=0.3)
    assert limit.limit == 64
