"""OpenStack Swift behind s3api: the strict server (signatures, clock, checksums, part sizes)."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.process import fast_parent, free_port, running, wait_until_ready
from tests.servers.request import answers
from tests.servers.server import Missing, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE = Path(__file__).with_name("swift_node.py")
CLUSTER = """\
[swift-hash]
swift_hash_path_suffix = transcriptd
"""
PROXY = """\
[DEFAULT]
swift_dir = {home}
log_custom_handlers = swift_node.log_to_stderr
log_level = WARNING

[pipeline:main]
pipeline = catch_errors s3api tempauth copy slo proxy-server

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:s3api]
use = egg:swift#s3api

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin

[filter:copy]
use = egg:swift#copy

[filter:slo]
use = egg:swift#slo
# Its default is 10; after that it reads one segment a second.
rate_limit_after_segment = 1000

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""
STORAGE = """\
[DEFAULT]
swift_dir = {home}
devices = {devices}
mount_check = false
disable_fallocate = true
log_custom_handlers = swift_node.log_to_stderr
log_level = WARNING

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
"""


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    if find_spec("swift") is None:
        raise Missing("swift is not installed: pip install swift")
    ports = {kind: free_port() for kind in ("proxy", "account", "container", "object")}
    endpoint = f"http://127.0.0.1:{ports['proxy']}"
    server = Server("swift", endpoint, "", "test:tester", "not-a-secret")
    # Swift syncs every object to disk: in memory it takes about 100 PUT/s instead of 75.
    with tempfile.TemporaryDirectory(prefix="transcriptd-swift-", dir=fast_parent()) as devices:
        (Path(devices) / "d1").mkdir()
        (home / "swift.conf").write_text(CLUSTER)
        for kind in ports:
            text = PROXY if kind == "proxy" else STORAGE
            conf = text.format(home=home, devices=devices, kind=kind, secret=server.secret_key)
            (home / f"{kind}.conf").write_text(conf)
        # -P: this file, beside the program, must not be taken for the package swift.
        argv: list[str | Path] = [
            sys.executable,
            "-P",
            NODE,
            *(f"{kind}={port}" for kind, port in ports.items()),
        ]
        with running(argv, home) as process:
            wait_until_ready(lambda: answers(server), process)
            yield server
