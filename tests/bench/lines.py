"""From a document of 10 MB to lines that are compared with the archive, beside the floor.

The floor is one read and one SHA-256 of the file; beside it stands the standard library's JSON. All
of it is the CPU time of this thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.agent import Document
from tests.bench.result import Figure
from transcriptd.model import Cursor, Session
from transcriptd.snapshot import look
from transcriptd.sources.codetether import CodeTether

if TYPE_CHECKING:
    from collections.abc import Callable

SCENARIO = "a document of 10 MB"
FLOOR = "one read and one SHA-256"
PARSER = "json of the standard library"
AGAIN, FIRST = "finding what is new", "reading it for the first time"
_SUBJECT = "transcriptd"
_SIZE, _MESSAGES = 10_000_000, 4000
_LIMIT = 1 << 30
_TIMES = 15


def run(*, quick: bool = False) -> list[Figure]:
    times = 3 if quick else _TIMES
    with tempfile.TemporaryDirectory(prefix="transcriptd-bench-") as home:
        document = Document(Path(home), "lines")
        document.grow(_SIZE, _MESSAGES)
        document.save()
        path = document.path
        source = CodeTether([], {"HOME": home})
        session = Session("codetether", document.id, home, path.name)
        first = look(source, session, None, max_bytes=_LIMIT)
        size, records = first.snapshot.content.size, first.snapshot.records
        cursor = Cursor("k", 0, records, size, first.digest, "e", "w")

        works: dict[tuple[str, str], Callable[[], object]] = {
            (FLOOR, AGAIN): lambda: sha256(path.read_bytes()).digest(),
            (_SUBJECT, AGAIN): lambda: look(source, session, cursor, max_bytes=_LIMIT),
            (_SUBJECT, FIRST): lambda: look(source, session, None, max_bytes=_LIMIT),
            (PARSER, AGAIN): lambda: json.dumps(json.loads(path.read_bytes())["messages"]),
        }
        # In turns, so that a busy moment of the machine meets all of them.
        rounds = [[_cpu_ms(work) for work in works.values()] for _ in range(times)]
    return [
        Figure.of(SCENARIO, who, what, "ms", took)
        for (who, what), took in zip(works, zip(*rounds, strict=True), strict=True)
    ]


def _cpu_ms(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000
