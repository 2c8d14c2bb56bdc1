"""Defines FetchConfig, the fields of the section `download` that say how URLs are fetched.

It does not import aiohttp, so that a recipe loads quickly.
"""

from __future__ import annotations

from typing import Literal

from react_ray.section import Section, field, speed


class FetchConfig(Section):
    user_agent: str = field(
        "react_ray/{version}",
        "User-Agent header; {version} is this package's; add a page or an address where site owners reach you",
        pattern=r"^[ -~]+$",
    )
    user_agent_token: str = field(
        "react_ray", "name of this agent in robots.txt and X-Robots-Tag", pattern=r"^[A-Za-z0-9_.-]+$"
    )
    connect_timeout_s: float = field(10.0, "limit of name lookup, TCP and TLS of a new connection together", gt=0)
    first_byte_timeout_s: float = field(15.0, "longest time without a byte, before the response or within it", gt=0)
    total_timeout_s: float = field(60.0, "limit of one request, from its start to the last byte", gt=0)
    max_bytes: int = field(20_000_000, "give up a response at this number of bytes", ge=1)
    retries: int = field(2, "further requests after a failure that may pass, such as a 503 or a time-out", ge=0)
    backoff_s: float = field(1.0, "pause before the first retry; it doubles with each further one", ge=0)
    max_backoff_s: float = field(
        30.0, "longest pause before a retry; if a server asks for a longer one, the row fails at once", ge=0
    )
    respect_opt_out: bool = field(
        True,
        "leave out images sent with X-Robots-Tag: noai, noimageai, noindex or noimageindex, or tdm-reservation: 1",
    )
    robots_txt: bool = field(False, "obey robots.txt, which costs one more request per host")
    blocked: list[str] = field([], "domains (with their subdomains) and URL prefixes that are never requested")
    blocked_file: str = field("", "URI of a text file with such domains and prefixes, one a line; empty = none")
    allow_schemes: list[Literal["http", "https", "data", "file"]] = field(
        ["http", "https"],
        "URL schemes to fetch; allow data: and file: (on the fetching machine) only for lists you wrote yourself",
        min_length=1,
    )
    allow_private_addresses: bool = field(
        False, "let URLs reach loopback and private networks; only for lists you wrote yourself"
    )
    ca_file: str = field("", "PEM file of certificate authorities to trust besides the system's; empty = none")
    verify_tls: bool = field(True, "refuse servers whose certificate is not valid for their name")
    max_in_flight: int = speed(256, "requests in flight at most, per process", ge=1)
    adaptive: bool = speed(
        True, "start with 32 requests in flight, increase while latency and failures stay normal, halve when they rise"
    )
    per_host_concurrency: int = speed(8, "requests in flight to one host at most, per process", ge=1)
    per_host_rate: float = speed(0.0, "requests per second to one host at most, per process; 0 = no limit", ge=0)
    num_dns_threads: int = speed(32, "name lookups at a time, per process", ge=1)
