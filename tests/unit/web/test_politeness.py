"""When which host may be asked: a schedule that is told the time."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from react_ray.web.politeness import Schedule, backoff_s, retry_after_s


def take_all(schedule: Schedule[int], now: float) -> list[tuple[str, int]]:
    taken = []
    while (one := schedule.take(now)) is not None:
        taken.append(one)
    return taken


def filled(schedule: Schedule[int], *jobs: tuple[str, int]) -> Schedule[int]:
    for host, job in jobs:
        schedule.add(host, job, 0.0)
    return schedule


def test_no_host_has_more_in_flight_than_it_may() -> None:
    schedule = filled(Schedule(2), *(("a", n) for n in range(5)), ("b", 9))
    assert sorted(take_all(schedule, 0.0)) == [("a", 0), ("a", 1), ("b", 9)]
    schedule.done("b", 0.0)
    assert take_all(schedule, 0.0) == []
    schedule.done("a", 0.0)
    assert take_all(schedule, 0.0) == [("a", 2)]


def test_a_host_is_finished_before_the_next_so_that_its_connections_are_used() -> None:
    schedule = filled(Schedule(1), *((host, n) for n in range(3) for host in ("a", "b")))
    order = []
    for _ in range(6):
        taken = schedule.take(0.0)
        assert taken is not None
        order.append(taken[0])
        schedule.done(taken[0], 0.0)
    assert order == ["a"] * 3 + ["b"] * 3


def test_who_comes_later_does_not_push_ahead() -> None:
    schedule = filled(Schedule(1), ("a", 0), ("b", 1))
    assert schedule.take(0.0) == ("a", 0)
    schedule.add("c", 2, 0.0)
    assert take_all(schedule, 0.0) == [("b", 1), ("c", 2)]


def test_a_rate_spaces_the_requests_of_a_host() -> None:
    schedule = filled(Schedule(8, rate=2.0), ("a", 0), ("a", 1), ("a", 2), ("b", 9))
    assert sorted(take_all(schedule, 0.0)) == [("a", 0), ("b", 9)]
    assert schedule.wakes_at() == 0.5
    assert take_all(schedule, 0.4) == []
    assert take_all(schedule, 0.5) == [("a", 1)]
    assert take_all(schedule, 0.9) == []
    assert take_all(schedule, 1.0) == [("a", 2)]


def test_a_rate_holds_also_for_jobs_that_come_later() -> None:
    schedule = filled(Schedule(8, rate=1.0), ("a", 0))
    assert schedule.take(0.0) == ("a", 0)
    schedule.done("a", 0.1)
    schedule.add("a", 1, 0.2)
    assert schedule.take(0.3) is None
    assert schedule.take(1.0) == ("a", 1)


def test_a_pause_holds_for_all_of_a_host_and_for_no_other() -> None:
    schedule = filled(Schedule(1), *(("a", n) for n in range(3)))
    assert schedule.take(0.0) == ("a", 0)
    schedule.pause("a", 10.0)
    schedule.done("a", 1.0)
    schedule.add("b", 9, 1.0)
    assert take_all(schedule, 5.0) == [("b", 9)]
    assert schedule.wakes_at() == 10.0
    assert schedule.take(10.0) == ("a", 1)


def test_a_job_for_later_comes_back_when_it_is_time() -> None:
    schedule: Schedule[int] = Schedule(1)
    schedule.add("a", 1, now=0.0, not_before=3.0)
    assert not schedule.has_waiting("a")
    assert schedule.take(2.9) is None
    assert schedule.take(3.0) == ("a", 1)


def test_every_job_is_given_out_once_and_no_host_is_kept_in_memory() -> None:
    schedule: Schedule[int] = Schedule(2, rate=100.0)
    for job in range(300):
        schedule.add(f"h{job % 7}", job, 0.0, not_before=(job % 3) * 0.5)
    seen, now = [], 0.0
    while len(seen) < 300:
        for host, job in take_all(schedule, now):
            seen.append(job)
            schedule.done(host, now)
        now += 0.01
    assert sorted(seen) == list(range(300))
    assert take_all(schedule, now + 1) == [] and schedule.wakes_at() is None
    assert not schedule._hosts


def test_the_pause_before_a_retry_grows_to_its_limit_and_is_the_same_in_every_run() -> None:
    pauses = [backoff_s(1.0, 30.0, "http://a.example/", tries) for tries in range(1, 9)]
    assert pauses == [backoff_s(1.0, 30.0, "http://a.example/", tries) for tries in range(1, 9)]
    for tries, pause in enumerate(pauses, 1):
        longest = min(30.0, 2.0 ** (tries - 1))
        assert longest / 2 <= pause <= longest
    assert backoff_s(1.0, 30.0, "http://b.example/", 1) != pauses[0]
    assert backoff_s(1.0, 30.0, "http://b.example/", 10_000) <= 30.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:00:00 GMT", 0.0),
        ("9" * 400, 999_999_999.0),
        ("Mon, 01 Jan 2024 00:00:00 +999999999999999999", None),
        ("Mon, 01 Jan 2024 00:00:00 -9999", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Mon, 99 Jan 2024 00:00:00 GMT", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan " + "9" * 5000 + " 00:00:00 GMT", None),
        ("1.5", None),
        ("\u0663", None),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, expected: float | None) -> None:
    assert retry_after_s(value, datetime(2026, 10, 21, 7, 28, 0, tzinfo=timezone.utc)) == expected
