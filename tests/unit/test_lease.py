"""Of two commands that write to one place, the second is told who writes there; a dead holder is in nobody's way."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from react_ray import lease
from react_ray.errors import InUse
from react_ray.lease import FILE, Leases, give_back, leases, take
from react_ray.storage import Storage, join

HOLD = """
import sys
from react_ray.lease import leases, take
with leases("embed", [sys.argv[1]], print):
    take(sys.argv[1])
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_command(uri: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease until its stdin ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed and looked at often."""
    monkeypatch.setattr(lease, "BEAT_S", 0.1)
    monkeypatch.setattr(lease, "LOOK_S", 0.05)


@pytest.fixture
def short(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """They expire soon, too. Only for those that nobody renews: on a busy machine, a renewal may take longer."""
    monkeypatch.setattr(lease, "EXPIRES_S", 0.3)


def refused(line: str) -> None:
    raise AssertionError(line)


def test_the_second_is_told_who_writes_there_since_when(place: Storage) -> None:
    with other_command(place.uri) as process:
        with leases("run", [place.uri], refused), pytest.raises(InUse) as told:
            take(join(place.uri, "images"))
        assert re.fullmatch(
            rf"{re.escape(place.uri)} is in use: `react-ray embed` \(process {process.pid} on \S+\) writes there since "
            r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ; wait until .*",
            str(told.value),
        )
        process.communicate("")
        assert place.list() == [], "it was given back"
        with leases("run", [place.uri], refused):
            take(place.uri)


def test_the_lease_of_a_killed_process_is_taken_over_at_once(place: Storage) -> None:
    with other_command(place.uri) as process:
        process.kill()
        process.wait()
        assert place.list() == [FILE]
        with leases("run", [place.uri], refused):
            take(place.uri)
            assert json.loads(place.read(FILE))["pid"] == os.getpid()
    assert place.list() == []


def test_what_is_finished_is_given_back_and_other_places_need_no_lease(place: Storage) -> None:
    take(place.uri)
    assert place.list() == [], "no command, no lease"
    database, out = place.at("database"), place.at("out")
    with leases("run", [out.uri, database.uri], refused):
        take(join(database.uri, "pairs"))
        take(join(place.uri, "elsewhere"))
        take(join(place.uri, "database-of-others"))
        assert place.list() == [f"database/{FILE}"]
        give_back(out.uri)
        give_back(database.uri)
        assert place.list() == []
        take(out.uri)
        assert place.list() == [f"out/{FILE}"]
    assert place.list() == []


def of_another_machine(place: Storage) -> bytes:
    """Swapped in, as its holder would: a plain write may be lost between the two halves of a renewal on disk."""
    holder = {"verb": "run", "host": "far", "pid": 1, "machine": "other", "started": 0.0, "since": "then", "name": "x"}
    written = json.dumps(holder | {"beats": 0}).encode()
    while not place.swap(FILE, place.read(FILE) if place.exists(FILE) else None, written):
        pass
    return written


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("left", [b"", b"{}", b"[1]", b"[" * 100_000, None])
def test_a_lease_that_is_not_renewed_expires(place: Storage, left: bytes | None) -> None:
    """left: what the file holds; None: the lease of a process of another machine."""
    of_another_machine(place)
    if left is not None:
        place.write(FILE, left)
    with leases("run", [place.uri], refused):
        take(place.uri)
        assert json.loads(place.read(FILE))["pid"] == os.getpid()


@pytest.mark.usefixtures("quick")
def test_a_holder_on_another_machine_that_renews_its_lease_keeps_it(
    place: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leases("embed", [place.uri], refused):
        take(place.uri)
        monkeypatch.setattr(lease, "_machine", lambda: "another")
        with pytest.raises(InUse, match="`react-ray embed` "):
            Leases("run", [place.uri], refused).take(place.uri)
    assert place.list() == []


@pytest.mark.usefixtures("quick")
def test_a_command_whose_lease_was_taken_over_is_told(place: Storage) -> None:
    told: list[str] = []
    known = threading.Event()
    with leases("run", [place.uri], lambda line: (told.append(line), known.set())):  # type: ignore[func-returns-value]
        take(place.uri)
        of_another_machine(place)
        assert known.wait(60)
        assert "taken over" in told[0] and "(process 1 on far)" in told[0] and "\n" not in told[0]
    assert json.loads(place.read(FILE))["host"] == "far", "the lease of another is not given back"


@pytest.mark.parametrize(
    "field, value, is_dead", [("pid", -1, True), ("pid", 2**70, True), ("pid", "me", False), ("started", None, False)]
)
@pytest.mark.usefixtures("short")
def test_a_lease_whose_fields_are_damaged_is_taken_over(
    place: Storage, field: str, value: object, is_dead: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with leases("run", [place.uri], refused):
        take(place.uri)
        found = json.loads(place.read(FILE))
    place.write(FILE, json.dumps(found | {field: value}).encode())
    with leases("run", [place.uri], refused):
        take(place.uri)
        assert json.loads(place.read(FILE))["name"] != found["name"]
    waited = "does not say who writes there; waiting" in capsys.readouterr().err
    assert waited != is_dead and place.list() == []


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", [b"", b"\xff\0", b'{"verb": 1}', None])
def test_a_lease_that_is_damaged_or_deleted_under_its_holder_is_written_again(
    place: Storage, damage: bytes | None
) -> None:
    with leases("run", [place.uri], refused):
        take(place.uri)
        name = json.loads(place.read(FILE))["name"]
        place.delete(FILE) if damage is None else place.write(FILE, damage)
        asked = threading.Event()
        while not place.exists(FILE) or place.read(FILE) == damage:
            asked.wait(0.05)
        assert json.loads(place.read(FILE))["name"] == name
        with pytest.raises(InUse):
            Leases("run", [place.uri], refused).take(place.uri)
    assert place.list() == []


def test_of_many_that_ask_at_once_one_gets_it(place: Storage) -> None:
    start, won = threading.Barrier(8), []

    def ask(number: int) -> None:
        start.wait()
        if place.swap("f", None, b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and place.read("f") == b"%d" % won[0]
