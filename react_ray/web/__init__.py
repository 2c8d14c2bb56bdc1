"""Fetches URLs politely: each gives the bytes that its server sent, or a status that says why there are none.

`Fetcher` (fetch.py) is the way in: it owns a thread with an event loop, in which fetch_loop.py serves the URLs.
    may this URL be requested?    web_url  url_policy  block_list  addresses  robots  opt_out
    when, and how many at a time? politeness  adaptive_limit
    the request and its outcome   http_client  lenient_http  content_encoding  local_url  fetch_result  status
Everything that a recipe may set is in fetch_config.py.
"""
