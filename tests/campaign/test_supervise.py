"""A case may do anything to its process: the campaign goes on, and says what happened to which case."""

from __future__ import annotations

from collections import Counter

from tests.campaign.case import CRASH, HANG, MEMORY, OK, REFUSED, TRACEBACK, WRONG
from tests.campaign.faults import FAULTS
from tests.campaign.run import report, summary
from tests.campaign.supervise import run_cases

EXPECTED = [OK, REFUSED, WRONG, WRONG, TRACEBACK, CRASH, CRASH, MEMORY, HANG]


def test_every_fault_is_seen_and_the_cases_after_it_are_run() -> None:
    results = run_cases([("faults", number) for number in [*range(len(FAULTS)), 0, 1]], 0, 1, hang_s=20)
    assert [result.kind for result in results] == [*EXPECTED, OK, REFUSED]
    counted = summary(results)
    assert [counted[name] for name in ("tracebacks", "hangs", "crashes", "wrong")] == [1, 1, 2, 3]
    assert counted["peak_rss_gb"] > 1.5
    failures = Counter({kind: count for kind, count in Counter(EXPECTED).items() if kind not in (OK, REFUSED)})
    assert len(report(results)) == failures.total()


def test_a_case_is_the_same_in_every_campaign() -> None:
    once, again = (run_cases([("images", 3), ("recipes", 5)], 0, 1) for _ in range(2))
    assert [result.text for result in once] == [result.text for result in again]
