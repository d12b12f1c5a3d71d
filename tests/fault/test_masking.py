"""What a daemon that masks lets leave the machine, and what one that does not says of it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from typing import TYPE_CHECKING

import pytest

from tests.agents import UUID, Claude, Codex, ZeroClawStore, record, rewrite, write
from tests.daemon import running
from tests.documents import document, history, message, save
from tests.fault.archives import over_a_bucket, over_copies
from tests.fault.masked import (
    HALF,
    MASK,
    MORE_RULES,
    Overheard,
    archived,
    configure,
    hidden,
    masked,
    screenings,
    secret,
)
from tests.fault.mirrored import (
    CONFLICTS,
    FINISHED,
    SESSION,
    comes_to_mirror,
    finished_of,
    grow,
    mirrored,
    rollout,
    session,
)
from tests.kept import KeptInBucket, KeptInDirectory, history_of
from transcriptd.screen import MOST_OF_A_TEXT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon import Daemon
    from tests.fault.archives import Archive
    from tests.home import Home
    from tests.servers import Server

NEVER = {"TRANSCRIPTD_WATCH__RESCAN": "3600"}
DEBUG = {"TRANSCRIPTD_LOG__LEVEL": "debug"}
LINE = '{"type":"user","message":{"role":"user","content":"a %s b"}}\n'
MIB = 1 << 20


@pytest.fixture
def kept(home: Home) -> KeptInDirectory:
    """Return the local archive, for what is about sources alone."""
    home.environ["TRANSCRIPTD_MACHINE"] = "m1"
    return KeptInDirectory(home.archive)


def saying(*texts: str) -> bytes:
    return "".join(LINE % text for text in texts).encode()


def zeroclaw(home: Home) -> Path:
    return home.path / ".zeroclaw" / "workspace" / "sessions"


def of_rollout(home: Home) -> str:
    return f"codex/{rollout(home).relative_to(home.path / '.codex').as_posix()}"


async def test_a_secret_that_comes_in_two_writes_never_leaves(home: Home, server: Server) -> None:
    secrets = {name: secret(name) for name in ("claude", "codex", "zeroclaw")}
    paths = {
        "claude": session(home),
        "codex": rollout(home),
        "zeroclaw": zeroclaw(home) / "chat.jsonl",
    }
    names = {"claude": SESSION, "codex": of_rollout(home), "zeroclaw": "zeroclaw/chat.jsonl"}
    whole = {name: saying("first", secrets[name], "last") for name in paths}
    cut = {name: whole[name].index(secrets[name].encode()) + HALF for name in paths}
    begun = saying("first")
    text, half = f"one\ntwo {secret('text')} three".encode(), secret("text")[:HALF].encode()
    results = f"claude/{paths['claude'].parent.name}/{UUID}/tool-results/t.txt"
    configure(home)
    home.environ |= MASK
    kept = KeptInBucket(server)
    async with Overheard(server) as proxy:
        home.use(proxy.server)
        async with running(home, **NEVER) as daemon:
            for name, path in paths.items():
                write(path, whole[name][: cut[name]])
                os.utime(path, (1, 1))  # long ago: nobody is about to finish the line
            output = Claude(home.path).keeps("t.txt", text[: text.index(half) + HALF])
            (left,) = (await daemon.sync(seal=True)).json()["left"]
            assert (left["path"], left["reason"]) == (str(output), "unfinished_text")
            found = {name: mirrored(kept, names[name]) for name in names}
            assert found == dict.fromkeys(names, begun)
            told = {each["source"]: each["reason"] for each in (await daemon.status())["sessions"]}
            assert told.items() >= dict.fromkeys(("codex", "zeroclaw"), "unfinished_line").items()
            assert (await daemon.state_of(UUID))["reason"] == "unfinished_line"
            assert mirrored(kept, results) is None, "what may still be written was sent"
            assert await daemon.stop() == 0
        found = {name: mirrored(kept, names[name]) for name in names}
        assert found == dict.fromkeys(names, begun), "the drain sent half a line"
        async with running(home, **NEVER) as daemon:
            for name, path in paths.items():
                write(path, whole[name][cut[name] :])
            write(output, text[output.stat().st_size :])
            os.utime(output, (1, 1))
            await comes_to_mirror(kept, masked(text, ["zq-token"], secret("text")), results)
            for name, content in whole.items():
                await comes_to_mirror(
                    kept, masked(content, ["zq-token"], secrets[name]), names[name]
                )
            await daemon.reports(lambda said: not any(each["reason"] for each in said["sessions"]))
            sent = proxy.wire
    for each in (*secrets.values(), secret("text")):
        assert each[:HALF].encode() not in sent
        assert each[HALF:].encode() not in sent
    assert not kept.listing(FINISHED)


async def test_what_is_saved_whole_never_leaves_with_its_secrets(
    home: Home, server: Server
) -> None:
    secrets = [secret(number) for number in range(6)]
    configure(home)
    home.environ |= MASK
    kept = KeptInBucket(server)
    store = ZeroClawStore(zeroclaw(home))
    said = [message("user", "hello")]
    rows = b""
    async with Overheard(server) as proxy:
        home.use(proxy.server)
        async with running(home, **NEVER) as daemon:
            for each in secrets[:3]:
                text = f'{{"argument":"{each}"}}'
                said.append(message("user", text))
                tools = [{"id": "1", "input": f"use {secrets[3]}"}]
                title = f"about {secrets[4]}"
                save(home.sessions, document(said, "one", title=title, tool_uses=tools))
                store.says("chat", text)
                rows += record(role="user", content=text) + b"\n"
                assert (await daemon.sync()).is_ok
                assert history_of(kept, "one") == masked(history(said), ["zq-token"], *secrets)
                database = mirrored(kept, "zeroclaw/sessions.db/chat.jsonl")
                assert database == masked(rows, ["zq-token"], *secrets)
            rest = kept.look("history/one/session.json")
            sent = proxy.wire
    assert rest is not None
    told = json.loads(rest.body)
    assert (told["title"], told["tool_uses"]) == (
        f"about {hidden(secrets[4])}",
        [{"id": "1", "input": f"use {hidden(secrets[3])}"}],
    )
    assert not [each for each in secrets if each.encode() in sent]
    assert not kept.listing(FINISHED)


KEY_RULE = {"pem-key": "(?s)-----BEGIN [A-Z ]{0,20}KEY-----.{1,900}?-----END [A-Z ]{0,20}KEY-----"}
KEY_BODY = [random.Random(1).randbytes(36).hex()[:64] for _ in range(6)]


async def test_text_with_a_key_of_many_lines_and_a_description_are_masked_in_their_places(
    home: Home, kept: KeptInDirectory
) -> None:
    one = secret("meta")
    claude = Claude(home.path)
    key = "-----BEGIN PRIVATE KEY-----\r\n{}\r\n-----END PRIVATE KEY-----\r\n".format(
        "\r\n".join(KEY_BODY)
    ).encode()
    output = b"one\n\n" + key + b"\r\nbetween \xff\n" + key.replace(b"\r", b"") + b"the end"
    results = claude.keeps("t.txt", output)
    os.utime(results, (1, 1))  # nobody writes to it any more
    meta = claude.delegates("a1").with_suffix(".meta.json")
    described = json.dumps({"agentType": "explore", "told": f"use {one}"}, indent=2).encode()
    rewrite(meta, described)
    configure(home, {"zq-token": "zq-[0-9]{24}", **KEY_RULE})
    async with running(home, **MASK) as daemon:
        assert (await daemon.sync()).is_ok
    below = f"claude/{session(home).parent.name}/{UUID}"
    found = mirrored(kept, f"{below}/tool-results/{results.name}")
    assert found is not None
    assert len(found) == len(output)
    assert not [each for each in KEY_BODY if each.encode() in archived(kept)]
    ends = re.compile(rb"[\r\n]")
    assert [m.span() for m in ends.finditer(found)] == [m.span() for m in ends.finditer(output)]
    assert re.sub(rb"(\[[a-z-]+\])?\*+", b"", found).split() == [
        *(b"one", b"between", b"\xff", b"the", b"end")
    ]
    told = mirrored(kept, f"{below}/subagents/{meta.name}")
    assert told == masked(described, ["zq-token"], one)
    assert json.loads(told)["told"] == f"use {hidden(one)}"


async def test_unless_told_otherwise_all_is_archived_as_it_is_and_findings_are_counted_not_told(
    home: Home, kept: KeptInDirectory
) -> None:
    secrets = [secret(number) for number in range(4)]
    configure(home)
    path = grow(session(home), saying(*secrets[:2], "nothing"))
    text = Claude(home.path).keeps("t.txt", f"text with {secrets[2]}".encode())
    save(home.sessions, document([message("user", "hi")], "one", title=f"on {secrets[3]}"))
    by_session = {UUID: {"zq-token": 2}, "one": {"zq-token": 1}}
    async with running(home, **DEBUG, **NEVER) as daemon:
        assert (await daemon.sync()).is_ok
        grow(path, saying(*secrets[:2], "nothing", "again", secrets[0]))
        by_session[UUID] = {"zq-token": 3}
        await comes_to_mirror(kept, path.read_bytes())
        assert (await daemon.sync()).is_ok
        said = await daemon.reports(lambda told: told["totals"]["findings"] == {"zq-token": 5})
        found = {each["id"]: each["findings"] for each in said["sessions"]}
        assert found.items() >= by_session.items()
        assert {s["source"]: s["findings"] for s in said["sources"]}["codetether"] == by_session[
            "one"
        ]
        metrics = (await daemon.ask("/metrics")).body.decode()
        assert 'transcriptd_findings{rule="zq-token",source="claude"} 4.0' in metrics
        assert 'transcriptd_findings{rule="zq-token",source="codetether"} 1.0' in metrics
        everything = await _told(home, daemon)
    assert mirrored(kept) == path.read_bytes()
    results = f"claude/{path.parent.name}/{UUID}/tool-results/t.txt"
    assert mirrored(kept, results) == text.read_bytes()
    leaks = [(where, one) for where, told in everything.items() for one in secrets if one in told]
    assert leaks == []
    assert all("zq-token" in everything[where] for where in ("status --json", "doctor"))


async def _told(home: Home, daemon: Daemon) -> dict[str, str]:
    """Return all that can be read of a daemon and of its state, by where."""
    verbs = (("status",), ("status", "--json"), ("doctor",), ("doctor", "--json"), ("journal",))
    found = {target: (await daemon.ask(target)).body.decode() for target in ("/status", "/metrics")}
    outcomes = await asyncio.gather(*(asyncio.to_thread(home.run, *verb) for verb in verbs))
    for verb, outcome in zip(verbs, outcomes, strict=True):
        found[" ".join(verb)] = outcome.out + outcome.err
    found["log"] = daemon.output.decode()
    for path in home.state.glob("*"):
        if path.is_file():
            found[path.name] = path.read_bytes().decode("latin-1")
    assert all(found.values()), "something said nothing at all"
    return found


async def test_each_source_has_a_mode_of_its_own_and_off_leaves_no_trace(
    home: Home, kept: KeptInDirectory
) -> None:
    one = secret("one")
    content = saying("first", one)
    text = "\n".join(
        f"[sources.{name}]\nredaction = '{mode}'"
        for name, mode in {"claude": "mask", "codex": "off"}.items()
    )
    configure(home, text=text)
    grow(session(home), content)
    grow(rollout(home), content)
    write(zeroclaw(home) / "chat.jsonl", content)
    async with running(home, TRANSCRIPTD_REDACTION="report") as daemon:
        assert (await daemon.sync()).is_ok
        said = await daemon.status()
    hits = {"zq-token": 1}
    found = {each["source"]: each["findings"] for each in said["sources"]}
    assert (found["claude"], found["codex"], found["zeroclaw"]) == (hits, {}, hits)
    assert mirrored(kept) == masked(content, ["zq-token"], one)
    assert mirrored(kept, of_rollout(home)) == mirrored(kept, "zeroclaw/chat.jsonl") == content
    assert screenings(home)["codex"] == [None]
    assert None not in screenings(home)["claude"] + screenings(home)["zeroclaw"]
    codex = kept.look(f"history/m1/raw/{of_rollout(home)}")
    assert codex is not None
    assert (codex.said["td-redaction"], "td-plain" in codex.said) == ("off", False)


async def test_off_archives_as_ever_and_keeps_no_key(home: Home, kept: KeptInDirectory) -> None:
    configure(home)
    path = grow(session(home), saying("first", secret("one"))[:-1])
    os.utime(path, (1, 1))
    save(home.sessions, document([message("user", secret("two"))], "one"))
    async with running(home, TRANSCRIPTD_REDACTION="off") as daemon:
        assert (await daemon.sync()).is_ok
        said = await daemon.status()
    assert mirrored(kept) == path.read_bytes(), "a line without its end waits only to be masked"
    assert history_of(kept, "one") == history([message("user", secret("two"))])
    assert [said["totals"]["findings"], said["degraded"]] == [{}, []]
    assert [*screenings(home).values()] == [[None], [None]]
    assert not (home.state / "redaction.key").exists()


LONG = [f"line {number:05}" for number in range(500)]


@over_a_bucket
@pytest.mark.parametrize("lost", ["nothing", "journal", "journal and key"])
async def test_new_rules_apply_to_what_comes_and_no_byte_is_sent_again(
    home: Home, archive: Archive, lost: str
) -> None:
    home.environ |= MASK
    old, new, both = secret("old"), secret("new", "yk"), secret("both")
    path, store = session(home), ZeroClawStore(zeroclaw(home))
    before = saying(old, new, *LONG)
    configure(home)
    grow(path, before)
    for each in (old, new):
        store.says("chat", each)
    text = _text(home, f"{old} {new}")
    async with running(home, **NEVER) as daemon:
        assert (await daemon.sync()).is_ok
    sent = archive.sent(SESSION)
    configure(home, MORE_RULES)
    if "journal" in lost:
        for file in home.state.glob("journal.db*"):
            file.unlink()
    if "key" in lost:
        (home.state / "redaction.key").unlink()
    more = saying(new, both)
    rows = [old, new, new, both]
    wanted = masked(before, ["zq-token"], old) + masked(more, MORE_RULES, new, both)
    row_wanted = [hidden(old), new, hidden(new, "yk-token"), hidden(both, "zq-any")]
    if "key" in lost:
        wanted = masked(before + more, MORE_RULES, old, new, both)
        row_wanted[:2] = [hidden(old, "zq-any"), hidden(new, "yk-token")]
    async with running(home, **NEVER) as daemon:
        grow(path, before + more)
        for count in (3, 4):
            store.says("chat", rows[count - 1])
            _text(home, rows[count - 1])
            assert (await daemon.sync()).is_ok
            assert mirrored(archive.kept, text) == " ".join(["", *row_wanted[:count]]).encode()
            database = mirrored(archive.kept, "zeroclaw/sessions.db/chat.jsonl")
            assert database == _rows(row_wanted[:count])
        assert mirrored(archive.kept) == wanted
        said = (await daemon.status())["sessions"]
        is_anew = "key" in lost
        assert {each["generation"] for each in said} == {int(is_anew)}
        reasons = {each["id"]: each["reason"] for each in said}
        assert reasons[UUID] == ("redaction_key_lost" if is_anew else "")
    assert archive.sent(SESSION) - sent == len(wanted if is_anew else more)
    assert finished_of(archive.kept) == ([masked(before, ["zq-token"], old)] if is_anew else [])


def _text(home: Home, more: str) -> str:
    """Let a tool's output grow that is no lines, long ago; return the path of its mirror."""
    path = Claude(home.path).keeps("t.txt", f" {more}".encode())
    os.utime(path, (1, 1))
    return f"claude/{path.relative_to(Claude(home.path).projects).as_posix()}"


def _rows(texts: list[str]) -> bytes:
    return b"".join(record(role="user", content=each) + b"\n" for each in texts)


@over_copies
async def test_a_moved_rollout_is_copied_with_its_masks_and_goes_on(
    home: Home, archive: Archive
) -> None:
    home.environ |= MASK
    configure(home)
    old, new = secret("old"), secret("new")
    path = grow(rollout(home), saying(old, *LONG))
    assert (await asyncio.to_thread(home.run, "sync")).status == 0
    name = f"codex/archived_sessions/{path.name}"
    async with running(home) as daemon:
        moved = Codex(home.path).archives(path)
        assert (await daemon.sync(seal=True)).is_ok
        await comes_to_mirror(archive.kept, masked(saying(old, *LONG), ["zq-token"], old), name)
        sent = archive.sent("raw/codex/archived")
        grow(moved, saying(old, *LONG, new))
        await comes_to_mirror(
            archive.kept, masked(saying(old, *LONG, new), ["zq-token"], old, new), name
        )
    assert sent < 2_000, "it was sent again, not copied"
    assert not archive.kept.listing(FINISHED)
    assert not archive.kept.listing(CONFLICTS)
    assert old.encode() not in archived(archive.kept)


async def test_damaged_lines_are_masked_as_far_as_they_go_and_hold_nobody_up(
    home: Home, kept: KeptInDirectory
) -> None:
    secrets = [secret(number) for number in range(8)]
    s = [each.encode() for each in secrets]
    damaged = (
        b'{"a":"\xff\xfe ' + s[0] + b'"}\n',
        b'{"a":"\\ud800 ' + s[1] + b'\\udfff"}\n',
        b"\0" * 70_000 + s[2] + b"\0\n",
        b'{"a":"' + s[3] + b"\n",  # torn
        b'{"a":"' + s[4] + b'"}{"b":"' + s[5] + b'"}\n',  # spliced
        s[6] + b"\r\n",
        b'{"a":{"b":"{\\"c\\":\\"\\\\u007aq-'
        + s[7][3:]
        + b'\\"}"}}\n',  # an escape hides its start
    )
    configure(home)
    path = grow(session(home), b"".join(damaged))
    large = Claude(home.path).keeps("large.txt", b"x")
    os.truncate(large, MOST_OF_A_TEXT + 1)
    os.utime(large, (1, 1))
    good = grow(session(home, "good.jsonl"), saying("good"))
    async with running(home, **MASK) as daemon:
        assert (await daemon.sync()).status == 503, "something waits"
        said = {each["id"]: each for each in (await daemon.status())["sessions"]}
        waiting = said[f"{UUID}/tool-results/{large.name}"]
        assert (waiting["state"], waiting["reason"]) == ("quarantined", "unscannable")
        assert said[UUID]["findings"] == {"zq-token": 8}
        assert {each["state"] for each in said.values()} == {"quarantined", "current"}
        grow(good, saying("good", "better"))
        await comes_to_mirror(
            kept, saying("good", "better"), f"claude/{good.parent.name}/{good.name}"
        )
    escaped = b"\\\\u007a" + s[7][1:]
    wanted = path.read_bytes().replace(escaped, hidden(escaped.decode()).encode())
    assert mirrored(kept) == masked(wanted, ["zq-token"], *secrets)
    assert not [each for each in s if each[3:] in archived(kept)]
    assert not kept.listing(f"history/m1/raw/claude/{path.parent.name}/{UUID}/tool-results")


async def test_a_very_long_line_is_masked_at_its_end_within_little_memory(
    home: Home, kept: KeptInDirectory
) -> None:
    one, size = secret("one"), 64 * MIB
    configure(home)
    async with running(home, **MASK, **NEVER) as daemon:
        assert (await daemon.sync()).is_ok
        idle = _memory(daemon, "VmRSS")
        head, tail = b'{"a":"', f' {one}"}}\n'.encode()
        path = write(session(home), head, *[b"b" * MIB] * 64, tail)
        assert (await daemon.sync(60)).is_ok
        grown = _memory(daemon, "VmHWM") - idle
    found = mirrored(kept)
    assert found is not None
    assert len(found) == path.stat().st_size == size + len(head) + len(tail)
    assert found.endswith(f' {hidden(one)}"}}\n'.encode())
    assert grown < 48 * MIB, "the line was held in memory"


def _memory(daemon: Daemon, name: str) -> int:
    with open(f"/proc/{daemon.process.pid}/status") as file:  # noqa: PTH123 - no file of ours
        (line,) = (line for line in file if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
