"""Takes secrets out of a text that is shown or logged: passwords in URLs, signatures, values of secret variables."""

from __future__ import annotations

import os
import re

USERINFO = re.compile(r"(?<=://)[^\s/?#@'\"]*(?:@[^\s/?#@'\"]*)*@")
SIGNED = re.compile(
    r"(?i)([?&](?:x-amz-[a-z-]+|x-goog-[a-z-]+|signature|sig|policy|[a-z_-]*token|api_?key|password|awsaccesskeyid)=)"
    r"[^\s&'\"#;)]+"
)
SECRET_NAME = re.compile(r"(?i)secret|token|passw|credential|api_?key|access_?key")
SHORTEST = 8  # a shorter value is found by chance in any text
HIDDEN = "***"


def redact(text: str) -> str:
    """The text with every secret replaced by `***`."""
    for name, value in os.environ.items():
        if SECRET_NAME.search(name) and len(value) >= SHORTEST and not os.path.exists(value):
            text = text.replace(value, HIDDEN)
    return SIGNED.sub(rf"\1{HIDDEN}", USERINFO.sub(f"{HIDDEN}@", text))
