"""What a user sees of a stage, and the metrics stream."""

from __future__ import annotations

import re

import pytest

from react_ray import progress as progress_lines
from react_ray.progress import Metrics, Progress
from react_ray.storage import Storage


@pytest.mark.parametrize(
    "rows, ok, done, note, pattern",
    [
        (0, None, 0, "", r"embed +0/4 parts +0 pairs +0 pairs/s +\d+ s"),
        (1500, None, 1, "", r"embed +1/4 parts +1,500 pairs +[\d,]+ pairs/s  ETA [\d,]+ s +\d+ s"),
        (2000, 1999, 4, "", r"embed +4/4 parts +2,000 pairs +[\d,]+ pairs/s  100\.0 % ok +\d+ s"),
        (
            10,
            9,
            3,
            "loss 2.1",
            r"embed +3/4 parts +10 pairs +[\d,]+ pairs/s  90\.0 % ok  ETA [\d,]+ s +\d+ s  loss 2\.1",
        ),
    ],
)
def test_a_line_says_parts_rows_speed_failures_and_the_time_left(
    rows: int, ok: int | None, done: int, note: str, pattern: str
) -> None:
    progress = Progress("embed", 4, "pairs")
    progress.advance(rows=rows, ok=ok, done=done, note=note)
    assert re.fullmatch(pattern, progress.line())


def test_without_a_terminal_the_first_and_the_last_line_are_plain_and_go_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("a_long_name_of_a_stage", 100, "images of many kinds", "steps") as progress:
        for _ in range(100):
            progress.advance(
                rows=1_000_000, note="[bold]not markup[/bold], and long enough for more than eighty columns"
            )
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and "\x1b" not in err
    assert "0/100 steps" in lines[0] and "100/100 steps" in lines[-1] and lines[-1].endswith("eighty columns")
    assert "[bold]not markup[/bold]" in lines[-1]


def test_a_last_line_that_was_printed_is_not_printed_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_lines, "PLAIN_INTERVAL_S", (1e6, 1e6))  # however busy the machine is
    with Progress("embed", 2, "pairs") as progress:
        progress.advance(rows=3)
        progress.advance(rows=3)
        progress._show(force=True)  # as when a line was due
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_the_log_of_a_night_has_a_line_every_minute() -> None:
    assert [progress_lines.plain_interval(s) for s in (0, 40, 600, 36_000)] == [2, 2, 30, 60]


def test_a_stage_that_does_not_know_its_size_yet_says_what_it_waits_for() -> None:
    progress = Progress("train", 0, "pairs", "steps", note="starting workers")
    assert re.fullmatch(r"train +starting workers  \d+ s", progress.line())
    progress.total = 8
    progress.advance(rows=64, note="loss 2.1")
    assert re.fullmatch(r"train +1/8 steps .* loss 2\.1", progress.line())


def test_what_failed_is_counted_over_all_parts() -> None:
    progress = Progress("embed", 2)
    progress.advance(rows=10, ok=5)
    progress.advance(rows=10)
    assert (progress.done, progress.rows, progress.ok) == (2, 20, 15) and "75.0 % ok" in progress.line()


def test_a_resumed_run_has_the_metrics_of_an_uninterrupted_one(place: Storage) -> None:
    whole, first = Metrics(place, "whole"), Metrics(place, "train")
    for step in range(10):
        whole.log(step, loss=1 / (step + 3), lr=1e-3)
    for step in range(8):
        first.log(step, loss=1 / (step + 3) if step <= 5 else float("nan"), lr=1e-3)
    whole.flush()
    first.flush()
    resumed = Metrics(place, "train")
    assert len(resumed.rows()) == 8
    resumed.drop_after(5)
    for step in range(6, 10):
        resumed.log(step, lr=1e-3, loss=1 / (step + 3))
    resumed.flush()
    assert place.read("metrics/train.jsonl") == place.read("metrics/whole.jsonl")
    assert Metrics(place, "train").rows()[3] == {"step": 3, "loss": 1 / 6, "lr": 1e-3}


def test_no_metrics_yet_are_no_rows(place: Storage) -> None:
    Metrics(place, "train").flush()
    again = Metrics(place, "train")
    again.drop_after(0)
    assert again.rows() == []
