"""What is lost at the end: messages that stand nowhere, sessions whose last state is not archived.

Messages are looked for in all objects of a bucket, whatever their names and formats are, as long
as text stands in them as it is.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.bench.marker import Marker, markers_in
from tests.sdk import client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.contender import Contender
    from tests.servers import Server

_READERS = 4


def lost_messages(saved: Mapping[str, set[int]], held: set[Marker]) -> list[Marker]:
    """Name the messages that were in some save, by session, and stand nowhere."""
    wanted = {Marker(name, number) for name, numbers in saved.items() for number in numbers}
    return sorted(wanted - held)


def lost_sessions(contender: Contender, documents: Mapping[str, bytes]) -> list[str]:
    """Name the sessions whose last document is not what a reader of the archive gets."""
    return [
        session_id
        for session_id, document in documents.items()
        if contender.held(session_id) != contender.expected(document)
    ]


def markers_held(server: Server) -> set[Marker]:
    """Read all objects of the server's bucket."""
    with client(server) as s3, ThreadPoolExecutor(_READERS) as readers:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=server.bucket)
        keys = [row["Key"] for page in pages for row in page.get("Contents", ())]
        found = readers.map(lambda key: markers_in(_read(s3, server.bucket, key)), keys)
        return set().union(*found)


def _read(s3: Any, bucket: str, key: str) -> bytes:  # noqa: ANN401 - botocore ships no types
    data: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return data
