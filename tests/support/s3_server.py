"""A real S3 API on loopback: moto's server in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.ports import free_port

PAGE = 5  # names in one answer to a listing; 1,000 on AWS
TRIES = 5


@contextmanager
def s3_server() -> Iterator[str]:
    """Yields the endpoint; AWS_* variables point at it meanwhile."""
    server, endpoint = _started()
    wanted = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in wanted}
    try:
        os.environ.update(wanted)
        yield endpoint
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        server.terminate()
        server.wait()


def _started() -> tuple[subprocess.Popen[bytes], str]:
    """A server that answers. It ends at once where its port was taken in the meantime, and the next one is tried."""
    for _ in range(TRIES):
        port = free_port()
        endpoint = f"http://127.0.0.1:{port}"
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"MOTO_S3_DEFAULT_MAX_KEYS": str(PAGE)},
        )
        while server.poll() is None:
            try:
                urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
                return server, endpoint
            except OSError:
                with suppress(subprocess.TimeoutExpired):
                    server.wait(timeout=0.05)  # leaves the core to the server
    raise RuntimeError(f"moto's server ended {TRIES} times, with exit code {server.returncode}")
