"""The archive is read by programs that know nothing of this one: `jq` and DuckDB, as documented."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.agents import PROJECT, UUID, Claude, write
from tests.documents import conversation, document, message, save
from tests.home import Home
from tests.servers import create_bucket

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from tests.servers import Pool, Server

README = Path(__file__).parents[2] / "README.md"
ASKED = "Where is it?\tAnd “what” is it\u2028worth?"
BUSY, QUIET, UNDONE = conversation(9), [message("user", ASKED)], conversation(5, about="tests")
EXPECTED = [("busy", 9, 3, 2), ("undone", 2, 1, 1), ("quiet", 1, 1, 0)]
"""(session, messages, asked, tool calls), as the conversations above have them."""


def documented(name: str) -> str:
    """Return what the README says to type."""
    text = README.read_text()
    match = re.search(rf"<!-- query: {name} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert match, f"the README has no query {name}"
    return match[1]


def archive(home: Home) -> None:
    """Archive three sessions, one of which has a finished generation."""
    save(home.sessions, document(UNDONE, "undone"))
    assert home.run("sync").status == 0
    for name, messages in (("busy", BUSY), ("quiet", QUIET), ("undone", UNDONE[:2])):
        save(home.sessions, document(messages, name, title=name.title()))
    assert home.run("sync").status == 0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.make(tmp_path / "home")


@pytest.fixture
def duckdb(monkeypatch: pytest.MonkeyPatch, home: Home) -> DuckDBPyConnection:
    """A connection that may fetch nothing."""
    if find_spec("duckdb") is None:
        pytest.skip("duckdb is not installed: pip install duckdb")
    import duckdb

    monkeypatch.setenv("HOME", str(home.path))
    offline: Any = {"autoinstall_known_extensions": "false"}
    return duckdb.connect(config=offline)


def load_httpfs(connection: DuckDBPyConnection) -> None:
    found = find_spec("duckdb_extension_httpfs")
    if found is None or found.origin is None:
        pytest.skip("httpfs is not installed: pip install duckdb-extension-httpfs")
    (extension,) = Path(found.origin).parent.rglob("httpfs.duckdb_extension")
    connection.execute(f"LOAD '{extension}'")


def say_where(connection: DuckDBPyConnection, server: Server) -> None:
    """Create the documented secret, with a server's values in it."""
    endpoint = urlsplit(server.endpoint)
    said = documented("secret").partition("LOAD httpfs;")[2]
    for before, after in (
        ("ACCESS_KEY", server.access_key),
        ("SECRET_KEY", server.secret_key),
        ("us-east-1", server.region),
        ("minio.example.com", endpoint.netloc),
        ("USE_SSL true", f"USE_SSL {str(server.over_tls).lower()}"),
    ):
        assert before in said
        said = said.replace(before, after)
    connection.execute(said)


def test_jq_reads_a_local_archive(home: Home) -> None:
    jq = shutil.which("jq")
    if jq is None:
        pytest.skip("jq is not installed: apt-get install jq")
    archive(home)
    first, _, query = documented("jq").partition("\n")
    assert first == f"cd ~/{home.archive.relative_to(home.path)}/history"
    done = subprocess.run(
        ["sh", "-euc", query],
        cwd=home.archive / "history",
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    rows = [line.split("\t") for line in done.stdout.decode().removesuffix("\n").split("\n")]
    asked = [row for row in rows if row[0] == "quiet/history.jsonl"]
    assert asked == [["quiet/history.jsonl", ASKED.replace("\t", "\\t")]]
    assert [row[0] for row in rows].count("busy/history.jsonl") == 3
    assert [row[0] for row in rows].count("undone/history.jsonl") == 1


def test_duckdb_reads_a_local_archive(
    home: Home, duckdb: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(home)
    monkeypatch.chdir(home.archive)
    assert duckdb.execute(documented("duckdb")).fetchall() == EXPECTED


def test_duckdb_reads_mirrors_of_every_machine_also_with_torn_lines(
    home: Home, duckdb: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for machine, text in (("old", "hello"), ("new", "hello again")):
        home.environ["TRANSCRIPTD_MACHINE"] = machine
        claude = Claude(home.path)
        claude.says(text)
        write(claude.projects / PROJECT / f"{UUID}.jsonl", b'{"type":"user","torn\n\0\0\0\n')
        claude.delegates("a1")
        assert home.run("sync").status == 0
        shutil.rmtree(home.state)
    monkeypatch.chdir(home.archive)
    main = f"{PROJECT}/{UUID}"
    found = duckdb.execute(documented("mirrors")).fetchall()
    assert [(machine, session, messages) for machine, session, messages, _ in found] == [
        ("new", main, 2),
        ("old", main, 1),
        ("new", f"{main}/subagents/agent-a1", 0),
        ("old", f"{main}/subagents/agent-a1", 0),
    ]


@pytest.mark.parametrize("name", ["ministack", "swift"])
def test_duckdb_reads_an_archive_on_s3(
    home: Home, duckdb: DuckDBPyConnection, servers: Pool, name: str
) -> None:
    server = create_bucket(servers.get(name))
    home.use(server)
    archive(home)
    load_httpfs(duckdb)
    say_where(duckdb, server)
    query = documented("duckdb")
    assert "'history/*/" in query
    query = query.replace("'history/*/", f"'s3://{server.bucket}/history/*/")
    assert duckdb.execute(query).fetchall() == EXPECTED


def test_duckdb_reads_what_a_restore_needs_besides(
    home: Home, duckdb: DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive(home)
    monkeypatch.chdir(home.archive)
    query = re.search(r"`(SELECT id, title.*?)`", README.read_text())
    assert query
    titles = duckdb.execute(query[1]).fetchall()
    assert sorted(titles) == [
        (name, name.title(), "/srv/app") for name in ("busy", "quiet", "undone")
    ]
