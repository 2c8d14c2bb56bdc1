"""Finds the response header by which an owner opts an image out of training or indexing."""

from __future__ import annotations

from multidict import CIMultiDictProxy, istr

X_ROBOTS_TAG = istr("X-Robots-Tag")
TDM_RESERVATION = istr("tdm-reservation")
OPT_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})  # none = noindex, nofollow
WITH_VALUES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


def opted_out(headers: CIMultiDictProxy[str], token: str) -> str | None:
    """Returns the directive that forbids the use to everyone or to the agent named `token`; None if there is none.

    `noai` holds for all agents; in `somebot: noai, noindex` everything after the name holds for that agent alone.
    tdm-reservation is defined in https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/
    """
    if X_ROBOTS_TAG in headers:
        for value in headers.getall(X_ROBOTS_TAG):
            if directive := _directive(value.lower(), token.lower()):
                return directive
    if headers.get(TDM_RESERVATION, "").strip() == "1":
        return "tdm-reservation: 1"
    return None


def _directive(value: str, token: str) -> str | None:
    agent = ""
    for item in value.split(","):
        name, colon, rest = item.partition(":")
        if colon and name.strip() not in WITH_VALUES:
            agent, item = name.strip(), rest
        if agent in ("", "*", token) and item.strip() in OPT_OUT:
            return item.strip()
    return None
