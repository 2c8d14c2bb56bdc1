"""Measures a download in images per CPU second of the process, all its threads included, beside img2dataset.

The server of tests/support/web.py runs in another process, and its images are made before anything is timed. Client and
peer each do one part (one shard) in a fresh process, from the URL list to the file on disk, without start and imports:
`bench_download_client.py` and `bench_download_peer.py`, with the same options and the same number of requests in
flight. Both trust the system's certificate authorities and the server's, as they would on the web, so a client that
reads them for every request pays for it. Rounds alternate between the two, and the best round of each counts. The
output is a table and, as its last line, one JSON object.

    python tests/benchmark/bench_download.py [--peer] [--peer-venv DIR] [--images 2000] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path

from tests.support.web import Web, web_server

PEER = "img2dataset==1.47.0"
SIDES = {"small": 350, "web": 900}  # about 17 kB and 88 kB
NUM_DISTINCT = 100  # images on the server; all URLs are distinct
NUM_HOSTS = 6  # for which the certificate is valid
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", action="store_true", help=f"measure {PEER} too, in a venv of its own")
    parser.add_argument("--peer-venv", default="", help="where that venv is, or is made; default: a temporary folder")
    parser.add_argument("--images", type=int, default=2000, help="images of each cell and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, web_server() as web:
        trusted = trust(Path(folder), web.ca_file)
        programs = {"ours": [sys.executable, str(HERE / "bench_download_client.py")]}
        if options.peer:
            python = peer_python(Path(options.peer_venv or f"{folder}/venv"))
            programs["peer"] = [python, str(HERE / "bench_download_peer.py")]
        cells: dict[str, dict[str, float | None]] = {}
        for size, side in SIDES.items():
            kilobytes = make_images(web, side) / 1000
            for scheme in ("http", "https"):
                urls = urls_of(web, scheme, side, options.images)
                rates: dict[str, list[float]] = {name: [] for name in programs}
                for _ in range(options.rounds):
                    for name, program in programs.items():
                        rates[name].append(measure(program, urls, trusted, options.in_flight))
                best = {name: round(max(values), 1) for name, values in rates.items()}
                ours, peer = best["ours"], best.get("peer")
                cells[f"{scheme}_{size}"] = {
                    "ours": ours,
                    "peer": peer,
                    "ratio": round(ours / peer, 2) if peer else None,
                }
                print(f"{scheme:5} {size:5} {kilobytes:5.1f} kB  {rates} images per CPU second", flush=True)
    print(json.dumps({name: cells[name] for name in sorted(cells)}))


def peer_python(folder: Path) -> str:
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
    return str(python)


def trust(folder: Path, ca_file: str) -> str:
    """Writes a file with the certificate authorities of the system, if it has such a file, and of the server."""
    system = ssl.get_default_verify_paths().cafile
    known = Path(system).read_text() if system else ""
    (folder / "trusted.pem").write_text(known + Path(ca_file).read_text())
    return str(folder / "trusted.pem")


def make_images(web: Web, side: int) -> float:
    """Requests each distinct image once and returns their mean size in bytes."""
    total = 0
    for seed in range(NUM_DISTINCT):
        with urllib.request.urlopen(f"{web.http}/image/{seed}.jpg?side={side}", timeout=60) as answer:
            total += len(answer.read())
    return total / NUM_DISTINCT


def urls_of(web: Web, scheme: str, side: int, num_images: int) -> list[str]:
    first = web.http if scheme == "http" else web.https
    return [
        f"{first.replace('127.0.0.1', f'127.0.0.{1 + row % NUM_HOSTS}')}"
        f"/image/{row % NUM_DISTINCT}.jpg?side={side}&row={row}"
        for row in range(num_images)
    ]


def measure(program: list[str], urls: list[str], ca_file: str, in_flight: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        job = {"urls": urls, "ca_file": ca_file, "in_flight": in_flight, "folder": folder}
        done = subprocess.run(
            program,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            env=os.environ | {"SSL_CERT_FILE": ca_file, "NO_ALBUMENTATIONS_UPDATE": "1"},
        )
        if done.returncode:
            raise SystemExit(f"{program[1]} failed:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if result["ok"] != len(urls):
        raise SystemExit(f"{program[1]}: {result['ok']} of {len(urls)} images came; nothing to compare")
    if "fetch_cpu_s" in result:
        total, fetching = (1000 * result[name] / result["ok"] for name in ("cpu_s", "fetch_cpu_s"))
        print(
            f"    ours: {total:.2f} ms CPU an image, {fetching:.2f} of it for requests, "
            "the rest for decoding, resizing and encoding"
        )
    return result["ok"] / result["cpu_s"]


if __name__ == "__main__":
    main()
