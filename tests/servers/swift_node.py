"""A whole Swift cluster in one process: `swift_node.py proxy=PORT account=PORT …`.

Run as a program in a directory that holds swift.conf and one KIND.conf for each server. Swift's
own launchers want a process for each server. Imported by nothing of ours.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import eventlet  # type: ignore[import-untyped]  # eventlet has no types
import eventlet.wsgi  # type: ignore[import-untyped]  # the same

eventlet.monkey_patch()  # before swift is imported, as its own launchers do

from swift.common import wsgi  # type: ignore[import-untyped]  # noqa: E402 - swift has no types
from swift.common.ring import RingBuilder  # type: ignore[import-untyped]  # noqa: E402 - the same
from swift.common.utils import (  # type: ignore[import-untyped]  # noqa: E402 - the same
    set_swift_dir,
    validate_hash_conf,
)


def log_to_stderr(*args: Any) -> None:  # noqa: ANN401 - called by swift with its own objects
    """Add a handler to swift's logger, which otherwise writes to syslog alone."""
    args[-2].addHandler(logging.StreamHandler())


def main(home: Path, ports: dict[str, int]) -> None:
    set_swift_dir(str(home))
    validate_hash_conf()
    for kind in ("account", "container", "object"):
        _write_ring(home, kind, ports[kind])
    warnings.filterwarnings("ignore", message="capitalize_response_headers is disabled")
    servers = [_serve(home / f"{kind}.conf", port) for kind, port in ports.items()]
    for server in servers:
        server.wait()


def _write_ring(home: Path, kind: str, port: int) -> None:
    builder = RingBuilder(part_power=1, replicas=1, min_part_hours=0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1"}
    builder.add_dev({"id": 0, "weight": 1, **place})
    builder.rebalance()
    builder.get_ring().save(str(home / f"{kind}.ring.gz"))


def _serve(conf: Path, port: int) -> eventlet.greenthread.GreenThread:
    app = wsgi.loadapp(str(conf), global_conf={"log_name": conf.stem})
    return eventlet.spawn(
        eventlet.wsgi.server,
        eventlet.listen(("127.0.0.1", port), backlog=1024),
        app,
        logging.getLogger("requests"),  # nobody listens: one line a request would fill the log
        protocol=wsgi.SwiftHttpProtocol,
        capitalize_response_headers=False,  # clients of S3 want `ETag`, not `Etag`
    )


if __name__ == "__main__":
    # Swift imports its log handler by name.
    sys.modules["swift_node"] = sys.modules["__main__"]
    main(Path.cwd(), {kind: int(port) for kind, port in (a.split("=") for a in sys.argv[1:])})
