"""Every object of a bucket at one moment, and the streams in it by key and generation.

Read by the SDK as it is, and put together by the reader in `tests.kept`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.kept import Object, stream_of
from tests.sdk import client

if TYPE_CHECKING:
    from tests.servers import Server

_PREFIX = "history/"
_FINISHED = re.compile(r"history/\.generations/(.+)/(\d{6})\.jsonl$")
_ASIDE = re.compile(r"history/\.(tail|generations|conflicts)/")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All objects, in memory. `keys` are theirs, sorted."""

    objects: dict[str, Object]
    keys: list[str]

    @classmethod
    def take(cls, server: Server) -> Snapshot:
        """Read everything from a bucket that nobody writes to."""
        objects = {}
        with client(server) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=server.bucket)
            for key in [row["Key"] for page in pages for row in page.get("Contents", ())]:
                found = s3.get_object(Bucket=server.bucket, Key=key)
                objects[key] = Object(found["Body"].read(), found["Metadata"])
        return cls(objects, sorted(objects))

    def look(self, key: str) -> Object | None:
        return self.objects.get(key)

    def listing(self, prefix: str = "") -> list[str]:
        first = bisect_left(self.keys, prefix)
        behind = bisect_left(self.keys, f"{prefix}\U0010ffff") if prefix else len(self.keys)
        return self.keys[first:behind]

    def streams(self) -> dict[str, dict[int, bytes]]:
        """Return the bytes of each generation of each stream, by its base key."""
        found: dict[str, dict[int, bytes]] = defaultdict(dict)
        for key in self.keys:
            if finished := _FINISHED.match(key):
                found[_PREFIX + finished[1]][int(finished[2])] = self.objects[key].body
            elif not _ASIDE.match(key) and not key.endswith("/session.json"):
                content = stream_of(self, key)
                assert content is not None
                found[key][int(self.objects[key].said.get("td-generation", -1))] = content
        return found

    def set_aside(self) -> list[str]:
        """Name what lies under `.conflicts/`: with one machine there is nothing to be set aside."""
        return self.listing(f"{_PREFIX}.conflicts/")
