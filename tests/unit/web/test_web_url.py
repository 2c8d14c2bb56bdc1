"""URLs as people write them become URLs that can be requested, and nothing else."""

from __future__ import annotations

import pytest

from react_ray.web import status
from react_ray.web.web_url import UrlRefused, follow, parse_url


@pytest.mark.parametrize(
    "text",
    [
        "http://example.org/a/b.jpg",
        "https://example.org/a%2Fb?u=http%3A%2F%2Fc&sig=%7e+x==",
        "http://example.org:8080/x?y",
        "http://sub_domain.example.org/",
        "http://example.org/a[1]|b.jpg",
    ],
)
def test_a_url_that_is_right_is_not_touched(text: str) -> None:
    assert str(parse_url(text).url) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  http://example.org/a \n", "http://example.org/a"),
        ("http://example.org/a b\u00fc?q=\u00e9#part", "http://example.org/a%20b%C3%BC?q=%C3%A9"),
        ("http://example.org/100%.jpg", "http://example.org/100%25.jpg"),
        ("http://example.org", "http://example.org/"),
        ("http://example.org?q", "http://example.org/?q"),
        ("HTTP://EXAMPLE.org/A", "http://example.org/A"),
        ("http://b\u00fccher.example/", "http://xn--bcher-kva.example/"),
        ("http://2130706433/x", "http://127.0.0.1/x"),
        ("http://0x7f.1:81/", "http://127.0.0.1:81/"),
        ("http://\uff11\uff12\uff17.0.0.1/", "http://127.0.0.1/"),
        ("http://example.org\\@evil.example/", "http://example.org/%5C@evil.example/"),
    ],
)
def test_what_a_request_cannot_carry_is_quoted(text: str, expected: str) -> None:
    assert str(parse_url(text).url) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, status.NO_URL),
        ("\t", status.NO_URL),
        ("example.org/a.jpg", status.BAD_URL),
        ("//example.org/a.jpg", status.BAD_URL),
        ("http:example.org", status.BAD_URL),
        ("http:///a", status.BAD_URL),
        ("http://a..b/", status.BAD_URL),
        ("http://.a/", status.BAD_URL),
        (f"http://{'a' * 64}.com/", status.BAD_URL),
        ("http://example.org:0/", status.BAD_URL),
        ("http://example.org:99999/", status.BAD_URL),
        ("http://[::1/", status.BAD_URL),
        ("http://1.2.3.999/", status.BAD_URL),
        ("http://example.org/\ud800", status.BAD_URL),
        ("http://example.org/" + "a" * 10_000, status.BAD_URL),
        ("javascript:alert(1)", status.SCHEME_REFUSED),
        ("file:///etc/passwd", status.SCHEME_REFUSED),
    ],
)
def test_what_is_no_url_of_the_web_is_refused(text: str | None, expected: str) -> None:
    with pytest.raises(UrlRefused) as refused:
        parse_url(text)
    assert refused.value.status == expected


def test_only_the_schemes_that_are_allowed_are_taken() -> None:
    for text in ("http://example.org/", "HTTP://example.org/"):
        with pytest.raises(UrlRefused) as refused:
            parse_url(text, ["https"])
        assert refused.value.status == status.SCHEME_REFUSED


def test_a_refusal_does_not_repeat_the_url() -> None:
    for text in ("http://user:secret@a b/", "ftp://user:secret@a.b/", "http://user:secret@a.b:99999/"):
        with pytest.raises(UrlRefused) as refused:
            parse_url(text)
        assert "secret" not in str(refused.value)


def test_an_origin_has_no_credentials() -> None:
    assert parse_url("http://user:secret@example.org:81/x").origin == "http://example.org:81"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/c", "http://example.org/c"),
        ("c?d", "http://example.org/a/c?d"),
        ("//other.example/c d", "http://other.example/c%20d"),
        ("https://other.example", "https://other.example/"),
    ],
)
def test_a_redirect_is_read_from_where_it_stands(location: str, expected: str) -> None:
    assert str(follow(parse_url("http://example.org/a/b"), location).url) == expected


@pytest.mark.parametrize("location", ["http://[bad", "file:///etc/passwd", "http://a b/"])
def test_a_redirect_to_nowhere_is_refused(location: str) -> None:
    with pytest.raises(UrlRefused):
        follow(parse_url("http://example.org/a"), location)
