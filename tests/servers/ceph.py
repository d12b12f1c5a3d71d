"""Ceph RGW over one monitor and one OSD that keeps its objects in memory."""

from __future__ import annotations

import subprocess
import uuid
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tests.servers.process import (
    START_WITHIN,
    free_port,
    listens,
    program,
    running,
    wait_until_ready,
)
from tests.servers.request import answers
from tests.servers.server import KMS_KEY, KMS_SECRET, Server, StartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool")
ADVICE = "apt-get install radosgw ceph-mon ceph-osd ceph-common"
CLUSTER = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
keyring = {home}/keyring
run dir = {home}
admin socket =
log to file = false
log to stderr = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true

[mon]
mon data = {home}/mon
# With its default of a second the gateway is up after 14 s instead of one.
paxos propose interval = 0.01
paxos min wait = 0.01

[osd]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = 4294967296

[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw thread pool size = 64
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = {key}={secret}
"""
KEYRING = """\
[mon.]
key = {key}
caps mon = "allow *"

[client.admin]
key = {key}
caps mon = "allow *"
caps osd = "allow *"

[osd.0]
key = {key}
caps mon = "allow profile osd"
caps osd = "allow *"

[client.rgw]
key = {key}
caps mon = "allow *"
caps osd = "allow *"
"""


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    for name in PROGRAMS:
        program(name, ADVICE)
    fsid, monitor, gateway = str(uuid.uuid4()), free_port(), free_port()
    endpoint = f"http://127.0.0.1:{gateway}"
    server = Server("ceph", endpoint, "", "transcriptd", "not-a-secret")
    conf = CLUSTER.format(
        home=home,
        fsid=fsid,
        monitor=monitor,
        gateway=gateway,
        key=KMS_KEY,
        secret=KMS_SECRET,
    )
    key = _run(home, "ceph-authtool", "--gen-print-key").strip()
    (home / "ceph.conf").write_text(conf)
    (home / "keyring").write_text(KEYRING.format(key=key))
    for kind in ("mon", "osd"):
        (home / kind).mkdir()
    with ExitStack() as stack:
        address = f"[v2:127.0.0.1:{monitor}]"
        _run(home, "monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, "monmap")
        mon = ("ceph-mon", "-c", "ceph.conf", "-i", "a")
        _run(home, *mon, "--mkfs", "--monmap", "monmap", "--keyring", "keyring")
        monitoring = stack.enter_context(running([*mon, "-f"], home))
        # A client that comes too early waits for seconds before it tries again.
        wait_until_ready(lambda: listens(monitor), monitoring)

        device = str(uuid.uuid4())
        _run(home, "ceph", "-c", "ceph.conf", "osd", "new", device)
        osd = ("ceph-osd", "-c", "ceph.conf", "-i", "0")
        _run(home, *osd, "--mkfs", "--osd-uuid", device)
        storing = stack.enter_context(running([*osd, "-f"], home))

        rgw = ("-c", "ceph.conf", "-n", "client.rgw")
        user = ("user", "create", "--uid", "tests", "--display-name", "tests")
        keys = ("--access-key", server.access_key, "--secret-key", server.secret_key)
        _run(home, "radosgw-admin", *rgw, *user, *keys)
        serving = stack.enter_context(running(["radosgw", *rgw, "-f"], home))
        wait_until_ready(lambda: answers(server), serving, monitoring, storing)
        yield server


def _run(home: Path, *argv: str) -> str:
    """Run a program of Ceph's to its end. Raises StartError with what it and the others said."""
    try:
        done = subprocess.run(
            argv, cwd=home, capture_output=True, text=True, timeout=START_WITHIN, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StartError(f"{argv[0]} did not end in time\n{_logs(home)}") from error
    if done.returncode:
        raise StartError(f"{argv} ended with {done.returncode}\n{done.stderr}\n{_logs(home)}")
    return done.stdout


def _logs(home: Path) -> str:
    return "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in sorted(home.glob("*.log")))
