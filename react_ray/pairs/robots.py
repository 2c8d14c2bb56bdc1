"""robots.txt as RFC 9309 reads it, and the cache of what each host allows. Next: http_client.py.

The group of the agent's own token counts, else that of `*`; the longest matching rule wins, and Allow wins a tie.
https://www.rfc-editor.org/rfc/rfc9309
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

MAX_BYTES = 512_000  # the RFC asks for at least 500 KiB
TTL_S = 24 * 3600.0
UNREADABLE_TTL_S = 60.0
MAX_ORIGINS = 100_000
MAX_REDIRECTS = 5

ReadRobots = Callable[[str], Awaitable["str | None"]]  # the text of an origin's file; None if it could not be read


@dataclass(frozen=True)
class Rules:
    rules: list[tuple[int, bool, re.Pattern[str]]] = field(
        default_factory=list
    )  # length of the pattern, allow, pattern

    def allow(self, path: str) -> bool:
        """`path` with its query. Everything without a rule is allowed."""
        matching = [(length, allow) for length, allow, pattern in self.rules if pattern.match(path)]
        return max(matching, default=(0, True))[1]


def parse_robots(text: str, token: str) -> Rules:
    """The rules for one agent; `token` is compared without case."""
    groups: dict[str, list[tuple[int, bool, re.Pattern[str]]]] = {}
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
                    groups[agent].append((len(value), key == "allow", _pattern(value)))
    return Rules(groups.get(token.lower(), groups.get("*", [])))


class Robots:
    """What each origin allows; its file is read once, however many ask at the same time."""

    def __init__(self, token: str, read: ReadRobots) -> None:
        self._token = token
        self._read = read
        self._known: OrderedDict[str, tuple[float, asyncio.Task[Rules | None]]] = OrderedDict()

    async def allow(self, origin: str, path: str) -> bool | None:
        """None if the origin has a robots.txt that could not be read."""
        until, task = self._known.get(origin, (0.0, None))
        if task is None or monotonic() >= until:
            task = asyncio.ensure_future(self._rules(origin))
            self._known[origin] = (monotonic() + TTL_S, task)
            if len(self._known) > MAX_ORIGINS:
                self._known.popitem(last=False)
        rules = await asyncio.shield(task)  # one that gives up must not take the file from the others
        return None if rules is None else rules.allow(path)

    async def close(self) -> None:
        tasks = [task for _, task in self._known.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _rules(self, origin: str) -> Rules | None:
        text = await self._read(origin)
        if text is None:
            if origin in self._known:
                self._known[origin] = (monotonic() + UNREADABLE_TTL_S, self._known[origin][1])
            return None
        return parse_robots(text, self._token)


def _pattern(value: str) -> re.Pattern[str]:
    """`*` is any text, `$` at the end is the end; everything else is itself, from the path's beginning."""
    end = value.endswith("$")
    parts = (value[:-1] if end else value).split("*")
    return re.compile(".*".join(map(re.escape, parts)) + ("$" if end else ""), re.DOTALL)
