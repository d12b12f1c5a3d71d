"""The policies that are shipped, enforced by a real server: what the daemon needs, and no more."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import md5, sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from tests.contract.s3 import opened, read
from tests.home import Home
from tests.life import bucket_on, live
from tests.sdk import Keys, client, limited
from tests.servers.request import send
from transcriptd.content import Held
from transcriptd.doctor.bucket import explain
from transcriptd.doctor.finding import Level
from transcriptd.errors import AccessDenied, NotFound
from transcriptd.stores import Absent, Fresh, Stored
from transcriptd.stores.s3_hashes import Hashes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.servers import Pool, Server
    from transcriptd.stores.s3 import S3Store

POLICIES = Path(__file__).parents[2] / "config"
README = (POLICIES.parent / "README.md").read_text("utf-8")
PREFIX = "history/"
BASE = f"{PREFIX}one/history.jsonl"
HASHES = Hashes(md5=md5(b"x").digest(), sha256=sha256(b"x").hexdigest())
MAY_BE_DENIED = {"list_uploads", "head_bucket"}
"""What is asked for in case it is allowed: the names of unfinished uploads, the bucket."""


@pytest.fixture
def server(servers: Pool) -> Server:
    return bucket_on("minio", servers)


@pytest.fixture
def home() -> Iterator[Home]:
    """A home whose path is short, because that of the socket below it may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td-") as path:
        yield Home.make(Path(path, "home"))


def policy(name: str, server: Server, prefix: str = PREFIX) -> str:
    text = (POLICIES / f"policy-{name}.json").read_text("ascii")
    return text.replace("BUCKET", server.bucket).replace("PREFIX", prefix)


def configure(home: Home, server: Server, keys: Keys) -> None:
    """Write the file as a person would, who has temporary credentials."""
    path = home.path / ".config" / "transcriptd" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "[s3]\n"
        f'endpoint = "{server.endpoint}"\n'
        f'bucket = "{server.bucket}"\n'
        f'access_key = "{keys.access_key}"\n'
        f'secret_key = "{keys.secret_key}"\n'
        f'session_token = "{keys.session_token}"\n'
    )
    path.chmod(0o600)


@asynccontextmanager
async def as_one_who_may(name: str, server: Server, state: Path) -> AsyncIterator[S3Store]:
    keys = limited(server, policy(name, server))
    async with opened(
        server,
        state,
        access_key=keys.access_key,
        secret_key=keys.secret_key,
        session_token=keys.session_token,
    ) as store:
        yield store


async def test_with_the_writers_policy_a_whole_life_is_archived_verified_and_well(
    home: Home, server: Server
) -> None:
    configure(home, server, limited(server, policy("writer", server)))
    asked = await live(home)
    assert {("put", "ok"), ("copy_part", "ok"), ("delete", "ok"), ("list", "ok")} <= asked
    assert {op for op, outcome in asked if outcome == "access_denied"} <= MAY_BE_DENIED
    verified = home.run("verify", "--deep")
    assert verified.status == 0, verified.out
    doctor = home.doctor()
    assert doctor.status == 0, doctor.out
    assert {finding["level"] for finding in doctor.found("archive")} == {"ok"}
    said = {finding["subject"]: finding for finding in doctor.found("bucket")}
    assert [name for name, each in said.items() if "unknown" in each["message"]] == [
        "public access"  # MinIO has no such thing
    ]


async def test_with_the_readers_policy_an_archive_is_read_and_restored(
    home: Home, server: Server, tmp_path: Path
) -> None:
    home.use(server)
    await live(home)
    reader = Home.make(tmp_path / "reader")
    configure(reader, server, limited(server, policy("reader", server)))
    assert "large" in reader.run("ls").out
    for what in ("--all", "--machine=m1"):
        restored = reader.run("restore", what, "--to", "back")
        assert restored.status == 0, restored.err
    back = reader.path / "back"
    assert json.loads((back / "small.json").read_text())["id"] == "small"
    assert list(back.rglob("claude/**/*.jsonl"))
    verified = reader.run("verify", "--deep")
    assert verified.status == 0, verified.out


async def test_who_may_write_removes_segments_and_nothing_else(
    server: Server, tmp_path: Path
) -> None:
    segment = f"{PREFIX}.tail/one/history.jsonl/000000-00000000000000000000.jsonl"
    finished = f"{PREFIX}.generations/one/history.jsonl/000000.jsonl"
    async with as_one_who_may("writer", server, tmp_path) as store:
        for key in (BASE, segment, finished):
            await store.put(key, b"{}\n", {}, Absent())
        await store._deletes.one(segment)
        assert await store.head(segment) is None
        for key in (BASE, finished):
            with pytest.raises(AccessDenied):
                await store._deletes.one(key)
            with pytest.raises(AccessDenied):
                await store._deletes.all([key, key])
            assert await read(store, key) == b"{}\n"


async def test_who_may_write_has_a_range_copied_and_proven(server: Server, tmp_path: Path) -> None:
    async with as_one_who_may("writer", server, tmp_path) as store:
        base = await store.put(BASE, bytes(12 << 20), {}, Absent())
        piece = Stored(BASE, 100, 6 << 20, base.etag)
        await store.compose(f"{BASE}.2", [piece, Fresh(Held(b"end"), 0, 3)], {})
        assert store.traffic.requests["list_parts", "ok"] == 1
        assert "access_denied" not in {outcome for _, outcome in store.traffic.requests}


async def test_who_may_write_destroys_no_version_of_what_is_archived(
    server: Server, tmp_path: Path
) -> None:
    enabled = {"Status": "Enabled"}
    with client(server) as owner:
        owner.put_bucket_versioning(Bucket=server.bucket, VersioningConfiguration=enabled)
        async with as_one_who_may("writer", server, tmp_path) as store:
            await store.put(BASE, b"first\n", {}, Absent())
            await store.put(BASE, b"other\n", {})
        versions = owner.list_object_versions(Bucket=server.bucket, Prefix=BASE)["Versions"]
    assert len(versions) == 2
    keys = limited(server, policy("writer", server))
    as_writer = replace(server, access_key=keys.access_key, secret_key=keys.secret_key)
    with client(as_writer, session_token=keys.session_token) as writer:
        for version in versions:
            with pytest.raises(ClientError, match="AccessDenied"):
                writer.delete_object(Bucket=server.bucket, Key=BASE, VersionId=version["VersionId"])


@pytest.mark.parametrize("name", ["writer", "reader"])
async def test_nobody_reads_or_writes_beyond_the_prefix(
    server: Server, tmp_path: Path, name: str
) -> None:
    for key in ("other/one", "historyx/one", "one"):
        assert send(server, "PUT", f"/{server.bucket}/{key}", b"not yours")[0] == 200
        async with as_one_who_may(name, server, tmp_path) as store:
            for attempt in (
                read(store, key),
                store.head(key),
                store._objects.put(key, b"x", HASHES, {}, {}),
                store._uploads.create(key, {}),
            ):
                with pytest.raises(AccessDenied):
                    await attempt
            for prefix in (key, "", "histor"):
                with pytest.raises(AccessDenied):
                    [entry async for entry in store.list(prefix)]


async def test_who_may_read_writes_and_removes_nothing(server: Server, tmp_path: Path) -> None:
    async with opened(server, tmp_path) as owner:
        await owner.put(BASE, b"{}\n", {}, Absent())
    async with as_one_who_may("reader", server, tmp_path) as store:
        assert await read(store, BASE) == b"{}\n"
        assert await store.head(f"{BASE}.absent") is None
        with pytest.raises(NotFound):
            await read(store, f"{BASE}.absent")
        assert [entry.key async for entry in store.list(PREFIX)] == [BASE]
        for attempt in (
            store.put(f"{PREFIX}.tail/new", b"x", {}, Absent()),
            store.put(BASE, b"x", {}),
            store.compose(BASE, [Fresh(Held(b"x"), 0, 1)], {}, apart=True),
            store._deletes.one(BASE),
            store._deletes.one(f"{PREFIX}.tail/x"),
        ):
            with pytest.raises(AccessDenied):
                await attempt
        assert await read(store, BASE) == b"{}\n"


def test_as_the_readme_says_the_policies_are_filled_in_by_sed(
    server: Server, tmp_path: Path
) -> None:
    command = next(line for line in README.splitlines() if line.startswith("sed -e"))
    subprocess.run(
        ["sh", "-c", command.replace("config/", f"{POLICIES}/")], cwd=tmp_path, check=True
    )
    filled = (tmp_path / "writer.json").read_text()
    assert not re.search("BUCKET|PREFIX", filled)
    assert json.loads(filled) == json.loads(policy("writer", server.with_bucket("transcripts")))


async def test_the_lifecycle_of_the_readme_removes_nothing_that_is_archived(
    servers: Pool, tmp_path: Path
) -> None:
    rules = README.split("<!-- bucket: lifecycle -->\n```json\n")[1].split("```")[0]
    moto = bucket_on("moto", servers)
    with client(moto) as s3:
        s3.put_bucket_lifecycle_configuration(
            Bucket=moto.bucket, LifecycleConfiguration=json.loads(rules)
        )
    async with opened(moto, tmp_path) as store:
        found = await store.enforced()
    said = {each.subject: each for each in explain(found, PREFIX, "")}
    assert said["lifecycle"].level is Level.OK
    assert "unfinished uploads are removed after 1 day" in said["lifecycle"].message
