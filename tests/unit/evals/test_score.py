"""A score and a row of the table of scores are the same."""

from __future__ import annotations

from react_ray.evals.score import ALL_SHOTS, Score, score_table


def test_a_table_of_scores_gives_them_back() -> None:
    scores = [
        Score("zero-shot", "base", "test", "birds", "top1", 0.5, 816),
        Score("linear-probe", "base", "test", "birds", "top1", 0.75, 816, ALL_SHOTS, 2, "last epoch"),
    ]
    assert [Score(**row) for row in score_table(scores).to_pylist()] == scores
    assert score_table([]).num_rows == 0
