"""What of a FetchConfig names a result, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from react_ray.section import digest
from react_ray.web.fetch_config import FetchConfig


def test_limits_of_speed_do_not_name_the_result_and_rules_do() -> None:
    base = digest(FetchConfig().digested())
    fast = FetchConfig(max_in_flight=7, adaptive=False, per_host_concurrency=1, per_host_rate=2.0, num_dns_threads=3)
    assert digest(fast.digested()) == base
    for changed in ({"user_agent": "me"}, {"max_bytes": 5}, {"respect_opt_out": False}, {"blocked": ["a.example"]}):
        assert digest(FetchConfig(**changed).digested()) != base


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow_schemes": ["ftp"]},
        {"allow_schemes": []},
        {"user_agent": "two\nlines"},
        {"user_agent_token": "a b"},
        {"connect_timeout_s": 0},
        {"retries": -1},
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        FetchConfig(**wrong)


def test_a_recipe_loads_without_the_http_client() -> None:
    code = "import sys, react_ray.web.fetch_config; assert 'aiohttp' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
