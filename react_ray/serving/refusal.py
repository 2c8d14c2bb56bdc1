"""Refused: why a request is not answered, in the one JSON shape of all errors."""

from __future__ import annotations

from typing import Any

from react_ray.errors import ReactRayError


class Refused(ReactRayError):
    """status: of HTTP; code: one word for programs; field: the dotted path of the value in the request's body."""

    def __init__(
        self, message: str, status: int = 400, code: str = "bad_request", field: str | None = None, retry_s: int = 0
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.field, self.retry_s = status, code, field, retry_s

    def __reduce__(self) -> tuple[Any, ...]:  # it crosses processes
        return Refused, (self.args[0], self.status, self.code, self.field, self.retry_s)

    def body(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": str(self), "field": self.field}}

    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_s)} if self.retry_s else {}


class GroupUnavailable(ReactRayError):
    """A group of shards did not answer."""

    exit_code = 1

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} does not answer ({reason}); ask again in a moment, or set allow_partial")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return GroupUnavailable, (self.name, self.reason)
