from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from transcriptd.errors import (
    AccessDenied,
    ConditionFailed,
    Damaged,
    NotFound,
    ServerError,
    Unsupported,
)
from transcriptd.stores import Head
from transcriptd.stores.capabilities import Capabilities, Parts
from transcriptd.stores.probe import probe, probe_parts
from transcriptd.stores.s3_hashes import etag_of_parts

if TYPE_CHECKING:
    from transcriptd.stores import Stored

KEY = "history/.tail/.probe/000"


@dataclass
class Server:
    """An object store with the flaws that are named."""

    flaws: frozenset[str] = frozenset()
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    requests: int = 0

    async def send_put(
        self, key: str, body: bytes, *, if_none_match: str = "", if_match: str = ""
    ) -> str:
        self.requests += 1
        return self._write(key, body, self._md5(body), if_none_match, if_match)

    async def send_upload(
        self, key: str, body: bytes, *, if_none_match: str = "", if_match: str = ""
    ) -> str:
        self.requests += 1
        if "no uploads" in self.flaws:
            raise Unsupported
        part = self._md5(body)
        tag = self._md5(body) if "plain etags" in self.flaws else etag_of_parts([part])
        self._write(key, body, tag, if_none_match, if_match)
        return part

    async def send_copy(self, key: str, source: Stored) -> None:
        self.requests += 1
        if "no uploads" in self.flaws:
            raise Unsupported
        if "denies copies" in self.flaws:
            raise AccessDenied
        if "empty copies" in self.flaws:
            raise Damaged
        body, tag = self.objects[source.key]
        assert (source.start, source.end, source.etag) == (0, len(body), tag)
        body = body[:-1] if "short copies" in self.flaws else body
        body = body[::-1] if "other copies" in self.flaws else body
        self.objects[key] = body, etag_of_parts([self._md5(body)])

    async def send_get(self, key: str) -> bytes:
        self.requests += 1
        if key not in self.objects:
            raise NotFound
        return self.objects[key][0]

    async def head(self, key: str) -> Head | None:
        self.requests += 1
        if key not in self.objects:
            return None
        body, tag = self.objects[key]
        return Head(tag, len(body), 0.0)

    async def send_delete(self, key: str) -> None:
        self.requests += 1
        if "no delete" in self.flaws:
            raise AccessDenied
        self.objects.pop(key, None)

    def _write(self, key: str, body: bytes, tag: str, if_none_match: str, if_match: str) -> str:
        if (if_none_match or if_match) and "no conditions" in self.flaws:
            raise Unsupported
        if if_none_match and not self._may_create(key):
            raise ConditionFailed
        if if_match and not self._may_replace(key, if_match):
            raise ConditionFailed
        self.objects[key] = body, tag
        return tag

    def _may_create(self, key: str) -> bool:
        if "refuses every creation" in self.flaws:
            return False
        return key not in self.objects or "ignores if-none-match" in self.flaws

    def _may_replace(self, key: str, if_match: str) -> bool:
        if "ignores if-match" in self.flaws:
            return True
        if key not in self.objects:
            return "ignores if-match on a missing key" in self.flaws
        _, tag = self.objects[key]
        return if_match == (tag if "unquoted tags" in self.flaws else f'"{tag}"')

    def _md5(self, body: bytes) -> str:
        salt = b"-1" if "other etags" in self.flaws else b""
        return hashlib.md5(body + salt, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("flaws", "found"),
    [
        ((), Capabilities(True, "quoted", True, 1.0)),
        (("no delete",), Capabilities(True, "quoted", True, 1.0)),
        (("unquoted tags",), Capabilities(True, "unquoted", True, 1.0)),
        (("other etags",), Capabilities(True, "quoted", False, 1.0)),
        (("no conditions",), Capabilities(False, "ignored", True, 1.0)),
        (("ignores if-none-match",), Capabilities(False, "quoted", True, 1.0)),
        (("ignores if-match",), Capabilities(True, "ignored", True, 1.0)),
        (("ignores if-match on a missing key",), Capabilities(True, "ignored", True, 1.0)),
        (("refuses every creation",), Capabilities(False, "quoted", True, 1.0)),
    ],
)
async def test_only_what_is_proven_is_used(flaws: tuple[str, ...], found: Capabilities) -> None:
    for before in ({}, {KEY: (b"left by an earlier probe", "tag")}):
        server = Server(frozenset(flaws), dict(before))
        assert await probe(server, KEY, 1.0) == found
        assert server.requests <= 14
        assert len(server.objects) == ("no delete" in flaws)


@pytest.mark.parametrize(
    ("flaws", "found"),
    [
        ((), Parts(True, True, "quoted", True)),
        (("no delete",), Parts(True, True, "quoted", True)),
        (("no uploads",), Parts()),
        (("denies copies",), Parts(False, True, "quoted", True)),
        (("empty copies",), Parts(False, True, "quoted", True)),
        (("short copies",), Parts(False, True, "quoted", True)),
        (("other copies",), Parts(False, True, "quoted", True)),
        (("plain etags",), Parts(True, True, "quoted", False)),
        (("other etags",), Parts(True, True, "quoted", False)),
        (("no conditions",), Parts(True, False, "ignored", True)),
        (("unquoted tags",), Parts(True, True, "unquoted", True)),
        (("ignores if-none-match",), Parts(True, False, "quoted", True)),
        (("ignores if-match on a missing key",), Parts(True, True, "ignored", True)),
        (("refuses every creation",), Parts(True, False, "quoted", True)),
    ],
)
async def test_of_uploads_too_only_what_is_proven_is_used(
    flaws: tuple[str, ...], found: Parts
) -> None:
    left = {f"{KEY}-{name}": (b"left by an earlier probe", "tag") for name in ("source", "target")}
    for before in ({}, left):
        server = Server(frozenset(flaws), dict(before))
        assert await probe_parts(server, KEY) == found
        assert server.requests <= 18
        if "no uploads" not in flaws:
            assert len(server.objects) == (2 if "no delete" in flaws else 0)


async def test_a_server_that_fails_is_not_judged() -> None:
    class Failing(Server):
        async def head(self, key: str) -> Head | None:
            raise ServerError

    with pytest.raises(ServerError):
        await probe(Failing(), KEY, 1.0)
    with pytest.raises(ServerError):
        await probe_parts(Failing(), KEY)
