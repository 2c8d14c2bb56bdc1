"""robots.txt as RFC 9309 reads it, and the cache of what each host allows. Next: adaptive.py.

The group of the agent's own token counts, else that of `*`; the longest matching rule wins, and Allow wins a tie.
https://www.rfc-editor.org/rfc/rfc9309
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic

from react_ray.web import status
from react_ray.web.admission import Admission
from react_ray.web.http_client import HttpClient
from react_ray.web.web_url import UrlRefused, WebUrl

MAX_BYTES = 512_000  # the RFC asks for at least 500 KiB
TTL_S = 24 * 3600.0
UNREADABLE_TTL_S = 60.0
MAX_ORIGINS = 100_000
MAX_REDIRECTS = 5


@dataclass(frozen=True)
class Rule:
    """One line: `*` stands for any text, `$` at the end for the end of the path."""

    pattern: str
    allow: bool

    def matches(self, path: str) -> bool:
        """Each piece where it first fits: no pattern, however many stars it has, takes more than one pass."""
        first, *others = self.pattern.removesuffix("$").split("*")
        if not path.startswith(first):
            return False
        at = len(first)
        last = others.pop() if others and self.pattern.endswith("$") else None
        for piece in others:
            found = path.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        if not self.pattern.endswith("$"):
            return True
        return at == len(path) if last is None else path.endswith(last) and len(path) - len(last) >= at


@dataclass(frozen=True)
class Rules:
    rules: list[Rule]

    def allow(self, path: str) -> bool:
        """`path` with its query. Everything without a rule is allowed."""
        matching = [(len(rule.pattern), rule.allow) for rule in self.rules if rule.matches(path)]
        return max(matching, default=(0, True))[1]


def parse_robots(text: str, token: str) -> Rules:
    """The rules for one agent; `token` is compared without case."""
    groups: dict[str, list[Rule]] = {}
    agents: list[str] = []
    in_rules = False
    for line in text.removeprefix("\ufeff").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            if in_rules:  # a new group begins; names in a row share one
                agents, in_rules = [], False
            agents.append(value.lower())
            groups.setdefault(value.lower(), [])
        elif key in ("allow", "disallow"):
            in_rules = True
            if value:  # an empty Disallow forbids nothing
                for agent in agents:
                    groups[agent].append(Rule(value, key == "allow"))
    return Rules(groups.get(token.lower(), groups.get("*", [])))


class Robots:
    """What each origin allows; its file is read once, however many ask at the same time."""

    def __init__(self, token: str, client: HttpClient, admission: Admission) -> None:
        self._token = token
        self._client = client
        self._admission = admission
        self._known: OrderedDict[str, tuple[float, asyncio.Task[Rules | None]]] = OrderedDict()

    async def allow(self, url: WebUrl) -> bool | None:
        """None if the host has a robots.txt that could not be read: then it must be taken to allow nothing."""
        origin = url.origin
        until, task = self._known.get(origin, (0.0, None))
        if task is None or monotonic() >= until:
            task = asyncio.ensure_future(self._rules(origin))
            self._known[origin] = (monotonic() + TTL_S, task)
            if len(self._known) > MAX_ORIGINS:
                self._known.popitem(last=False)
        rules = await asyncio.shield(task)  # one that gives up must not take the file from the others
        return None if rules is None else rules.allow(url.url.raw_path_qs)

    async def close(self) -> None:
        tasks = [task for _, task in self._known.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _rules(self, origin: str) -> Rules | None:
        text = await self._read(origin)
        if text is not None:
            return parse_robots(text, self._token)
        if origin in self._known:
            self._known[origin] = (monotonic() + UNREADABLE_TTL_S, self._known[origin][1])
        return None

    async def _read(self, origin: str) -> str | None:
        """Empty, that is everything allowed, where a host has none; redirects are followed."""
        try:
            url = self._admission.admit(f"{origin}/robots.txt")
            answer = await self._client.get(url, MAX_BYTES)
            for _ in range(MAX_REDIRECTS):
                if answer.location is None:
                    break
                url = self._admission.follow(url, answer.location)
                answer = await self._client.get(url, MAX_BYTES)
        except UrlRefused:
            return ""
        if answer.data is not None:
            return answer.data.decode("utf-8", "replace")
        code = answer.http_status or 0
        none_there = answer.status == status.EMPTY or (300 <= code < 500 and code != 429)
        host_unknown = answer.status in (status.DNS_NOT_FOUND, status.BLOCKED_ADDRESS)  # the URL itself will say so
        return "" if none_there or host_unknown else None
