"""What stands in an archive whose secrets are masked, whatever befalls journal, rules and key."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests import documents
from tests.machine import Machine
from tests.memory_store import Bucket
from transcriptd.content import BLOCK, Held
from transcriptd.digest import digest
from transcriptd.errors import Unsettled
from transcriptd.masks import Masked
from transcriptd.mirror import QUIET_S
from transcriptd.model import Cursor, Session, Snapshot, Stat, State
from transcriptd.redaction import Rule, RuleSet
from transcriptd.remask import _Differences
from transcriptd.rows import Record
from transcriptd.screen import Screen
from transcriptd.snapshot import Look
from transcriptd.tree import Tree
from transcriptd.write import Sizes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.documents import Message
    from transcriptd.model import Screening
    from transcriptd.screen import Mode

KEY = "history/s/history.jsonl"
SECRET = "zq-" + "7" * 24
LATER = "yk-" + "5" * 24
FIRST = RuleSet([Rule("zq-token", "zq-[0-9]{24}")])
SECOND = RuleSet([Rule("zq-token", "zq-[0-9]{20,40}"), Rule("yk-token", "yk-[0-9]{24}")])
NONE = RuleSet([Rule("yk-token", "yk-[0-9]{24}")])


def said(*texts: str) -> list[Message]:
    return [documents.message("user", f"{text} {'.' * 40}") for text in texts]


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with Machine(tmp_path, Bucket(), screen=Screen("mask", FIRST)) as each:
        yield each


async def archive(machine: Machine, *texts: str, sealing: bool = False) -> bytes:
    """Save a session that says this, archive it, and return what stands there."""
    session = machine.save(said(*texts))
    await machine.turn(session, sealing=sealing)
    assert machine.record().state is State.CURRENT
    return await machine.content()


def cursor_of(machine: Machine) -> Cursor:
    cursor = machine.record().cursor
    assert cursor
    return cursor


def screening_of(machine: Machine) -> Screening:
    screening = machine.record().screening
    assert screening
    return screening


async def with_rules(machine: Machine, rules: RuleSet, journal: str = "kept") -> None:
    machine.screen = Screen("mask", rules)
    await machine.restart(journal)


def everything(machine: Machine) -> bytes:
    return b"".join(each.body for each in machine.store.objects.values())


def masked(*texts: str) -> bytes:
    return documents.history(said(*texts))


HIDDEN = "[zq-token]" + "*" * (len(SECRET) - 10)
HIDDEN_LATER = "[yk-token]" + "*" * (len(LATER) - 10)


async def test_a_secret_is_masked_by_as_many_bytes_and_the_rest_is_as_it_was(
    machine: Machine,
) -> None:
    content = await archive(machine, "hello", SECRET, "bye")
    assert content == masked("hello", HIDDEN, "bye")
    assert SECRET.encode() not in everything(machine)


async def test_an_append_sends_what_is_new_and_masks_it(machine: Machine) -> None:
    before = await archive(machine, *["text"] * 300, SECRET)
    content = await archive(machine, *["text"] * 300, SECRET, "more", SECRET)
    assert content == masked(*["text"] * 300, HIDDEN, "more", HIDDEN)
    assert content.startswith(before)
    assert cursor_of(machine).tail_length == len(content) - len(before)
    assert cursor_of(machine).generation == 0


@pytest.mark.parametrize("journal", ["kept", "lost"])
@pytest.mark.parametrize("sizes", [Sizes(), Sizes(small=1)], ids=["base", "tail"])
async def test_new_rules_apply_to_what_comes_and_leave_what_is_archived(
    tmp_path: Path, journal: str, sizes: Sizes
) -> None:
    async with Machine(tmp_path, Bucket(), screen=Screen("mask", FIRST), sizes=sizes) as machine:
        await archive(machine, SECRET)
        before = await archive(machine, SECRET, LATER)
        assert before == masked(HIDDEN, LATER), "the first rules do not know it"
        await with_rules(machine, SECOND, journal)
        content = await archive(machine, SECRET, LATER, "more", LATER, SECRET)
        assert content == masked(HIDDEN, LATER, "more", HIDDEN_LATER, HIDDEN)
        assert cursor_of(machine).generation == 0
        assert machine.record().reason == ""
        # Also once nothing is remembered but what the archive and the state directory hold.
        await with_rules(machine, NONE, "lost")
        content = await archive(machine, SECRET, LATER, "more", LATER, SECRET, SECRET)
        assert content == masked(HIDDEN, LATER, "more", HIDDEN_LATER, HIDDEN, SECRET)
        assert cursor_of(machine).generation == 0


async def test_without_journal_and_key_the_same_rules_go_on_with_the_same_stream(
    machine: Machine,
) -> None:
    await archive(machine, SECRET)
    (machine.state_dir / "redaction.key").unlink()
    await with_rules(machine, FIRST, "lost")
    assert await archive(machine, SECRET, "more") == masked(HIDDEN, "more")
    assert cursor_of(machine).generation == 0


async def test_without_journal_and_key_other_rules_begin_one_generation_and_status_says_why(
    machine: Machine,
) -> None:
    before = await archive(machine, SECRET, LATER)
    (machine.state_dir / "redaction.key").unlink()
    await with_rules(machine, SECOND, "lost")
    content = await archive(machine, SECRET, LATER, "more")
    assert content == masked(HIDDEN, HIDDEN_LATER, "more")
    assert cursor_of(machine).generation == 1
    assert machine.record().reason == "redaction_key_lost"
    kept = machine.store.objects["history/.generations/s/history.jsonl/000000.jsonl"]
    assert kept.body == before
    assert await archive(machine, SECRET, LATER, "more", "last") == masked(
        HIDDEN, HIDDEN_LATER, "more", "last"
    )
    assert cursor_of(machine).generation == 1
    assert machine.record().reason == ""


async def test_a_rewrite_of_the_source_is_a_generation_though_its_masks_are_the_same(
    machine: Machine,
) -> None:
    await archive(machine, SECRET, "one")
    assert await archive(machine, SECRET, "two") == masked(HIDDEN, "two")
    assert cursor_of(machine).generation == 1


async def test_an_undo_and_a_redo_keep_every_secret_masked(machine: Machine) -> None:
    await archive(machine, SECRET, "one", SECRET)
    assert await archive(machine, SECRET) == masked(HIDDEN)
    await archive(machine, SECRET, "one", SECRET)
    assert SECRET.encode() not in everything(machine)


async def test_masking_from_now_on_leaves_what_was_archived_in_the_open(tmp_path: Path) -> None:
    async with Machine(tmp_path, Bucket(), screen=Screen("report", FIRST)) as machine:
        assert await archive(machine, SECRET) == masked(SECRET)
        for journal in ("kept", "lost"):
            await with_rules(machine, FIRST, journal)
            texts = [SECRET, *[HIDDEN] * (1 + (journal == "lost"))]
            content = await archive(machine, *[SECRET] * len(texts))
            assert content == masked(*texts)
            assert cursor_of(machine).generation == 0


@pytest.mark.parametrize("journal", ["kept", "lost"])
async def test_masking_no_more_keeps_the_masks_that_are_archived(
    machine: Machine, journal: str
) -> None:
    await archive(machine, SECRET)
    machine.screen = Screen("off")
    await machine.restart(journal)
    assert await archive(machine, SECRET, SECRET) == masked(HIDDEN, SECRET)
    assert cursor_of(machine).generation == 0


async def test_masks_stay_however_often_the_mode_changes_and_the_journal_is_lost(
    machine: Machine,
) -> None:
    await archive(machine, SECRET)
    machine.screen = Screen("report", FIRST)
    await machine.restart()
    await archive(machine, SECRET, SECRET, sealing=True)
    machine.screen = Screen("off")
    await machine.restart("lost")
    assert await archive(machine, SECRET, SECRET, "more") == masked(HIDDEN, SECRET, "more")
    assert cursor_of(machine).generation == 0


async def test_a_sealed_and_restarted_stream_goes_on_without_sending_a_byte_again(
    machine: Machine,
) -> None:
    texts = [SECRET, *["text"] * 300]
    await archive(machine, *texts)
    await archive(machine, *texts, SECRET, sealing=True)
    await machine.restart("lost")
    before = machine.store.traffic.sent_bytes
    content = await archive(machine, *texts, SECRET, "!", sealing=False)
    assert machine.store.traffic.sent_bytes - before == len(content) - len(masked(*texts, HIDDEN))
    assert content == masked(HIDDEN, *["text"] * 300, HIDDEN, "!")


async def test_the_rest_of_the_document_is_masked_too(machine: Machine) -> None:
    session = machine.save(said("hello"), title=f"about {SECRET}")
    await machine.turn(session)
    await machine.turn(session, settled=True)
    document = machine.store.objects["history/s/session.json"].body
    assert json.loads(document)["title"] == f"about {HIDDEN}"
    assert screening_of(machine).in_document == {"zq-token": 1}


async def test_findings_are_counted_by_rule_and_an_append_adds_to_them(tmp_path: Path) -> None:
    async with Machine(tmp_path, Bucket(), screen=Screen("report", SECOND)) as machine:
        await archive(machine, SECRET, LATER)
        await archive(machine, SECRET, LATER, SECRET)
        assert screening_of(machine).found == {"zq-token": 2, "yk-token": 1}
        assert machine.journal.findings() == {
            ("codetether", "zq-token"): 2, ("codetether", "yk-token"): 1,
        }  # fmt: skip
        await archive(machine, SECRET)
        assert screening_of(machine).found == {"zq-token": 1}


async def test_nothing_leaves_while_the_rules_cannot_look(tmp_path: Path) -> None:
    async with Machine(
        tmp_path, Bucket(), screen=Screen("mask", broken="out of memory")
    ) as machine:
        session = machine.save(said("hello"))
        await machine.turn(session)
        assert machine.record().state is State.QUARANTINED
        assert machine.record().reason == "unscannable"
        assert not machine.store.objects


async def test_beside_another_writers_history_all_is_masked_also_what_was_in_the_open(
    tmp_path: Path,
) -> None:
    theirs = Bucket()
    async with Machine(tmp_path, theirs, name="m2", writer="f" * 12) as other:
        await archive(other, "theirs")
    async with Machine(tmp_path, Bucket(), screen=Screen("report", FIRST)) as machine:
        await archive(machine, SECRET)
        machine.store = machine.reader(theirs)
        await with_rules(machine, FIRST)
        await machine.turn(machine.save(said(SECRET, "more")))
        assert machine.record().state is State.CONFLICT
        assert await machine.content(cursor_of(machine).key) == masked(HIDDEN, "more")
        assert SECRET.encode() not in everything(machine)


async def test_a_finished_generation_says_that_its_tail_is_masked(tmp_path: Path) -> None:
    sizes = Sizes(small=1)
    async with Machine(tmp_path, Bucket(), screen=Screen("report", FIRST), sizes=sizes) as machine:
        await archive(machine, "one")
        await with_rules(machine, FIRST)
        await archive(machine, "one", SECRET)  # in the tail
        await archive(machine, "two")
        kept = machine.store.objects["history/.generations/s/history.jsonl/000000.jsonl"]
        assert kept.metadata["td-redaction"] == "mask"


async def test_what_waits_for_its_project_is_asked_again_though_its_file_stays(
    machine: Machine,
) -> None:
    session = machine.save(said("hello"))
    machine.excluded[session] = "project_unknown"
    await machine.turn(session)
    assert machine.record().stat is None, "a scan would take it for dealt with"
    assert machine.record().reason == "project_unknown"


def test_a_session_whose_last_line_waits_for_its_end_is_not_archived() -> None:
    stat, session = Stat(1, 2, 3, 4, 5), Session("claude", "s", "/", "s.jsonl")
    whole = Record(session, stat, State.CURRENT, "", "", 0, None)
    assert whole.is_archived
    assert not replace(whole, reason="unfinished_line").is_archived


class Unquiet(Screen):
    """Looks at files that never hold still."""

    def look(self, *_: object, **__: object) -> Look:
        raise Unsettled("it is being written", seconds=30.0)


async def test_a_text_that_is_written_all_the_time_holds_up_no_seal(machine: Machine) -> None:
    session = machine.save(said(*["text"] * 300))
    await machine.turn(session)
    await archive(machine, *["text"] * 300, "more")
    assert cursor_of(machine).tail_length

    machine.screen = Unquiet("mask", FIRST)
    await machine.restart()
    machine.save(said("something else"))
    assert await machine.turn(session, sealing=True) == 30.0
    assert not cursor_of(machine).tail_length


async def test_without_rules_nothing_is_asked_and_nothing_is_noted(tmp_path: Path) -> None:
    async with Machine(tmp_path, Bucket(), screen=Screen("off", FIRST)) as machine:
        assert await archive(machine, SECRET) == masked(SECRET)
        assert machine.record().screening is None


async def test_what_is_said_of_a_masked_base_gives_nothing_of_its_source_away(
    machine: Machine,
) -> None:
    await archive(machine, SECRET)
    told = machine.store.objects[KEY].metadata
    assert told["td-redaction"] == "mask"
    assert told["td-rules"] == FIRST.version
    assert re.fullmatch(r"[0-9a-f]{8}\.[0-9a-f]{64}", told["td-plain"])


@pytest.mark.parametrize("before", ["mask", "off"])
async def test_with_its_journal_other_rules_cost_no_look_at_what_is_archived(
    tmp_path: Path, before: Mode
) -> None:
    async with Machine(tmp_path, Bucket(), screen=Screen(before, FIRST)) as machine:
        await archive(machine, SECRET, LATER)
        await with_rules(machine, SECOND)
        machine.store.log.clear()
        shown = HIDDEN if before == "mask" else SECRET
        assert await archive(machine, SECRET, LATER, LATER) == masked(shown, LATER, HIDDEN_LATER)
        assert cursor_of(machine).generation == 0
        assert not machine.store.count("read")


async def test_after_a_crash_before_what_was_masked_was_noted_the_archive_tells_it(
    machine: Machine,
) -> None:
    await archive(machine, SECRET, LATER)
    await machine.journal._database.write(
        lambda c: c.execute("UPDATE sessions SET screening = NULL")
    )
    await with_rules(machine, SECOND)
    content = await archive(machine, SECRET, LATER, LATER)
    assert content == masked(HIDDEN, LATER, HIDDEN_LATER)
    assert cursor_of(machine).generation == 0


async def test_a_source_that_was_excluded_leaves_nothing_and_comes_once_it_is_not(
    machine: Machine,
) -> None:
    session = machine.save(said("hello"))
    machine.excluded[session] = "excluded_path"
    await machine.turn(session)
    assert machine.record().state is State.EXCLUDED
    assert not machine.store.log, "not even a claim"
    machine.excluded.clear()
    assert await archive(machine, "hello") == masked("hello")


class Noted:
    """A content that notes how much of it is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.read_bytes = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, start: int, end: int) -> bytes:
        self.read_bytes += end - start
        return self.data[start:end]


def test_an_append_to_a_long_masked_stream_reads_its_end_alone() -> None:
    line = documents.history(said("x" * 900))
    data = documents.history(said(SECRET)) + line * 4000
    screen, session = Screen("mask", FIRST), Session("claude", "s", "/", "s.jsonl")

    def seen(data: bytes, cursor: Cursor | None, known: Screening | None) -> tuple[Look, int]:
        content = Noted(data)
        snapshot = Snapshot(session, Stat(len(data), 0, 0, 0, 0), content, data.count(b"\n"))
        plain = Look(snapshot, digest(data), extends=True)
        return screen.screened(plain, cursor, known), content.read_bytes

    first, _ = seen(data, None, None)
    assert first.screened
    cursor = Cursor(KEY, 0, 1, len(data), first.digest, "", "")
    again, read_bytes = seen(data + line, cursor, first.screened.screening)
    assert again.extends
    assert again.digest == seen(data + line, None, None)[0].digest
    assert read_bytes < 3 * BLOCK < len(data)


def look_of(data: bytes, *, extends: bool = True) -> Look:
    """Look at what a source has, and at nothing that is archived."""
    session = Session("claude", "s", "/", "s.jsonl")
    snapshot = Snapshot(session, Stat(len(data), 0, 0, 0, 0), Held(data), data.count(b"\n"))
    return Look(snapshot, digest(data), extends=extends)


def cursor_at(look: Look) -> Cursor:
    return Cursor(KEY, 0, 1, look.snapshot.content.size, look.digest, "", "")


def content_of(look: Look) -> bytes:
    return look.snapshot.content.read(0, look.snapshot.content.size)


def test_a_line_that_was_begun_in_the_open_is_finished_masked() -> None:
    line = b'{"t":"%s"}\n' % SECRET.encode()
    begun = Screen("report", FIRST).screened(look_of(line[:12]), None)
    assert begun.screened
    found = Screen("mask", FIRST).screened(
        look_of(line), cursor_at(begun), begun.screened.screening
    )
    assert content_of(found) == line[:12] + b"*" * (len(SECRET) - 6) + b'"}\n'
    assert found.extends


def test_a_file_that_holds_what_is_archived_of_it_masks_and_all_goes_on() -> None:
    line = b'{"t":"%s"}\n' % SECRET.encode()
    screen = Screen("mask", FIRST)
    archived = screen.screened(look_of(line), None)
    assert archived.screened
    restored = look_of(content_of(archived), extends=False)  # it is not what the source was
    again = screen.screened(restored, cursor_at(archived), archived.screened.screening)
    assert again.extends


async def test_what_differs_from_the_source_by_more_than_masks_is_damage_and_no_mask() -> None:
    ours = b'{"t":"%s","u":"important"}\n' % SECRET.encode()
    archived = ours.replace(SECRET.encode(), HIDDEN.encode())

    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 7):
            yield data[at : at + 7]

    well, damaged = _Differences(Held(ours)), _Differences(Held(ours))
    assert await well.take(pieces(archived))
    assert Masked(Held(ours), well.masks).read(0, len(ours)) == archived
    assert not await damaged.take(pieces(archived.replace(b"important", b"impXrtant")))


class Moved(Tree):
    """An agent that renames what it has finished."""

    name = "moved"

    def mirrors(self, path: str) -> bool:
        return ".jsonl" in path


@pytest.mark.parametrize("age", [1.0, 3600.0])
def test_what_grows_no_more_is_taken_whole_once_it_is_quiet(tmp_path: Path, age: float) -> None:
    path = tmp_path / "s.jsonl.migrated"
    path.write_bytes(b'{"a":1}\n{"b":"%s"}' % SECRET.encode())
    source, later = Moved([tmp_path]), path.stat().st_ctime + age
    session = source.session(tmp_path, path.name)
    assert session

    def look() -> Look:
        screen = Screen("mask", FIRST)
        return screen.look(source, session, None, max_bytes=BLOCK, clock=lambda: later)

    if age < QUIET_S:
        with pytest.raises(Unsettled, match="30 seconds"):
            look()
    else:
        assert content_of(look()) == b'{"a":1}\n{"b":"%s"}' % HIDDEN.encode()
