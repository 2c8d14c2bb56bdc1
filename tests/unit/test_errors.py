"""Users' mistakes end with exit code 2, everything else with 1."""

from __future__ import annotations

import inspect

import pytest

from react_ray import errors
from react_ray.errors import ReactRayError

ALL = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__}


def test_every_error_is_one_a_user_can_catch_by_one_name() -> None:
    assert all(issubclass(kind, ReactRayError) for kind in ALL.values())


@pytest.mark.parametrize("name", sorted(ALL))
def test_only_what_the_user_cannot_put_right_ends_with_exit_code_1(name: str) -> None:
    assert ALL[name].exit_code == (1 if name in ("ShardUnavailable", "PartFailed", "ClusterError") else 2)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = [line.split()[0] for line in (errors.__doc__ or "").splitlines() if line.strip().split(" ")[0] in ALL]
    assert sorted(drawn) == sorted(ALL)
    indent = {
        line.split()[0]: len(line) - len(line.lstrip()) for line in (errors.__doc__ or "").splitlines() if line.strip()
    }
    for name, kind in ALL.items():
        assert indent[name] == 2 * (len(kind.__mro__) - len(ReactRayError.__mro__)), name
