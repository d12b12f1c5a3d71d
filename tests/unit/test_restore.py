"""Sessions come back as they were, and nothing that stands where they go is lost."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import documents
from tests.documents import conversation, document, history
from tests.machine import Machine
from transcriptd.choice import Choice, Chooser
from transcriptd.errors import AccessDenied, Changing, Unreachable
from transcriptd.landing import Landing, stands
from transcriptd.layout import conflict_key
from transcriptd.model import Session
from transcriptd.restore import Fate, Order, Outcome, Restorer
from transcriptd.sources.codetether import CodeTether
from transcriptd.wanted import wanted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from transcriptd.wanted import AnyWanted

PREFIX = "history/"
MIB = 1 << 20
NEEDED = {"id", "created_at", "updated_at", "metadata", "agent", "messages", "tool_uses", "usage"}
FEW, SOME, MANY = conversation(2), conversation(4), conversation(7)
OTHER = conversation(4, about="tests")

source = CodeTether([], {"HOME": "/nonexistent"})


def archived_and_rebuilt(data: bytes, session_id: str) -> bytes:
    """Take a document the whole way: to lines and the rest, and back."""
    session = Session("codetether", session_id, "/sessions", f"{session_id}.json")
    lines = lines_of(session, data)
    frame = source.frame(session_id, source.document(session, data), 0.0)
    records = [source.record(line + b"\n") for line in lines.split(b"\n")[:-1]]
    return frame.before + frame.between.join(records) + frame.behind


def lines_of(session: Session, data: bytes) -> bytes:
    content = source.lines(session, data).content
    return content.read(0, content.size)


def without_what_is_excluded(value: dict[str, Any]) -> dict[str, Any]:
    kept = {name: field for name, field in value.items() if name != "pages"}
    if isinstance(kept.get("metadata"), dict):
        kept["metadata"] = {n: v for n, v in kept["metadata"].items() if n != "history_sink"}
    return kept


class TestRoundTrip:
    @given(
        documents.conversations(),
        st.sampled_from([documents.compact, documents.pretty]),
        st.dictionaries(documents.texts(), st.integers() | documents.texts(), max_size=3),
        st.data(),
    )
    def test_a_document_comes_back_with_all_that_the_format_keeps(
        self,
        messages: list[documents.Message],
        encode: Any,  # noqa: ANN401 - one of two functions
        more: dict[str, Any],
        data: st.DataObject,
    ) -> None:
        sink = {"history_sink": {"secret_key": "hidden"}, "directory": "/srv"}
        known = documents.document(messages, metadata=sink)
        value = {**more, **known}
        value = dict(data.draw(st.permutations(list(value.items()))))
        rebuilt = archived_and_rebuilt(encode(value), known["id"])
        assert json.loads(rebuilt) == without_what_is_excluded(value)
        assert b"hidden" not in rebuilt

    @given(st.lists(documents.spelled_objects(), max_size=4))
    def test_its_lines_are_archived_again_as_the_same_bytes(
        self, messages: list[documents.Spelled]
    ) -> None:
        data = b'{"id":"s","messages":[%s]}' % b",".join(m.spaced for m in messages)
        session = Session("codetether", "s", "/sessions", "s.json")
        rebuilt = archived_and_rebuilt(data, "s")
        assert lines_of(session, rebuilt) == lines_of(session, data)

    def test_the_file_is_compact_json_with_the_id_inside(self) -> None:
        rebuilt = archived_and_rebuilt(documents.pretty(document(SOME, "one")), "one")
        assert rebuilt == documents.compact(json.loads(rebuilt))
        frame = source.frame("two", b'{"id":"one","title":null}', 0.0)
        assert json.loads(frame.before + frame.behind)["id"] == "two"

    def test_without_a_document_it_has_all_that_codetether_does_not_load_without(self) -> None:
        frame = source.frame("one", None, 1_700_000_000.0)
        least = json.loads(frame.before + frame.behind)
        assert set(least) >= NEEDED
        assert (least["id"], least["messages"]) == ("one", [])
        assert least["updated_at"] == "2023-11-14T22:13:20Z"
        assert least["metadata"]["shared"] is False
        assert least["usage"]["total_tokens"] == 0


@pytest.fixture
async def old(tmp_path: Path) -> AsyncIterator[Machine]:
    async with Machine(tmp_path / "homes", name="old") as machine:
        yield machine


@pytest.fixture
async def new(old: Machine, tmp_path: Path) -> AsyncIterator[Machine]:
    home = tmp_path / "homes"
    async with Machine(home, old.store.remote, name="new", writer="ba9876543210") as machine:
        yield machine


async def archive(machine: Machine, messages: Any, session_id: str = "s", **fields: Any) -> None:  # noqa: ANN401 - as `document`
    session = machine.save(messages, session_id, **fields)
    await machine.turn(session)
    await machine.turn(session, settled=True)


async def restore(
    machine: Machine, *what: str | AnyWanted, to: Path | None = None, force: bool = False
) -> list[Outcome]:
    return (await restored(machine, *what, to=to, force=force))[0]


async def restored(
    machine: Machine, *what: str | AnyWanted, to: Path | None = None, force: bool = False
) -> tuple[list[Outcome], dict[str, str]]:
    environ = {"HOME": "/nonexistent", "CODETETHER_DATA_DIR": str(machine.root.parent)}
    restorer = Restorer(
        machine.store,
        PREFIX,
        {"codetether": CodeTether([], environ)},
        machine.journal,
        Order(to, force),
        names=machine.names,
        max_document=MIB,
        memory_budget=MIB,
    )
    outcomes: list[Outcome] = []
    named: list[AnyWanted] = [
        wanted(PREFIX, each) if isinstance(each, str) else each for each in what
    ]
    await restorer.restore(named or await everything(machine), outcomes.append)
    return outcomes, restorer.notes


async def everything(machine: Machine) -> list[AnyWanted]:
    chooser = Chooser(machine.store, PREFIX, machine.names.machine)
    return (await chooser.choose(Choice(every=True))).wanted


def file_of(machine: Machine, session_id: str = "s") -> Path:
    return machine.session(session_id).path


def messages_in(path: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(path.read_bytes())["messages"]


class TestRestore:
    async def test_all_sessions_are_found_in_one_listing_and_written_by_age(
        self, old: Machine, new: Machine
    ) -> None:
        for number in range(20):
            await archive(old, SOME, f"s{number}")
        outcomes = await restore(new)
        assert {outcome.fate for outcome in outcomes} == {Fate.RESTORED}
        assert new.store.count("list", rf"^{PREFIX}$") == 1
        times = [file_of(new, outcome.session_id).stat().st_mtime_ns for outcome in outcomes]
        assert times == sorted(times)
        assert len(outcomes) == 20

    async def test_the_file_is_private_and_nothing_lies_beside_it(
        self, old: Machine, new: Machine
    ) -> None:
        await archive(old, SOME)
        (outcome,) = await restore(new)
        assert file_of(new).stat().st_mode & 0o777 == 0o600
        assert [path.name for path in new.root.iterdir()] == ["s.json"]
        assert (outcome.records, outcome.size) == (4, file_of(new).stat().st_size)

    async def test_the_next_machine_goes_on_with_the_stream_also_after_an_undo(
        self, old: Machine, new: Machine
    ) -> None:
        await archive(old, SOME)
        await restore(new)
        new.store.remote.ledger.held("new", history(SOME))
        new.save([*FEW, *OTHER])
        await new.turn()
        assert new.archived() == history([*FEW, *OTHER])
        assert new.record().state == "current"

    async def test_without_permission_to_write_it_restores_and_says_so_once(
        self, old: Machine, new: Machine
    ) -> None:
        for name in ("one", "two"):
            await archive(old, SOME, name)
        new.store.fail("put", AccessDenied("read only"), times=None)
        outcomes, notes = await restored(new)
        assert [outcome.fate for outcome in outcomes] == [Fate.RESTORED] * 2
        assert list(notes) == ["unclaimed"]

    async def test_elsewhere_means_that_the_archive_is_only_read(
        self, old: Machine, new: Machine, tmp_path: Path
    ) -> None:
        await archive(old, SOME)
        (outcome,) = await restore(new, to=tmp_path / "a" / "b")
        assert outcome.path == tmp_path / "a" / "b" / "s.json"
        assert messages_in(outcome.path) == SOME
        assert {operation.name for operation in new.store.log} <= {"list", "head", "read"}

    async def test_a_session_goes_where_its_file_stands(self, old: Machine, new: Machine) -> None:
        await archive(old, SOME)
        elsewhere = new.root.parent / "workspace" / "sessions"
        elsewhere.mkdir(parents=True)
        documents.save(elsewhere, document(FEW, "s"))
        index = new.root.parent / "session-locations"
        index.mkdir()
        (index / "s.path").write_text(str(elsewhere / "s.json"))
        (outcome,) = await restore(new)
        assert outcome.path == elsewhere / "s.json"
        assert not file_of(new).exists()

    async def test_codetether_finds_it_by_its_id(self, old: Machine, new: Machine) -> None:
        await archive(old, SOME)
        await restore(new)
        entry = new.root.parent / "session-locations" / "s.path"
        assert entry.read_text() == str(file_of(new))

    async def test_the_workspace_it_is_about_is_where_it_goes(
        self, old: Machine, tmp_path: Path
    ) -> None:
        workspace = tmp_path / "app"
        (workspace / ".git").mkdir(parents=True)
        (workspace / "src").mkdir()
        rest = documents.compact({"id": "s", "metadata": {"directory": str(workspace / "src")}})
        assert source.home(rest) == workspace / ".codetether-agent" / "sessions"
        platform = Path("/nonexistent/.local/share/codetether-agent/sessions")
        assert (
            source.home(None) == source.home(b'{"metadata":{"directory":"/a\\u0000"}}') == platform
        )

    async def test_a_missing_document_is_made_up_and_said(self, old: Machine, new: Machine) -> None:
        old.save(SOME)
        await old.turn()
        (outcome,) = await restore(new)
        assert (outcome.fate, outcome.document) == (Fate.RESTORED, "missing")
        assert set(json.loads(file_of(new).read_bytes())) >= NEEDED

    async def test_a_damaged_document_is_made_up_and_said(self, old: Machine, new: Machine) -> None:
        await archive(old, SOME)
        old.store.remote.overwrite("history/s/session.json", b"{")
        (outcome,) = await restore(new)
        assert (outcome.fate, outcome.document) == (Fate.RESTORED, "damaged")
        assert messages_in(file_of(new)) == SOME

    async def test_what_is_not_there_does_not_stop_the_others(
        self, old: Machine, new: Machine
    ) -> None:
        await archive(old, SOME)
        old.store.remote.overwrite("history/bad/history.jsonl", b"{}\nnot json\n")
        outcomes = await restore(new, "gone", "bad", "s")
        assert [outcome.fate for outcome in outcomes] == [Fate.FAILED, Fate.FAILED, Fate.RESTORED]
        assert [outcome.reason for outcome in outcomes] == ["not_archived", "invalid_json", ""]
        assert "line 2" in outcomes[1].message
        assert {path.name for path in new.root.iterdir()} == {"s.json"}

    async def test_a_store_that_is_gone_is_not_asked_for_each_session(
        self, old: Machine, new: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("transcriptd.gate.random.random", lambda: 0.0)
        for number in range(20):
            await archive(old, SOME, f"s{number}")
        everyone = await everything(new)
        new.store.fail("read", Unreachable("gone"), times=None)
        outcomes = await restore(new, *everyone)
        assert {outcome.fate for outcome in outcomes} == {Fate.FAILED}
        assert outcomes[-1].reason == "not_tried"
        assert new.store.count("read") <= 8 * 5

    async def test_a_conflict_is_restored_only_by_its_key(
        self, old: Machine, new: Machine, tmp_path: Path
    ) -> None:
        await archive(old, SOME)
        await archive(new, OTHER)
        assert new.record().state == "conflict"
        key = conflict_key(PREFIX, "history/s/history.jsonl", new.names.writer)
        (mine,) = await restore(old, to=tmp_path / "all")
        (theirs,) = await restore(old, key, to=tmp_path / "one")
        assert mine.path
        assert theirs.path
        assert (messages_in(mine.path), messages_in(theirs.path)) == (SOME, OTHER)
        assert theirs.document == "archived"

    async def test_a_finished_generation_is_restored_by_its_number_or_its_key(
        self, old: Machine, tmp_path: Path
    ) -> None:
        await archive(old, SOME)
        await archive(old, OTHER)
        key = "history/.generations/s/history.jsonl/000000.jsonl"
        for name, what in (("a", wanted(PREFIX, "s", 0)), ("b", wanted(PREFIX, key))):
            (outcome,) = await restore(old, what, to=tmp_path / name)
            assert outcome.path
            assert (messages_in(outcome.path), outcome.generation) == (SOME, 0)

    @pytest.mark.parametrize("what", ["a.b", "", "../x", "history/x/session.json", "x" * 129])
    def test_what_names_no_session_is_refused(self, what: str) -> None:
        with pytest.raises(ValueError):
            wanted(PREFIX, what)


class TestWhatStandsThere:
    async def test_what_is_done_is_skipped_and_not_read_again(
        self, old: Machine, new: Machine
    ) -> None:
        await archive(old, SOME)
        await restore(new)
        before, reads = stands(file_of(new)), new.store.count("read", "history.jsonl$")
        (outcome,) = await restore(new, force=True)
        assert outcome.fate is Fate.SKIPPED
        assert stands(file_of(new)) == before
        assert new.store.count("read", "history.jsonl$") == reads

    @pytest.mark.parametrize("there", [b"", b"\0" * 100, documents.compact(document(FEW, "s"))])
    async def test_what_holds_nothing_more_gives_way(
        self, old: Machine, new: Machine, there: bytes
    ) -> None:
        await archive(old, SOME)
        new.save_bytes(there)
        (outcome,) = await restore(new)
        assert (outcome.fate, outcome.aside) == (Fate.RESTORED, None)
        assert messages_in(file_of(new)) == SOME

    @pytest.mark.parametrize(
        ("there", "reason"),
        [
            (documents.compact(document(MANY, "s")), "longer"),
            (documents.compact(document(OTHER, "s")), "differs"),
            (
                documents.compact(document(FEW, "s", updated_at="2026-03-01T08:30:01Z")),
                "newer",
            ),
            (b"{", "invalid_json"),
            (documents.compact(document(SOME, "another")), "wrong_id"),
        ],
    )
    async def test_what_holds_more_is_kept_and_with_force_kept_beside(
        self, old: Machine, new: Machine, there: bytes, reason: str
    ) -> None:
        await archive(old, SOME)
        new.save_bytes(there)
        (outcome,) = await restore(new)
        assert (outcome.fate, outcome.reason) == (Fate.KEPT, reason)
        assert file_of(new).read_bytes() == there
        assert len(list(new.root.iterdir())) == 1

        (outcome,) = await restore(new, force=True)
        assert messages_in(file_of(new)) == SOME
        assert outcome.aside == new.root / "s.json.before-restore"
        assert outcome.aside.read_bytes() == there
        assert file_of(new).stat().st_nlink == 1

    async def test_what_was_kept_beside_is_never_written_over(
        self, old: Machine, new: Machine
    ) -> None:
        await archive(old, SOME)
        for messages in (MANY, OTHER):
            new.save(messages)
            await restore(new, force=True)
        first, second = new.root / "s.json.before-restore", new.root / "s.json.before-restore-2"
        assert (messages_in(first), messages_in(second)) == (MANY, OTHER)

    def test_a_save_in_the_last_moment_stays(self, tmp_path: Path) -> None:
        place = tmp_path / "s.json"
        place.write_text("before")
        seen = stands(place)
        landing = Landing.begin(place)
        landing.write(b"archived")
        landing.settle()
        documents.save(tmp_path, {"id": "s"})
        with pytest.raises(Changing):
            landing.land(seen, keep=False)
        landing.discard()
        assert json.loads(place.read_text()) == {"id": "s"}
        assert [path.name for path in tmp_path.iterdir()] == ["s.json"]

    def test_two_at_once_do_not_write_into_each_others_file(self, tmp_path: Path) -> None:
        place = tmp_path / "s.json"
        first = Landing.begin(place)
        with pytest.raises(Changing):
            Landing.begin(place)
        first.write(b"one")
        first.settle()
        first.land(None, keep=False)
        second = Landing.begin(place)
        second.discard()
        assert place.read_bytes() == b"one"

    def test_what_an_interrupted_run_left_is_written_over(self, tmp_path: Path) -> None:
        place = tmp_path / "s.json"
        (tmp_path / "s.json.new").write_bytes(b"half of something long")
        landing = Landing.begin(place)
        landing.write(b"{}")
        landing.settle()
        landing.land(None, keep=False)
        assert place.read_bytes() == b"{}"
        assert place.stat().st_mode & 0o777 == 0o600

    def test_no_name_on_the_way_counts_as_a_session(self) -> None:
        for name in ("s.json.new", "s.json.before-restore", "s.json.before-restore-2"):
            assert not source.counts(Path("/r"), name)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([FEW, SOME, MANY, OTHER]), min_size=1, max_size=4))
async def test_no_message_is_lost_whatever_stands_there_and_is_forced(
    states: list[list[documents.Message]],
) -> None:
    with tempfile.TemporaryDirectory() as home:
        async with Machine(Path(home), name="old") as old:
            await archive(old, SOME)
            for messages in states:
                old.save(messages)
                await restore(old, force=True)
            names = [path.name for path in old.root.iterdir()]
            left = [messages_in(Path(old.root, name)) for name in names]
    for messages in states:
        kept = [*left, SOME]
        assert any(whole[: len(messages)] == messages for whole in kept)
