"""Response headers in; the directive by which the owner keeps an image out of training, or None. Next: robots.py."""

from __future__ import annotations

from multidict import CIMultiDictProxy, istr

X_ROBOTS_TAG = istr("X-Robots-Tag")
TDM_RESERVATION = istr("tdm-reservation")
OPT_OUT = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})  # none = noindex, nofollow
WITH_VALUES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})


def opted_out(headers: CIMultiDictProxy[str], token: str) -> str | None:
    """The directive that forbids the use, for everyone or for the agent named `token`.

    `noai` holds for all; in `somebot: noai, noindex` all that follows the name is for that agent alone.
    tdm-reservation: https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240510/
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
