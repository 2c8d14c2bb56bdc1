"""No damaged, odd or hostile input ends in a traceback, a hang, a crash, a lost row or more than 1.5 GB of memory."""

from __future__ import annotations

import pytest

from tests.campaign.run import DOORS, campaign, report


@pytest.mark.parametrize("door", list(DOORS))
def test_a_tenth_of_the_campaign_ends_well(door: str) -> None:
    failures = report(campaign(0.1, doors=[door], num_workers=1))  # another test has the other core
    assert not failures, "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("door", list(DOORS))
def test_the_whole_campaign_ends_well(door: str) -> None:
    failures = report(campaign(1.0, doors=[door]))
    assert not failures, "\n".join(failures)
