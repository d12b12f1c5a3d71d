"""A whole life of sessions in an archive that the server encrypts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.daemon import running
from tests.documents import conversation, document, save
from tests.home import Home
from tests.life import bucket_on, live
from tests.sdk import encrypted
from tests.servers.server import KMS_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Pool


@pytest.fixture
def home() -> Iterator[Home]:
    """A home whose path is short, because that of the socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        yield Home.make(Path(path, "home"))


@pytest.mark.parametrize(
    ("name", "sse"), [("minio", "AES256"), ("minio", "aws:kms"), ("moto", "aws:kms")]
)
async def test_a_whole_life_is_archived_encrypted_and_verified(
    home: Home, servers: Pool, name: str, sse: str
) -> None:
    server = bucket_on(name, servers)
    home.use(server)
    home.environ["TRANSCRIPTD_S3__SSE"] = sse
    if sse == "aws:kms":
        home.environ["TRANSCRIPTD_S3__SSE_KMS_KEY_ID"] = KMS_KEY
    asked = await live(home)
    assert ("copy_part", "ok") in asked
    said = encrypted(server)
    assert any("/.generations/" in key for key in said)
    assert {algorithm for algorithm, _ in said.values()} == {sse}
    verified = home.run("verify", "--deep")
    assert verified.status == 0, verified.out
    doctor = home.doctor()
    assert doctor.status == 0, doctor.out
    (encryption,) = doctor.found("bucket", "encryption")
    assert f"each write asks for {sse}" in encryption["message"]


async def test_a_server_that_does_not_encrypt_gets_nothing_and_everybody_is_told(
    home: Home, servers: Pool
) -> None:
    server = bucket_on("rclone", servers)
    home.use(server)
    home.environ["TRANSCRIPTD_S3__SSE"] = "AES256"
    save(home.sessions, document(conversation(2), "one"))
    async with running(home) as daemon:
        await daemon.degraded("encryption")
        (trouble,) = (await daemon.status())["degraded"]
        assert "x-amz-server-side-encryption: AES256" in trouble["message"]
        assert "s3.sse" in trouble["hint"]
        doctor = home.doctor()
        assert doctor.status == 1
        (write,) = doctor.found("archive", "write")
        assert (write["level"], "does not say" in write["message"]) == ("fail", True)
    assert encrypted(server) == {}
