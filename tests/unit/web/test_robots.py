"""robots.txt is read as RFC 9309 says, and a hostile one costs no more than its size."""

from __future__ import annotations

import random
import tracemalloc

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


@pytest.mark.parametrize("agent", ["React_Ray", "react_ray/1.0", "react_ray*", "  REACT_RAY  "])
def test_a_group_of_the_own_agent_is_recognised_however_it_is_written(agent: str) -> None:
    assert not parse_robots(f"User-agent: {agent}\nDisallow: /x", "react_ray").allow("/x")


@pytest.mark.parametrize("agent", ["react", "ray", "react_ray2", "my-react_ray", "own", "other", ""])
def test_a_group_of_another_agent_does_not_hold(agent: str) -> None:
    assert parse_robots(f"User-agent: {agent}\nDisallow: /x", "react_ray").allow("/x")


@pytest.mark.parametrize("record", ["Crawl-delay: 10", "Sitemap: http://example.org/", "Noindex: /y", "nonsense", ""])
def test_other_records_do_not_separate_the_names_of_a_group(record: str) -> None:
    text = f"User-agent: react_ray\n{record}\nUser-agent: other\nDisallow: /x"
    assert not parse_robots(text, "react_ray").allow("/x")


def test_a_byte_order_mark_does_not_hide_the_first_group() -> None:
    assert not parse_robots("\ufeffUser-agent: *\nDisallow: /", "react_ray").allow("/x")


@pytest.mark.parametrize(
    ("rule", "path", "allowed"),
    [
        ("/foo/bar/\u30c4", "/foo/bar/%E3%83%84", False),  # RFC 9309, 2.2.2
        ("/foo/bar/%E3%83%84", "/foo/bar/%e3%83%84", False),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz", False),
        ("/a%2Fb", "/a/b", True),
        ("//a/b", "//a/b/c", False),
        ("/x?y", "/x?y=1", False),
    ],
)
def test_percent_encoding_does_not_hide_a_path(rule: str, path: str, allowed: bool) -> None:
    assert parse_robots(f"User-agent: *\nDisallow: {rule}", "react_ray").allow(path) == allowed


def test_thousands_of_agents_before_thousands_of_rules_cost_no_more_than_their_sum() -> None:
    agents = "".join(f"User-agent: a{n}\n" for n in range(3000))
    text = f"{agents}User-agent: react_ray\n" + "".join(f"Disallow: /{n:x}/\n" for n in range(3000))
    tracemalloc.start()
    rules = parse_robots(text, "react_ray")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not rules.allow("/a/") and rules.allow("/g/")
    assert peak < 5_000_000  # every rule for every agent would be 9 million rules


def test_no_file_whatever_makes_it_raise() -> None:
    rng = random.Random(0)
    pieces = [
        "User-agent",
        "agent",
        "Allow",
        "Disallow",
        "dis",
        ":",
        " ",
        "\n",
        "\r",
        "*",
        "$",
        "%",
        "%zz",
        "%ff",
        "/",
        "//",
    ]
    pieces += ["http://[", "react_ray", "#", "\x00", "\u2028", "\ufeff", "\ufffd", "\u30c4", "index.html", "?", "="]
    for _ in range(1000):
        parse_robots("".join(rng.choices(pieces, k=60)), "react_ray").allow(
            "/" + "".join(rng.choices(pieces[9:15], k=9))
        )
