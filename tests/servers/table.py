"""What each server cannot do, as a table: `python -m tests.servers.table` prints it in Markdown.

Every server that is there is started and probed by the store itself, as the daemon does before it
relies on anything. The table stands in the README between `BEGIN` and `END`; a test holds it there.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.contract.s3 import PREFIX, opened
from tests.servers import NAMES, Missing, start

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.servers import Server

BEGIN, END = "<!-- servers: begin -->\n", "<!-- servers: end -->"
SERVERS = tuple(name for name in NAMES if name != "external")
CAPABILITIES = {
    "if_none_match": "a write makes only what is absent (`If-None-Match: *`)",
    "if_match": "a write replaces only what is known (`If-Match`)",
    "etag_is_md5": "the answer to a write proves what was stored (the ETag is its MD5 sum)",
    "copy_parts": "a part of an upload is copied from an object of the server",
    "complete_if_none_match": "an upload in parts makes only what is absent",
    "complete_if_match": "an upload in parts replaces only what is known",
}
"""In plain words, by the names that a store gives its guarantees."""


@dataclass(frozen=True, slots=True)
class Column:
    """What was found of one server: a word for each capability."""

    server: str
    words: tuple[str, ...]


async def probed(server: Server) -> Column:
    """Find out what a server does. Raises `StoreError` where it cannot be found out."""
    with tempfile.TemporaryDirectory() as state:
        async with opened(server, Path(state)) as store:
            await store.put(f"{PREFIX}.tail/table", b"table\n", {})
            await store.copies()
            await store.delete(f"{PREFIX}.tail/table")
            return Column(server.name, _words(store.guarantees))


def markdown(columns: Iterable[Column]) -> str:
    """Draw the table, a line for each capability and a column for each server."""
    columns = tuple(columns)
    lines = [("", *(column.server for column in columns)), ("---",) * (len(columns) + 1)]
    for number, said in enumerate(CAPABILITIES.values()):
        lines.append((said, *(column.words[number] for column in columns)))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def columns_of(table: str) -> dict[str, Column]:
    """Read the columns of a table that `markdown` drew, by server."""
    rows = [line.strip("|").split("|") for line in table.splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    drawn = zip(*(row for row in cells if set(row) != {"---"}), strict=True)
    return {name: Column(name, tuple(words)) for name, *words in drawn if name}


def _words(guarantees: Mapping[str, str]) -> tuple[str, ...]:
    assert guarantees.keys() == CAPABILITIES.keys(), "the table explains other names"
    return tuple(guarantees[name].replace("unknown", "not tried") for name in CAPABILITIES)


def main() -> None:
    columns = []
    for name in SERVERS:
        try:
            with start(name) as server:
                columns.append(asyncio.run(probed(server)))
        except Missing as missing:
            words = ("not tried",) * len(CAPABILITIES)
            columns.append(Column(name, words))
            print(f"{name}: {missing}", file=sys.stderr)
    print(markdown(columns), end="")


if __name__ == "__main__":
    main()
