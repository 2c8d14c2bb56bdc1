"""robots.txt, read as RFC 9309 says."""

from __future__ import annotations

import pytest

from react_ray.web.robots import parse_robots

EXAMPLE = """\ufeff# comment
User-agent: *
Disallow: /

User-Agent: otherbot
User-agent: React_Ray   # two names share a group
Disallow: /private/
Allow: /private/open
Disallow: /*.gif$
Disallow: /a*b/
Crawl-delay: 5
Sitemap: http://example.org/sitemap.xml

User-agent: react_ray
Disallow: /second
Disallow:
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", True),
        ("/public", True),
        ("/private/x", False),
        ("/private/open/x", True),
        ("/private", True),
        ("/x/y.gif", False),
        ("/x/y.gif?z", True),
        ("/a/c/b/", False),
        ("/second", False),
    ],
)
def test_the_longest_rule_of_the_own_group_wins(path: str, allowed: bool) -> None:
    assert parse_robots(EXAMPLE, "react_ray").allow(path) == allowed


def test_an_agent_without_a_group_has_that_of_all() -> None:
    assert not parse_robots(EXAMPLE, "somebot").allow("/public")


def test_allow_wins_a_tie() -> None:
    assert parse_robots("User-agent: *\nDisallow: /x\nAllow: /x", "a").allow("/x")


@pytest.mark.parametrize("text", ["", "<html>not found</html>", "Disallow: /", "User-agent: *\nDisallow:", "\x00:\x01"])
def test_a_file_that_says_nothing_forbids_nothing(text: str) -> None:
    assert parse_robots(text, "react_ray").allow("/x")


def test_a_rule_with_many_stars_is_decided_at_once() -> None:
    rules = parse_robots("User-agent: *\nDisallow: /" + "*a" * 40 + "$", "react_ray")
    assert rules.allow("/" + "a" * 2000 + "b")
