"""Fetching: a URL in; the bytes that its server gave, or a status that says why there are none, out."""
