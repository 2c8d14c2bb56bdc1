"""What a training is left to take from its pairs: batch, epochs, warm-up and rates."""

from __future__ import annotations

import math

import pytest

from react_ray.gated.config import CustomizeConfig
from react_ray.training.schedule import (
    batch_size_for,
    described,
    from_data,
    learning_rate,
    num_steps,
    schedule_of,
    sum_of_rates,
)

REACT = {"batch_size": 4096, "epochs": 32, "warmup_steps": 5000, "lr": 5e-4, "gate_lr_scale": 1}


def config(**values: object) -> CustomizeConfig:
    return CustomizeConfig.model_validate({"lr": 0.1, "warmup_steps": 4, **values})


def settled(num_pairs: int, **given: object) -> dict[str, float]:
    return schedule_of(from_data(CustomizeConfig.model_validate(given), num_pairs))


def test_learning_rate_warms_up_and_ends_near_zero() -> None:
    factors = [learning_rate(step, 20, config()) for step in range(20)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[3:] == sorted(factors[3:], reverse=True)
    assert factors[12] == pytest.approx(0.5 * (1 + math.cos(math.pi * 8 / 16)))
    assert 0 < factors[-1] < 0.02
    assert max(learning_rate(step, 20, config(warmup_steps=5000)) for step in range(20)) == 1


@pytest.mark.parametrize("total", [1, 2, 7, 300])
@pytest.mark.parametrize("warmup", [0, 1, 5, 299, 5000])
def test_the_sum_of_the_rates_is_that_of_all_steps(total: int, warmup: int) -> None:
    given = config(warmup_steps=warmup)
    every = sum(given.lr * learning_rate(step, total, given) for step in range(total))
    assert sum_of_rates(total, given) == pytest.approx(every)


def test_the_pairs_of_react_get_the_schedule_of_react() -> None:
    assert settled(8_530_639) == REACT
    assert settled(8_530_639, method="locked-text") == REACT | {"lr": 5e-5}
    assert settled(8_530_639, method="full", train_on="source") == REACT  # it may begin with random weights


@pytest.mark.parametrize(
    ("num_pairs", "size"),
    [(1, 2), (9, 2), (30, 4), (100, 16), (128, 32), (1000, 32), (3191, 128), (90_000, 2048), (100_000, 4096)],
)
def test_a_batch_is_about_a_32nd_of_the_pairs(num_pairs: int, size: int) -> None:
    assert batch_size_for(num_pairs) == size


def test_every_number_of_pairs_gets_a_power_of_two_and_gates_that_can_open() -> None:
    for num_pairs in [*range(16, 400), *range(400, 300_000, 997)]:
        found = from_data(CustomizeConfig(), num_pairs)
        steps = num_steps(found, num_pairs)
        assert found.batch_size.bit_count() == 1 and steps >= 96
        assert found.warmup_steps <= steps / 10
        assert sum_of_rates(steps, found) * found.gate_lr_scale >= 0.24


def test_what_is_given_stays_and_the_rest_follows_from_it() -> None:
    assert settled(3000, **REACT) == REACT
    found = settled(3000, batch_size=300, epochs=10, warmup_steps=0)
    assert found == {"batch_size": 300, "epochs": 10, "warmup_steps": 0, "lr": 5e-4, "gate_lr_scale": 10}
    assert settled(3000, method="lora", batch_size=300, epochs=1)["gate_lr_scale"] == 1  # it has no gates
    assert settled(3000, lr=0.1)["gate_lr_scale"] == 1  # its gates open without


def test_a_settled_schedule_is_settled() -> None:
    once = from_data(CustomizeConfig(), 3191)
    assert from_data(once, 12) == once


def test_a_schedule_is_told_in_one_line() -> None:
    assert described(from_data(CustomizeConfig(), 3191), 3191) == (
        "3,191 pairs, 32 epochs in batches of 128: 768 steps, 76 of them warm-up, learning rate 0.0005, gates x 5.2"
    )
    given = from_data(CustomizeConfig(method="locked-text", epochs=1, batch_size=1000, warmup_steps=500), 3000)
    assert described(given, 3000) == (
        "3,000 pairs, 1 epoch in batches of 1,000: 3 steps, 0 of them warm-up, learning rate 5e-05"
    )
