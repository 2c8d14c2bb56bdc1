"""The terminal's tables of all protocols: what counts for a task, means over seeds, and columns that wrap."""

from __future__ import annotations

from react_ray.evals.score import ALL_SHOTS, ZERO_SHOT, Score, place_of
from react_ray.report.intervals import Gain
from react_ray.report.score_table import WIDTH, score_tables


def zero_shot(model: str, task: str, metric: str, value: float) -> Score:
    return Score(ZERO_SHOT, model, "test", task, metric, value, 100)


def test_a_task_is_shown_by_the_metric_that_counts_for_it() -> None:
    scores = [
        zero_shot(model, task, metric, value + add)
        for model, add in (("base", 0.0), ("gated_image", 0.02))
        for task, metric, value in (
            ("pets", "top1", 0.1),
            ("pets", "mean_per_class", 0.2),
            ("food", "top1", 0.3),
            ("mean", "top1", 0.4),
            ("mean", "task_metric", 0.5),
        )
    ]
    assert score_tables(scores, {"pets": "mean_per_class"}) == (
        "zero-shot on test, points\n"
        "             pets mean_per_class  food top1  mean\n"
        "base                        20.0       30.0  50.0\n"
        "gated_image                 22.0       32.0  52.0\n"
    )


def test_few_labels_show_each_number_of_shots_as_a_mean_over_seeds_and_others_each_metric() -> None:
    scores = [
        Score("linear-probe", "base", "test", task, metric, value, 100, shots, seed)
        for shots, values in ((1, (0.1, 0.2)), (4, (0.3,)), (ALL_SHOTS, (0.5,)))
        for seed, value in enumerate(values)
        for task, metric in (("birds", "top1"), ("food", "top1"), ("mean", "top1"), ("mean", "task_metric"))
    ]
    scores.append(Score("retrieval", "base", "captions", "captions", "image_recall@5", 0.75, 10))
    assert score_tables(scores, {}) == (
        "linear-probe on test, points\n"
        "          1 shot  4 shots   all\n"
        "base  15.0 ± 7.1     30.0  50.0\n"
        "\n"
        "retrieval on captions, points\n"
        "      image_recall@5\n"
        "base            75.0\n"
    )


def test_a_star_marks_what_differs_from_the_base_beyond_its_interval() -> None:
    scores = [Score("retrieval", model, "x", "", f"r@{k}", 0.5, 10) for model in ("base", "gated") for k in (1, 5)]
    gains = {
        place_of(scores[2]): Gain(0.2, 0.1, 0.3, 40, p=0.001),
        place_of(scores[3]): Gain(0.1, -0.1, 0.3, 40, p=0.3),
    }
    assert score_tables(scores, {}, gains) == (
        "retrieval on x, points\n"
        "         r@1    r@5\n"
        "base   50.0   50.0\n"
        "gated  50.0*  50.0\n"
        "*: differs from its base; 95 % interval, paired bootstrap over images within each task.\n"
    )
    assert "*" not in score_tables(scores, {})


def test_many_tasks_wrap_and_a_figure_that_is_missing_is_a_dash() -> None:
    scores = [zero_shot("base", f"task number {number}", "top1", 0.5) for number in range(9)]
    scores.append(zero_shot("other", "task number 0", "top1", 0.25))
    text = score_tables(scores, {})
    assert all(len(line) <= WIDTH for line in text.splitlines())
    assert text.startswith("zero-shot on test, top1, points\n       task number 0  task number 1")
    assert text.count("50.0") == 9 and text.count("25.0") == 1 and text.count("–") == 8
