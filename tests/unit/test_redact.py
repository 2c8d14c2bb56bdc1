"""No secret is shown."""

from __future__ import annotations

import pytest

from react_ray.redact import redact


@pytest.mark.parametrize(
    "text, shown",
    [
        ("at http://me:pass@word@host:9000/b: refused", "at http://***@host:9000/b: refused"),
        ("s3://key@bucket and https://host/a@b?c=1@2", "s3://***@bucket and https://host/a@b?c=1@2"),
        ("https://h/i.jpg?X-Amz-Signature=abc&w=1&token=t", "https://h/i.jpg?X-Amz-Signature=***&w=1&token=***"),
        ("download.robots.policy=ignore; write seed=1", "download.robots.policy=ignore; write seed=1"),
    ],
)
def test_userinfo_and_signatures_of_urls_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_values_of_secret_variables_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG")
    monkeypatch.setenv("HF_TOKEN", "short")
    assert redact("key wJalrXUtnFEMI/K7MDENG of a short name") == "key *** of a short name"
