"""What changes a result is digested, what changes speed is not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from react_ray.section import MOST_SHOWN, Section, differences, digest, field, speed


class Inner(Section):
    rate: float = field(0.5, "changes results")
    threads: int = speed(1, "changes speed", ge=1)


class Outer(Section):
    k: int = field(10, "changes results", ge=1)
    names: list[str] = field([], "changes results")
    inner: Inner = field(Inner(), "a section of its own")
    several: tuple[Inner, ...] = field((), "sections of their own")
    placement: Inner = speed(Inner(), "changes speed")
    where: str = speed("", "changes the place")


def test_digest_does_not_depend_on_the_order_of_keys_but_on_every_value() -> None:
    config = {"a": 1, "b": {"c": [1, 2], "d": None}}
    assert digest(config) == digest({"b": {"d": None, "c": [1, 2]}, "a": 1})
    others: list[Any] = [{"a": 1, "b": {"c": [2, 1], "d": None}}, {"a": 1}, {"a": "1", "b": {"c": [1, 2], "d": None}}]
    assert len({digest(other) for other in [config, *others]}) == 4


def test_speed_fields_are_not_digested_at_any_depth() -> None:
    plain = Outer(several=(Inner(),))
    fast = Outer(
        inner=Inner(threads=8), several=(Inner(threads=4),), placement=Inner(rate=0.1, threads=2), where="s3://bucket"
    )
    assert plain.digested() == fast.digested()
    assert plain.digested() == {"k": 10, "names": [], "inner": {"rate": 0.5}, "several": [{"rate": 0.5}]}


@pytest.mark.parametrize(
    "change", [{"k": 11}, {"names": ["a"]}, {"inner": Inner(rate=0.6)}, {"several": (Inner(), Inner())}]
)
def test_every_other_field_is(change: dict[str, Any]) -> None:
    assert digest(Outer(**change).digested()) != digest(Outer().digested())


@pytest.mark.parametrize("given", [{"kk": 1}, {"k": 0}, {"k": "ten"}, {"inner": {"rates": 1}}])
def test_what_is_not_declared_or_not_allowed_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Outer(**given)


def test_a_section_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Outer().k = 3  # type: ignore[misc]


def test_a_difference_of_long_values_shows_what_surrounds_it() -> None:
    names = [f"class {number}" for number in range(1000)]
    [line] = differences({"a": {"names": names}}, {"a": {"names": [*names[:500], "heron", *names[501:]]}}, "recipe")
    was, _, now = line.partition(", now ")
    assert was.startswith("recipe.a.names was ...") and was.endswith("...") and "'class 500'" in was
    assert "'class 499', 'heron', 'class 501'" in now and len(line) < 3 * MOST_SHOWN
    [line] = differences({"names": names}, {"names": names[:-1]}, "recipe")
    assert line.endswith("'class 998']") and "'class 998', 'class 999'], now ..." in line
    assert differences({"a": 1, "b": "x"}, {"a": 2, "b": "x"}, "recipe") == ["recipe.a was 1, now 2"]
