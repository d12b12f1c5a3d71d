from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from transcriptd.errors import AccessDenied, ConditionFailed, ServerError, Unsupported
from transcriptd.stores import Head
from transcriptd.stores.probe import Capabilities, probe

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "history/.tail/.probe/000"


@dataclass
class Server:
    """An object store with the flaws that are named."""

    flaws: frozenset[str] = frozenset()
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: int = 0

    async def send_put(
        self,
        key: str,
        body: bytes,
        metadata: Mapping[str, str],
        *,
        if_none_match: str = "",
        if_match: str = "",
    ) -> str:
        self.requests += 1
        if (if_none_match or if_match) and "no conditions" in self.flaws:
            raise Unsupported
        if if_none_match and not self._may_create(key):
            raise ConditionFailed
        if if_match and not self._may_replace(key, if_match):
            raise ConditionFailed
        self.objects[key] = body
        return self._tag(body)

    async def head(self, key: str) -> Head | None:
        self.requests += 1
        body = self.objects.get(key)
        return None if body is None else Head(self._tag(body), len(body), 0.0)

    async def send_delete(self, key: str) -> None:
        self.requests += 1
        if "no delete" in self.flaws:
            raise AccessDenied
        self.objects.pop(key, None)

    def _may_create(self, key: str) -> bool:
        if "refuses every creation" in self.flaws:
            return False
        return key not in self.objects or "ignores if-none-match" in self.flaws

    def _may_replace(self, key: str, if_match: str) -> bool:
        if "ignores if-match" in self.flaws:
            return True
        if key not in self.objects:
            return "ignores if-match on a missing key" in self.flaws
        tag = self._tag(self.objects[key])
        return if_match == (tag if "unquoted tags" in self.flaws else f'"{tag}"')

    def _tag(self, body: bytes) -> str:
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
    for before in ({}, {KEY: b"left by an earlier probe"}):
        server = Server(frozenset(flaws), dict(before))
        assert await probe(server, KEY, 1.0) == found
        assert server.requests <= 14
        assert len(server.objects) == ("no delete" in flaws)


async def test_a_server_that_fails_is_not_judged() -> None:
    class Failing(Server):
        async def head(self, key: str) -> Head | None:
            raise ServerError

    with pytest.raises(ServerError):
        await probe(Failing(), KEY, 1.0)
