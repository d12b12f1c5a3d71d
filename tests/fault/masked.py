"""Secrets in what agents write: planted, and looked for in whatever left the machine."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from tests.kept import KeptInDirectory
from tests.proxy import FaultProxy

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Mapping

    from tests.home import Home
    from tests.kept import Kept

MASK = {"TRANSCRIPTD_REDACTION": "mask"}
RULES = {"zq-token": "zq-[0-9]{24}"}
MORE_RULES = {"zq-any": "zq-[0-9]{20,40}", "yk-token": "yk-[0-9]{24}"}
HALF = 14


def secret(what: object, shape: str = "zq") -> str:
    """Return a secret that stands nowhere else, nor does any half of it."""
    digits = str(int(hashlib.sha256(str(what).encode()).hexdigest(), 16))
    return f"{shape}-{digits[:24]}"


def hidden(what: str, rule: str = "zq-token") -> str:
    """Return what stands in the archive instead of a secret."""
    return f"[{rule}]".ljust(len(what), "*")


def masked(content: bytes, rules: Iterable[str] = ("zq-token",), *secrets: str) -> bytes:
    """Return a content with these secrets masked, by the rule for their shape."""
    names = {name[:2]: name for name in rules}
    for each in secrets:
        content = content.replace(each.encode(), hidden(each, names[each[:2]]).encode())
    return content


def configure(home: Home, rules: Mapping[str, str] = RULES, text: str = "") -> None:
    """Write the configuration: some rules of its own, and what else there is to say."""
    path = home.path / ".config" / "transcriptd" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = [f"[[rules]]\nname = '{name}'\npattern = '{it}'\n" for name, it in rules.items()]
    path.write_text("\n".join([text, *tables]))


def archived(kept: Kept) -> bytes:
    """Return all that lies in an archive, whatever it is: also what no reader comes to."""
    if isinstance(kept, KeptInDirectory):
        files = (path for path in kept.path.rglob("*") if path.is_file())
        return b"\n".join(path.read_bytes() for path in files)
    found = (kept.look(key) for key in kept.listing())
    return b"\n".join(each.body + str(each.said).encode() for each in found if each)


def screenings(home: Home) -> dict[str, list[str | None]]:
    """Return what the journal says of each source's sessions and their secrets."""
    found: dict[str, list[str | None]] = {}
    path = home.state / "journal.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
        for source, said in journal.execute("SELECT source, screening FROM sessions"):
            found.setdefault(source, []).append(said)
    return found


class Overheard(FaultProxy):
    """A proxy that remembers every byte that was sent through it."""

    wire = b""

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await super()._connect()
        write = writer.write

        def overhear(data: bytes) -> None:
            self.wire += bytes(data)
            write(data)

        setattr(writer, "write", overhear)  # noqa: B010 - a method, of this one connection
        return reader, writer
