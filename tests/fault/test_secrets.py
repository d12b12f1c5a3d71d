"""Secrets and the text of messages are planted everywhere, and looked for in all that is said."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.daemon import running
from tests.documents import document, message, save
from tests.home import VARIABLE
from tests.kept import KeptInBucket, history_of
from tests.proxy import SERVER_ERROR, Answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon import Daemon
    from tests.home import Home
    from tests.proxy import FaultProxy
    from tests.servers import Server

TEXT = "canary-text-5f1d"
SINK = "canary-sink-77aa"
ACCESS, SECRET, TOKEN = "AKIACANARY0ACCESS", "canary-secret-93c0", "canary-token-e810"
USER_INFO = "canary-userinfo-4b2e"
SECRETS = (TEXT, SINK, SECRET, TOKEN)
DEBUG = {"TRANSCRIPTD_LOG__LEVEL": "debug"}
VERBS = (
    *(("status",), ("status", "--json"), ("health", "--strict"), ("journal",), ("doctor",)),
    *(("journal", "--json"), ("doctor", "--json"), ("config", "show"), ("config", "check")),
    *(("config", "show", "--json"), ("sync", "--timeout=1"), ("sync", "--timeout=1", "--json")),
    *(("sources",), ("sources", "--json"), ("ls", "--json")),
)


def put(home: Home, length: int, session_id: str = "one") -> Path:
    messages = [message("user", f"{TEXT} {number}") for number in range(length)]
    sink = {"endpoint": "http://127.0.0.1:9", "secret_key": SINK}
    metadata = {"directory": "/srv/app", "history_sink": sink}
    title = f"a title with {TEXT}"
    return save(home.sessions, document(messages, session_id, metadata=metadata, title=title))


def plant(home: Home, server: Server) -> None:
    """Set credentials that no server gave."""
    home.environ = {
        "TRANSCRIPTD_S3__ENDPOINT": server.endpoint,
        "TRANSCRIPTD_S3__BUCKET": server.bucket,
        "TRANSCRIPTD_S3__ACCESS_KEY": ACCESS,
        "TRANSCRIPTD_S3__SECRET_KEY": SECRET,
        "TRANSCRIPTD_S3__SESSION_TOKEN": TOKEN,
        **DEBUG,
    }


async def said(home: Home, daemon: Daemon) -> dict[str, str]:
    """Return all that can be read of a daemon, by where."""
    found = {}
    for target in ("/status?all=1", "/metrics", "/healthz", "/readyz", "/nothing"):
        found[target] = (await daemon.ask(target)).body.decode()
    found["/sync"] = (await daemon.sync(0.5)).body.decode()
    outcomes = await asyncio.gather(*(asyncio.to_thread(home.run, *verb) for verb in VERBS))
    for verb, outcome in zip(VERBS, outcomes, strict=True):
        found[" ".join(verb)] = outcome.out + outcome.err
    found["journal.db"] = _journal(home.state / "journal.db")
    for path in home.state.glob("*"):
        if path.is_file():
            found[path.name] = found.get(path.name, "") + path.read_bytes().decode("latin-1")
    found["log"] = daemon.output.decode()
    return found


def _journal(path: Path) -> str:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
        return "\n".join(journal.iterdump())


def require_silence(found: dict[str, str], *secrets: str) -> None:
    leaks = [
        (where, secret) for where, text in found.items() for secret in secrets if secret in text
    ]
    assert leaks == []
    assert all(found[where] for where in ("/status?all=1", "/metrics", "doctor", "log"))


async def test_no_secret_and_no_text_is_said_while_all_is_well(
    home: Home, proxy: FaultProxy, server: Server
) -> None:
    plant(home, proxy.server)
    async with running(home) as daemon:
        for length in (2, 3, 1):
            put(home, length)
            assert (await daemon.sync()).is_ok
        require_silence(await said(home, daemon), *SECRETS)
    assert proxy.requests[-1].access_key == ACCESS, "the credentials were never used"
    kept = KeptInBucket(server)
    assert TEXT.encode() in (history_of(kept, "one") or b"")
    objects = [found.body for key in kept.listing() if (found := kept.look(key))]
    assert len(objects) > 2
    assert not [body for body in objects if SINK.encode() in body]


@pytest.mark.parametrize(
    "refusal",
    [
        SERVER_ERROR,
        Answer(403, "SignatureDoesNotMatch", (("x-amz-request-id", SECRET),)),
    ],
    ids=["failing", "signature"],
)
async def test_no_secret_and_no_text_is_said_when_the_store_refuses(
    home: Home, proxy: FaultProxy, refusal: Answer
) -> None:
    plant(home, proxy.server)
    proxy.add(refusal)
    put(home, 2)
    async with running(home) as daemon:
        await daemon.reports(lambda report: report["totals"]["failed_attempts"])
        require_silence(await said(home, daemon), *SECRETS)


async def test_no_text_is_said_of_a_session_that_cannot_be_read(home: Home) -> None:
    home.environ |= DEBUG
    contents = (
        f'{{"id":"one","messages":["{TEXT}"]}}',
        f'{{"id":"{TEXT}","messages":[]}}',
        f'{{"id":"one","messages":[],"{TEXT}',
        f'{{"id":"one","messages":{{"{TEXT}":1}}}}',
    )
    async with running(home) as daemon:
        for content in contents:
            (home.sessions / "one.json").write_text(content)
            assert (await daemon.sync()).status == 503
        assert daemon.lines("session.quarantined")
        require_silence(await said(home, daemon), TEXT)


VERBS_WITHOUT_DAEMON = (("run",), ("config", "check"), ("config", "show"), ("doctor",), ("sync",))


def test_a_configuration_that_is_wrong_is_explained_without_its_secrets(
    home: Home, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'workers = 0\n[s3]\nbucket = "b"\nsecret_key = "{SECRET}"\nno_key = "x"\n')
    home.environ["TRANSCRIPTD_S3__SESSION_TOKEN"] = TOKEN
    for verb in VERBS_WITHOUT_DAEMON:
        outcome = home.run(*verb, "--config", str(file))
        assert outcome.status == os.EX_CONFIG
        assert "workers" in outcome.err
        assert not [s for s in (SECRET, TOKEN) if s in outcome.out + outcome.err]


@pytest.mark.parametrize("prefix", ["TRANSCRIPTD_S3__", VARIABLE])
def test_an_endpoint_with_a_password_is_refused_without_being_shown(
    home: Home, prefix: str
) -> None:
    home.environ |= {f"{prefix}{name}": "x" for name in ("BUCKET", "ACCESS_KEY", "SECRET_KEY")}
    home.environ[f"{prefix}ENDPOINT"] = f"https://{USER_INFO}:{USER_INFO}@127.0.0.1:9"
    for verb in VERBS_WITHOUT_DAEMON:
        outcome = home.run(*verb)
        assert outcome.status == os.EX_CONFIG
        assert f"{prefix}ENDPOINT" in outcome.err
        assert USER_INFO not in outcome.out + outcome.err
