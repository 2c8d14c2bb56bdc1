"""Names every status of a fetched row, and says which of them another request may change.

An HTTP status other than success is `http_` and its code; all others are defined here.
"""

from __future__ import annotations

from react_ray import schema

OK = schema.OK
EMPTY = schema.EMPTY  # the response has no bytes
INTERNAL_ERROR = schema.INTERNAL_ERROR  # a later version may do better
CRASHED = schema.CRASHED  # a machine with more memory may do better

# Refused before any request.
NO_URL = "no_url"  # null or blank
BAD_URL = "bad_url"
SCHEME_REFUSED = "scheme_refused"
BLOCKED_DOMAIN = "blocked_domain"  # on the user's list of domains and URL prefixes
FILE_UNREADABLE = "file_unreadable"  # of a file: URL, where file: is allowed
BLOCKED_ADDRESS = "blocked_address"  # the host is, or resolves to, an address that is not public

# Forbidden by the owner.
ROBOTS = "robots"
OPTED_OUT = "opted_out"  # X-Robots-Tag or tdm-reservation

# No connection.
DNS_NOT_FOUND = "dns_not_found"  # the name does not exist
DNS_FAILURE = "dns_failure"  # the name server did not answer
REFUSED = "refused"
UNREACHABLE = "unreachable"
TLS = "tls"
TIMEOUT_CONNECT = "timeout_connect"  # of name lookup, TCP and TLS together

# The connection broke, or the response cannot be used.
TIMEOUT_FIRST_BYTE = "timeout_first_byte"
TIMEOUT_BODY = "timeout_body"  # the server stopped sending within the body
TIMEOUT_TOTAL = "timeout_total"
DISCONNECTED = "disconnected"
TRUNCATED = "truncated"  # fewer bytes than the header promised
BAD_RESPONSE = "bad_response"  # not HTTP
BAD_ENCODING = "bad_encoding"  # compressed in a way that cannot be undone
TOO_MANY_BYTES = "too_many_bytes"
REDIRECT_LOOP = "redirect_loop"  # or more redirects than allowed
ROBOTS_UNREADABLE = "robots_unreadable"  # nothing of the host may be fetched then (RFC 9309)

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
        INTERNAL_ERROR,
        CRASHED,
    }
)

# Failures of a machine that has more requests in flight than its line, its name server or its cores can carry.
CONGESTED = frozenset(
    {DNS_FAILURE, UNREACHABLE, TIMEOUT_CONNECT, TIMEOUT_FIRST_BYTE, TIMEOUT_BODY, TIMEOUT_TOTAL, DISCONNECTED}
)

HTTP = "http_"
RETRIABLE_CODES = frozenset({408, 425, 429})
FINAL_CODES = frozenset({501, 505, 508, 510, 511})  # 5xx codes that another request does not change


def http_status(code: int) -> str:
    """Returns `http_404` for 404."""
    return f"{HTTP}{code}"


def is_retriable(status: str) -> bool:
    """Returns whether another request, now or with --retry-failed, may succeed."""
    if status.startswith(HTTP):
        code = int(status.removeprefix(HTTP))
        return code in RETRIABLE_CODES or (500 <= code < 600 and code not in FINAL_CODES)
    return status in RETRIABLE
