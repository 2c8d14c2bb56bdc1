"""A plan as people and programs read it."""

from __future__ import annotations

import json

import pytest

from react_ray.planning.job_plan import JobPlan, StagePlan, duration, size


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(None, "?"), (0, "0 kB"), (1536, "2 kB"), (5 * 2**20, "5.0 MB"), (250 * 2**30, "250 GB")]
)
def test_a_size_has_a_unit_that_fits(num_bytes: float | None, text: str) -> None:
    assert size(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h"), (5 * 86400, "5.0 days")]
)
def test_a_duration_has_a_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def stage(name: str, seconds: float | None, state: str = "to do") -> StagePlan:
    return StagePlan(name, state, 1000, 2**20, 2**21, 7, 1.5, seconds, "as it was tried")


def test_what_is_not_known_is_left_out_of_the_sum_and_named() -> None:
    known = JobPlan(
        "x", [("source", "here")], [stage("ingest", 60), stage("embed", 5400), stage("index", None, "done")]
    )
    assert known.seconds == 5460
    assert known.text().splitlines()[-1] == "in all: 1.5 h on this machine; 4.0 MB to write, at most 1.5 GB of memory"
    unknown = JobPlan("x", [], [stage("ingest", 60), stage("download", None)])
    assert unknown.seconds is None
    last = "in all: 60 s on this machine without download, whose time is not known; 4.0 MB to write, "
    assert last in unknown.text() and "not known" in unknown.text()
    assert JobPlan("x", [], [stage("index", 1, "done")]).text().endswith("in all: nothing is left to do")


def test_every_problem_and_every_reason_stands_in_the_text_and_in_the_json() -> None:
    plan = JobPlan("x", [], [stage("embed", 3)], ["a training"], ["a note"], ["one; mend it", "two; mend it"])
    lines = plan.text().splitlines()
    assert lines[-2:] == ["problem: one; mend it", "problem: two; mend it"]
    assert "    as it was tried" in lines and "a training" in lines and "note: a note" in lines
    values = json.loads(json.dumps(plan.values()))
    assert values["stages"][0]["how"] == "as it was tried" and values["problems"] == plan.problems
    assert values["seconds"] == 3 and values["bytes_written"] == 2**21


def test_a_finished_stage_takes_nothing() -> None:
    row = JobPlan("x", [], [stage("index", 3, "done")]).text().splitlines()[1]
    assert row.split() == ["index", "done", "1,000", "2.0", "MB"]
