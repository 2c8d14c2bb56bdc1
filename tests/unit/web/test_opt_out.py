"""Every way of writing an opt-out is understood, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from react_ray.web.opt_out import opted_out


def directive(*values: str, name: str = "X-Robots-Tag") -> str | None:
    return opted_out(CIMultiDictProxy(CIMultiDict([(name, value) for value in values])), "react_ray")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["noai"], "noai"),
        (["NoImageAI"], "noimageai"),
        (["nofollow, noimageindex"], "noimageindex"),
        (["nofollow", "noindex"], "noindex"),
        (["none"], "none"),
        (["react_ray: noai"], "noai"),
        (["React_Ray: nofollow, noindex"], "noindex"),
        (["otherbot: nofollow, react_ray: noai"], "noai"),
        (["*: noai"], "noai"),
        (["max-image-preview: none, noai"], "noai"),
    ],
)
def test_an_opt_out_is_found(values: list[str], expected: str) -> None:
    assert directive(*values) == expected


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["all"],
        ["nofollow, noarchive"],
        ["otherbot: noai, noindex"],
        ["max-image-preview: none"],
        ["unavailable_after: 25 Jun 2010 15:00:00 PST"],
        ["noaiart"],
    ],
)
def test_other_directives_and_other_agents_are_none(values: list[str]) -> None:
    assert directive(*values) is None


def test_rights_to_mining_can_be_reserved() -> None:
    assert directive("1", name="TDM-Reservation") == "tdm-reservation: 1"
    assert directive("0", name="TDM-Reservation") is None
