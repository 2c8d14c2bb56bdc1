"""Intervals of gains: right widths, the same numbers every time, and no gain out of noise."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest

from react_ray.evals.resampled import mean_per_class, share
from react_ray.report.intervals import (
    FEWEST_CHANGED,
    RESAMPLES,
    Gain,
    Paired,
    holm,
    mcnemar,
    method,
    paired_gain,
    paired_metric_gain,
)


def differences(gained: int, lost: int, same: int) -> np.ndarray:
    return np.repeat(np.array([1, -1, 0], np.int8), [gained, lost, same])[None]


def test_the_interval_of_one_task_agrees_with_the_normal_approximation() -> None:
    gain = paired_gain([differences(120, 80, 800)])
    assert gain.value == pytest.approx(0.04) and gain.num_changed == 200
    deviation = np.sqrt((0.2 - 0.04**2) / 1000)  # of the mean of 1,000 differences
    assert gain.low == pytest.approx(0.04 - 1.96 * deviation, abs=0.002)
    assert gain.high == pytest.approx(0.04 + 1.96 * deviation, abs=0.002)


def test_tasks_weigh_the_same_whatever_their_size() -> None:
    gain = paired_gain([differences(10, 0, 0), differences(0, 0, 990)])
    assert gain.value == 0.5 and gain.low == gain.high == 0.5  # every resample of a task is all gained, or all the same


def test_bootstrapping_images_one_by_one_gives_the_same_interval() -> None:
    random = np.random.default_rng(1)
    tasks = [random.choice([-1, 0, 1], p=[0.1, 0.7, 0.2], size=(3, n)) for n in (40, 90)]
    gain = paired_gain(tasks)
    resampled = []
    for _ in range(4000):
        seeds = random.integers(0, 3, 3)
        resampled.append(np.mean([t[seeds][:, random.integers(0, t.shape[1], t.shape[1])].mean() for t in tasks]))
    assert [gain.low, gain.high] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.008)
    assert gain.num_seeds == 3 and gain.value == pytest.approx(np.mean([t.mean() for t in tasks]))


def test_seeds_that_disagree_widen_the_interval() -> None:
    agreeing = np.repeat(differences(60, 20, 120), 2, axis=0)
    disagreeing = np.concatenate([differences(100, 0, 100), differences(20, 40, 140)])
    narrow, wide = paired_gain([agreeing]), paired_gain([disagreeing])
    assert narrow.value == wide.value
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_noise_is_no_gain_about_nineteen_times_in_twenty() -> None:
    random = np.random.default_rng(0)
    noise = [random.choice([-1, 0, 1], p=[0.15, 0.7, 0.15], size=(1, 200)) for _ in range(300)]
    told_apart = sum(paired_gain([one], resamples=1000).told_apart for one in noise)
    assert 3 <= told_apart <= 30


def test_a_handful_of_images_proves_nothing() -> None:
    few = paired_gain([differences(FEWEST_CHANGED - 1, 0, 0)])
    assert few.low > 0 and not few.told_apart and few.direction == "same"
    assert paired_gain([differences(FEWEST_CHANGED, 0, 0)]).direction == "gain"
    assert paired_gain([differences(0, FEWEST_CHANGED, 0)]).direction == "loss"
    assert paired_gain([differences(0, 0, 50)]) == Gain(0.0, 0.0, 0.0, 0, p=1.0, mcnemar=1.0)


def test_mcnemar_s_test_has_to_agree_where_it_asks_the_same() -> None:
    unsure = paired_gain([differences(11, 3, 69)])
    assert unsure.low > 0 and unsure.p < 0.05 and unsure.mcnemar == pytest.approx(0.0574, abs=1e-4)
    assert unsure.is_in_doubt and unsure.direction == "same"
    assert unsure._replace(num_tasks=8).direction == "gain"  # where the test pools the images of tasks


def test_the_interval_of_any_metric_is_that_of_accuracy_for_accuracy() -> None:
    random = np.random.default_rng(2)
    tasks = [(random.random(n) < 0.5, random.random(n) < 0.4) for n in (90, 150)]
    wanted = paired_gain([(one.astype(int) - other)[None] for one, other in tasks])
    found = paired_metric_gain([Paired(share(one), share(other), one != other) for one, other in tasks])
    assert found[:3] == pytest.approx(wanted[:3], abs=0.01) and found.value == pytest.approx(wanted.value)
    assert (found.num_changed, found.num_tasks, found.mcnemar) == (wanted.num_changed, 2, None)


def test_few_images_of_a_class_widen_the_interval_of_a_mean_over_classes() -> None:
    label_N, one_N = np.repeat([0, 1], [100, 4]), np.repeat([True, False, True, False], [80, 20, 3, 1])
    other_N = np.repeat([True, False, True, False], [70, 30, 1, 3])
    gain = paired_metric_gain(
        [Paired(*(mean_per_class(label_N, correct_N) for correct_N in (one_N, other_N)), one_N != other_N)]
    )
    assert gain.value == pytest.approx((0.1 + 0.5) / 2) and gain.high - gain.low > 0.35


def test_a_metric_without_a_value_is_no_gain() -> None:
    none = lambda weight_BN: np.full(len(weight_BN), np.nan)  # noqa: E731
    gain = paired_metric_gain([Paired(none, none, np.ones(8, bool))])
    assert np.isnan(gain.value) and gain.direction == "same"


def test_the_p_value_agrees_with_the_normal_approximation_and_has_a_floor() -> None:
    deviation = np.sqrt((0.2 - 0.02**2) / 1000)
    z = 0.02 / deviation
    gain = paired_gain([differences(110, 90, 800)])
    assert gain.p == pytest.approx(2 * (1 - NormalDist().cdf(z)), abs=0.015)
    assert paired_gain([differences(90, 110, 800)]).p == pytest.approx(gain.p, abs=0.015)
    assert paired_gain([differences(90, 0, 10)]).p == pytest.approx(2 / (RESAMPLES + 1))


def test_holm_multiplies_the_smallest_by_the_number_of_tasks_and_keeps_the_order() -> None:
    given = {"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.6}
    found = holm({task: Gain(0.1, 0.05, 0.15, 9, p=p) for task, p in given.items()})
    assert {task: round(gain.p, 6) for task, gain in found.items()} == {"a": 0.09, "b": 0.04, "c": 0.09, "d": 0.6}
    assert list(found) == list(given) and [gain.direction for gain in found.values()] == [
        "same",
        "gain",
        "same",
        "same",
    ]
    assert holm({"a": Gain(0.1, 0.05, 0.15, 9, p=0.04)})["a"].told_apart


def test_the_same_differences_give_the_same_numbers() -> None:
    tasks = [differences(30, 20, 50), differences(5, 9, 60)]
    assert paired_gain(tasks) == paired_gain([task.copy() for task in tasks])


def test_the_method_is_named() -> None:
    assert "over images" in method(1) and "over 3 seeds and images" in method(3)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (5, 0), (6, 0), (12, 3), (3, 12), (40, 40), (900, 800), (100_000, 99_000)]
)
def test_mcnemar_is_the_exact_test_of_the_changed_images(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)
    if 0 < gained + lost < 2000:
        assert paired_gain([differences(gained, lost, 50)]).mcnemar == mcnemar(gained, lost)


def test_mcnemar_by_hand() -> None:
    """Of 5 changed images 4 are better: 5 or 4 of 5 heads, and as many tails, are 2 * (1 + 5) of 32 outcomes."""
    assert mcnemar(4, 1) == pytest.approx(12 / 32)
    tasks = [differences(3, 0, 10), differences(1, 1, 5)]
    assert paired_gain(tasks).mcnemar == pytest.approx(12 / 32)


def test_mcnemar_is_not_of_images_that_several_seeds_share() -> None:
    assert paired_gain([np.ones((2, 10), np.int8)]).mcnemar is None
