"""Zero-shot predictions equal those of a plain loop, and unreadable images count as wrong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from react_ray import schema
from react_ray.errors import ConfigError
from react_ray.evals.zeroshot import check_readable, classify, predict, summarise
from react_ray.training.scorer import ClassVectors


def vectors(num: int, seed: int) -> np.ndarray:
    out = np.random.default_rng(seed).standard_normal((num, 6))
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_rank_and_top1_equal_a_plain_loop_and_do_not_depend_on_the_batch() -> None:
    images, classes = vectors(40, 0).astype(np.float16), vectors(9, 1).astype(np.float32)
    labels = np.random.default_rng(2).integers(0, 9, 40)
    found = classify(images, ClassVectors(classes), labels)
    for i in range(40):
        scores = [float(np.float32(images[i].astype(np.float64) @ c.astype(np.float64))) for c in classes]
        order = sorted(range(9), key=lambda c: (-scores[c], c))
        assert found.top1[i] == order[0]
        assert found.rank[i] == order.index(labels[i])
        assert found.score[i] == np.float32(scores[order[0]])
        alone = classify(images[i : i + 1], ClassVectors(classes), labels[i : i + 1])
        assert (alone.top1[0], alone.rank[0], alone.score[0]) == (found.top1[i], found.rank[i], found.score[i])


def test_a_constant_classifier_earns_nothing_but_its_first_class() -> None:
    images, classes = vectors(8, 3).astype(np.float16), np.tile(vectors(1, 4), (4, 1)).astype(np.float32)
    found = classify(images, ClassVectors(classes), np.array([0, 1, 2, 3] * 2))
    assert found.rank.tolist() == [0, 1, 2, 3] * 2 and found.top1.tolist() == [0] * 8


def test_scores_that_are_no_numbers_are_no_result() -> None:
    with pytest.raises(AssertionError, match="NaN"):
        classify(vectors(2, 0).astype(np.float16), ClassVectors(np.full((3, 6), np.nan, np.float32)), np.array([0, 1]))


def test_an_image_that_failed_counts_as_wrong_and_keeps_its_row() -> None:
    classes = np.eye(6, dtype=np.float32)
    images = np.eye(6, dtype=np.float16)
    images[2] = np.nan
    names = [f"c{i}" for i in range(6)]
    table = predict(images, ClassVectors(classes), names, names, "validation", "letters", first_row=10)
    assert table.schema.equals(schema.PREDICTIONS)
    assert table["row"].to_pylist() == [10, 11, 12, 13, 14, 15]
    assert table.slice(2, 1).to_pylist() == [
        {
            "row": 12,
            "dataset": "validation",
            "task": "letters",
            "label": "c2",
            "predicted": None,
            "score": None,
            "rank": None,
        }
    ]
    assert summarise(table) == [
        ("validation", "letters", "top1", 5 / 6, 6),
        ("validation", "letters", "top5", 5 / 6, 6),
        ("validation", "letters", "mean_per_class", 5 / 6, 6),
        ("validation", "mean", "top1", 5 / 6, 6),
        ("validation", "mean", "top5", 5 / 6, 6),
        ("validation", "mean", "mean_per_class", 5 / 6, 6),
        ("validation", "mean", "task_metric", 5 / 6, 6),
        ("validation", "mean", "unreadable", 1 / 6, 6),
    ]


def test_the_mean_weighs_tasks_and_not_images() -> None:
    classes = np.eye(6, dtype=np.float32)
    names = list("abcdef")
    right = predict(np.eye(6, dtype=np.float16), ClassVectors(classes), names, names, "test", "big")
    wrong = predict(np.eye(6, dtype=np.float16)[:1], ClassVectors(classes), names, ["f"], "test", "small")
    rows = summarise(pa.concat_tables([right, wrong]))
    assert [row[:2] for row in rows[::3]] == [("test", "big"), ("test", "small"), ("test", "mean"), ("test", "mean")]
    assert {row[2]: row[3:] for row in rows if row[1] == "mean"} == dict.fromkeys(
        ("top1", "top5", "mean_per_class", "task_metric"), (0.5, 7)
    )


def test_a_class_name_that_occurs_twice_is_right_for_either() -> None:
    classes = np.eye(6, dtype=np.float32)
    names = ["missile", "b", "c", "d", "e", "missile"]
    table = predict(
        np.eye(6, dtype=np.float16)[[0, 5]], ClassVectors(classes), names, ["missile", "missile"], "test", "t"
    )
    assert table["rank"].to_pylist() == [0, 0]


def test_a_label_that_is_a_position_means_one_of_two_classes_with_a_name() -> None:
    classes = np.eye(6, dtype=np.float32)
    names = ["missile", "b", "c", "d", "e", "missile"]
    images, labels, position = np.eye(6, dtype=np.float16)[[0, 5, 5]], ["missile"] * 3, np.array([5, 5, -1])
    table = predict(images, ClassVectors(classes), names, labels, "test", "t", position_N=position)
    assert table["rank"].to_pylist() == [5, 0, 0]


def test_labels_that_are_no_class_are_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.datasets\.test: 1 labels .*'herron'; did you mean 'heron'"):
        predict(
            np.eye(2, dtype=np.float16),
            ClassVectors(np.eye(2, dtype=np.float32)),
            ["heron", "owl"],
            ["owl", "herron"],
            "test",
            "birds",
        )


def test_images_that_cannot_be_decoded_are_counted_and_too_many_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    images[3] = np.nan
    found = predict(images, ClassVectors(np.eye(2, dtype=np.float32)), ["a", "b"], ["a", "b", "a", "b"], "test", "task")
    check_readable(found, most=0.25)
    assert "evaluate.datasets.test: 1 of 4 images cannot be decoded and count as wrong" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"1 of 4 images .* mend the set, or allow it with --allow-missing or"):
        check_readable(found, most=0.24)
    check_readable(found.slice(0, 3), most=0)
    assert capsys.readouterr().err == ""
