"""Why a URL gave no bytes: every status of a fetched row, and whether asking again may help.

An answer of the server is `http_` and its code. The others are named here once. Next: fetch_config.py.
"""

from __future__ import annotations

from react_ray import schema

OK = schema.OK
EMPTY = schema.EMPTY  # the server sent an answer without a byte

# Refused before any request.
NO_URL = "no_url"  # null or blank
BAD_URL = "bad_url"
SCHEME_REFUSED = "scheme_refused"
BLOCKED_DOMAIN = "blocked_domain"  # by the user's list of domains and URLs
FILE_UNREADABLE = "file_unreadable"  # of a file: URL, where those are allowed
BLOCKED_ADDRESS = "blocked_address"  # the host is, or resolves to, an address inside a network

# The owner says no.
ROBOTS = "robots"
OPTED_OUT = "opted_out"  # X-Robots-Tag or tdm-reservation

# No connection.
DNS_NOT_FOUND = "dns_not_found"  # the name does not exist
DNS_FAILURE = "dns_failure"  # the name server did not say
REFUSED = "refused"
UNREACHABLE = "unreachable"
TLS = "tls"
TIMEOUT_CONNECT = "timeout_connect"  # name, TCP and TLS together

# A connection that broke, or an answer that cannot be used.
TIMEOUT_FIRST_BYTE = "timeout_first_byte"
TIMEOUT_BODY = "timeout_body"  # the server fell silent within the body
TIMEOUT_TOTAL = "timeout_total"
DISCONNECTED = "disconnected"
TRUNCATED = "truncated"  # fewer bytes than the header promised
BAD_RESPONSE = "bad_response"  # not HTTP
BAD_ENCODING = "bad_encoding"  # compressed, and it cannot be undone
TOO_MANY_BYTES = "too_many_bytes"
REDIRECT_LOOP = "redirect_loop"  # or more redirects than are allowed
ROBOTS_UNREADABLE = "robots_unreadable"  # no robots.txt could be had: nothing of the host may be fetched (RFC 9309)

RETRIABLE = frozenset(
    {
        DNS_FAILURE,
        REFUSED,
        UNREACHABLE,
        TIMEOUT_CONNECT,
        TIMEOUT_FIRST_BYTE,
        TIMEOUT_BODY,
        TIMEOUT_TOTAL,
        DISCONNECTED,
        TRUNCATED,
        ROBOTS_UNREADABLE,
    }
)

# What a machine sees that has more requests in flight than its line, its name server or its cores can carry.
CONGESTED = frozenset(
    {DNS_FAILURE, UNREACHABLE, TIMEOUT_CONNECT, TIMEOUT_FIRST_BYTE, TIMEOUT_BODY, TIMEOUT_TOTAL, DISCONNECTED}
)

HTTP = "http_"
RETRIABLE_CODES = frozenset({408, 425, 429})
FINAL_CODES = frozenset({501, 505, 508, 510, 511})  # 5xx that no second request changes


def http_status(code: int) -> str:
    """`http_404` for 404."""
    return f"{HTTP}{code}"


def is_retriable(status: str) -> bool:
    """True where another request, now or in a later pass over the failed rows, may give the image."""
    if status.startswith(HTTP):
        code = int(status.removeprefix(HTTP))
        return code in RETRIABLE_CODES or (500 <= code < 600 and code not in FINAL_CODES)
    return status in RETRIABLE
