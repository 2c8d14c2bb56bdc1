"""TLS between the processes of a search, with Ray's certificates, where Ray's own processes have it.

Ray reads RAY_USE_TLS, RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY and RAY_TLS_CA_CERT, on every node:
https://docs.ray.io/en/latest/ray-core/configure.html#tls-authentication. As between Ray's processes, both sides show
the certificate of their node, which must be valid for its address.
"""

from __future__ import annotations

import os
import ssl
from functools import cache

from react_ray.errors import ClusterError

FILES = "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"  # paths of PEM files


@cache
def of_server() -> ssl.SSLContext | None:
    """None where Ray uses no TLS; ClusterError if a file cannot be used. Files are read once in a process."""
    return _context(ssl.Purpose.CLIENT_AUTH)


@cache
def of_client() -> ssl.SSLContext | None:
    """As of_server, for the process that connects."""
    return _context(ssl.Purpose.SERVER_AUTH)


def _context(purpose: ssl.Purpose) -> ssl.SSLContext | None:
    if os.environ.get("RAY_USE_TLS", "0").lower() not in ("1", "true"):
        return None
    try:
        certificate, key, authority = (os.environ[name] for name in FILES)
        for path in (certificate, key, authority):
            open(path).close()  # whose error names the path
        context = ssl.create_default_context(purpose, cafile=authority)
        context.load_cert_chain(certificate, key)
    except (KeyError, OSError) as error:
        raise ClusterError(f"RAY_USE_TLS is set, and {error}; set {', '.join(FILES)} as Ray asks for them") from error
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # from Python 3.13; gRPC, and so Ray, takes such certificates
    return context
