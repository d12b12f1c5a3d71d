"""Credentials and clocks that are wrong, and secrets that must not show."""

from __future__ import annotations

import logging
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import botocore.auth
import pytest

from tests.contract.s3 import KEY, PREFIX, SHORT, answering, opened, read
from tests.proxy import (
    ACCESS_DENIED,
    CLOCK_SKEWED,
    EXPIRED_TOKEN,
    SERVER_ERROR,
    SLOW_DOWN,
    Answer,
    BlackHole,
    FaultProxy,
    FlipByte,
    LoseAnswer,
    Reset,
)
from transcriptd.config.settings import S3Credentials, S3Settings
from transcriptd.errors import (
    AuthFailed,
    StoreError,
)
from transcriptd.stores import s3_client
from transcriptd.stores.s3 import S3Store

if TYPE_CHECKING:
    from datetime import tzinfo
    from pathlib import Path


CANARY = "canary-DO-NOT-SHOW"


async def test_refused_credentials_are_resolved_again_before_the_next_request(
    strict: FaultProxy, tmp_path: Path
) -> None:
    good = S3Credentials(strict.server.access_key, strict.server.secret_key)
    found = [replace(good, access_key="gone"), good]
    async with opened(strict.server, tmp_path, credentials=lambda: found.pop(0)) as store:
        with pytest.raises(AuthFailed):
            await store.head(KEY)
        assert await store.head(KEY) is None
        assert found == []
    used = [seen.access_key for seen in strict.seen(key=KEY)]
    assert used == ["gone", "gone", good.access_key]


async def test_expired_credentials_are_noticed_at_a_head(proxy: FaultProxy, tmp_path: Path) -> None:
    asked: list[int] = []

    def credentials() -> S3Credentials:
        asked.append(1)
        return S3Credentials(f"key{len(asked)}", "secret", "token")

    async with opened(proxy.server, tmp_path, credentials=credentials) as store:
        rule = proxy.add(EXPIRED_TOKEN)
        with pytest.raises(AuthFailed):
            await store.head(KEY)
        proxy.rules.remove(rule)
        assert await store.head(KEY) is None
    assert [seen.access_key for seen in proxy.seen(key=KEY)] == ["key1", "key1", "key2"]


async def test_wrong_keys_and_missing_ones_are_both_refused_credentials(
    strict: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for access_key, secret_key in ((strict.server.access_key, "wrong"), ("", "")):
        async with opened(
            strict.server, tmp_path, access_key=access_key, secret_key=secret_key
        ) as store:
            for attempt in (store.head(KEY), store.put(KEY, b"", {}), read(store)):
                with pytest.raises(AuthFailed) as caught:
                    await attempt
                assert caught.value.hint


async def test_without_static_keys_the_aws_chain_is_asked_each_time_they_fail(
    strict: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "gone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    async with opened(strict.server, tmp_path, access_key="", secret_key="") as store:
        with pytest.raises(AuthFailed):
            await store.head(KEY)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", strict.server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", strict.server.secret_key)
        assert await store.head(KEY) is None


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's clock, three hours late."""

    class Late(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Late:
            return cls.fromtimestamp(time.time() - 3 * 3600, tz)

    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda: Late.now(UTC).replace(tzinfo=None)
    )
    monkeypatch.setattr(s3_client, "datetime", Late)


async def test_a_wrong_clock_is_corrected_once(
    strict: FaultProxy, tmp_path: Path, late: None
) -> None:
    async with opened(strict.server, tmp_path) as store:
        await store.put(KEY, b"content", {})
        assert await read(store) == b"content"
        assert store.traffic.requests["put", "clock_skewed"] == 1


async def test_a_clock_found_wrong_at_a_head_is_corrected_too(
    strict: FaultProxy, tmp_path: Path, late: None
) -> None:
    async with opened(strict.server, tmp_path) as store:
        assert await store.head(KEY) is None
        assert store.traffic.requests["head", "access_denied"] == 1


async def test_a_clock_that_cannot_be_corrected_is_named(proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.add(CLOCK_SKEWED)
    async with opened(proxy.server, tmp_path) as store:
        with pytest.raises(AuthFailed) as caught:
            await store.head(KEY)
    assert "clock" in caught.value.hint
    assert proxy.count() == 2


async def test_no_error_and_no_log_line_shows_a_secret(
    strict: FaultProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    secrets = S3Credentials(strict.server.access_key, f"{CANARY}-secret", f"{CANARY}-token")
    faults = (
        None, SLOW_DOWN, SERVER_ERROR, EXPIRED_TOKEN, CLOCK_SKEWED, ACCESS_DENIED, Reset(),
        BlackHole(), LoseAnswer(), FlipByte(), Answer(400, CANARY * 9), Answer(200, "Nonsense"),
    )  # fmt: skip
    shown: list[str] = [repr(secrets)]
    async with opened(
        strict.server, tmp_path, patience=SHORT, credentials=lambda: secrets
    ) as store:
        shown.append(repr(store))
        for fault in faults:
            strict.rules.clear()
            if fault is not None:
                strict.add(fault)
            body = f"{CANARY}-body".encode()
            for attempt in (store.put(KEY, body, {}), store.head(KEY), read(store)):
                try:
                    await attempt
                except StoreError as error:
                    shown += traceback.format_exception(error)
                    shown += [repr(error), error.hint]
    shown += caplog.messages
    everything = "\n".join(shown)
    assert len(shown) > 3 * len(faults)
    for secret in (f"{CANARY}-secret", f"{CANARY}-token", f"{CANARY}-body", "Signature="):
        assert secret not in everything


@pytest.mark.parametrize("status", [200, 400, 403, 500])
async def test_no_error_shows_what_the_server_answered(tmp_path: Path, status: int) -> None:
    code = f"<Code>Odd</Code><Message>{CANARY}</Message><StringToSign>{CANARY}</StringToSign>"
    for body in (f"<not><xml {CANARY}".encode(), f"<Error>{code}</Error>".encode()):
        head = b"HTTP/1.1 %d Odd\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        async with answering(head + body) as server, opened(server, tmp_path) as store:
            with pytest.raises(StoreError) as caught:
                await store.put(KEY, b"", {})
        assert CANARY not in "".join(traceback.format_exception(caught.value))


async def test_an_endpoint_with_a_password_in_it_is_shown_without(tmp_path: Path) -> None:
    settings = S3Settings(
        endpoint=f"https://user:{CANARY}@s3.example:9000", bucket="b", region="", path_style=True
    )
    store = S3Store(settings, prefix=PREFIX, state_dir=tmp_path)
    assert store.place == "s3://b/history/ at https://s3.example:9000"
