"""FetchConfig, without aiohttp: a recipe is read in a moment. Next: fetch.py."""

from __future__ import annotations

from typing import Literal

from react_ray.section import Section, field, speed


class FetchConfig(Section):
    user_agent: str = field(
        "react_ray/{version}",
        "what servers are told, {version} being this package's; add a page or an address where their owners reach you",
        pattern=r"^[ -~]+$",
    )
    user_agent_token: str = field(
        "react_ray", "the name that robots.txt and X-Robots-Tag use for this agent", pattern=r"^[A-Za-z0-9_.-]+$"
    )
    connect_timeout_s: float = field(10.0, "name, TCP and TLS of a new connection, together", gt=0)
    first_byte_timeout_s: float = field(15.0, "longest silence of a server, before its answer or within it", gt=0)
    total_timeout_s: float = field(60.0, "one request, from its start to the last byte", gt=0)
    max_bytes: int = field(20_000_000, "longer bodies are given up at this byte", ge=1)
    max_redirects: int = field(5, "hops of one URL; 0 = none is followed", ge=0)
    retries: int = field(2, "further requests after a failure that may pass", ge=0)
    backoff_s: float = field(1.0, "pause before the first retry; it doubles with each", ge=0)
    max_backoff_s: float = field(
        30.0, "longest pause before a retry; a server that asks for a longer one is left alone", ge=0
    )
    respect_opt_out: bool = field(
        True, "leave images marked X-Robots-Tag: noai, noimageai, noindex or noimageindex, or tdm-reservation: 1"
    )
    robots_txt: bool = field(False, "obey robots.txt; one more request per host")
    blocked: list[str] = field([], "domains (with all below them) and URL prefixes that are never asked")
    blocked_file: str = field("", "URI of a text file of such domains and prefixes, one a line; empty = none")
    allow_schemes: list[Literal["http", "https", "data", "file"]] = field(
        ["http", "https"],
        "other URLs are refused; data: and file: (of this machine) only for a pool whose URLs you wrote yourself",
        min_length=1,
    )
    allow_private_addresses: bool = field(
        False, "let URLs reach loopback and private networks; only for a pool whose URLs you wrote yourself"
    )
    ca_file: str = field("", "PEM file of certificate authorities to trust besides the system's; empty = none")
    verify_tls: bool = field(True, "refuse servers whose certificate is not valid for their name")
    max_in_flight: int = speed(256, "requests at a time, of one process", ge=1)
    adaptive: bool = speed(True, "start with 32 in flight; more while that goes well, half as many when it stops to")
    per_host_concurrency: int = speed(8, "requests at a time to one host, of one process", ge=1)
    per_host_rate: float = speed(0.0, "requests per second to one host, of one process; 0 = no limit", ge=0)
    keep_alive_s: float = speed(15.0, "how long an idle connection is kept for the next request", gt=0)
    num_dns_threads: int = speed(32, "names looked up at a time", ge=1)
