"""Which failures may pass and which stay."""

from __future__ import annotations

import pytest

from react_ray.web import status
from react_ray.web.status import http_status, is_retriable


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 520])
def test_a_busy_or_broken_server_may_be_asked_again(code: int) -> None:
    assert is_retriable(http_status(code))


@pytest.mark.parametrize("code", [204, 301, 400, 401, 403, 404, 410, 451, 501, 505])
def test_an_answer_that_stays_is_final(code: int) -> None:
    assert not is_retriable(http_status(code))


def test_what_was_refused_on_purpose_is_never_retried() -> None:
    refusals = {
        status.OK,
        status.NO_URL,
        status.BAD_URL,
        status.SCHEME_REFUSED,
        status.BLOCKED_DOMAIN,
        status.BLOCKED_ADDRESS,
        status.ROBOTS,
        status.OPTED_OUT,
        status.TOO_MANY_BYTES,
        status.REDIRECT_LOOP,
    }
    assert not any(map(is_retriable, refusals))


def test_no_two_statuses_share_a_name() -> None:
    names = [value for name, value in vars(status).items() if name.isupper() and isinstance(value, str)]
    assert len(set(names)) == len(names)
    assert set(names) >= status.RETRIABLE | status.CONGESTED
