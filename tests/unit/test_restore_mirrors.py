"""Mirrored files come back as they were, and nothing that stands where they go is lost."""

from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from time import time

import pytest
from zstandard import ZstdCompressor

from tests.memory_store import Object
from tests.place import FILE, MIB, PREFIX, SLUG, UUID, Place, one
from transcriptd.choice import Choice, Chooser, NothingThere
from transcriptd.digest import digest
from transcriptd.layout import (
    Meta,
    generation_key,
    history_key,
    mirror_key,
)
from transcriptd.remap import Remap
from transcriptd.restore import Fate, Order
from transcriptd.sources.claude import Claude
from transcriptd.wanted import WantedMirror, wanted_mirror

OTHER = "7d3b9c40-1e2f-4a5b-8c6d-9e0f1a2b3c4d"
ROLLOUT = f"rollout-2026-05-02T12-33-22-{UUID}.jsonl"
LINES = b'{"cwd":"/srv/app","n":1}\n{"cwd":"/srv/app","n":2}\n{"cwd":"/srv/app","n":3}\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    home = tmp_path / "home"
    home.mkdir()
    return Place(home)


class TestWriting:
    async def test_a_file_comes_back_byte_for_byte_with_the_time_of_this_moment(
        self, place: Place
    ) -> None:
        content = b'{"n":1}\ntorn\0\xff\n{"n'
        place.put(FILE, content)
        before = time()
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.path) == (Fate.RESTORED, place.file())
        assert (outcome.size, outcome.records) == (len(content), 2)
        assert place.file().read_bytes() == content
        assert place.file().stat().st_mtime >= before - 1
        assert place.file().stat().st_mode & 0o777 == 0o600
        assert place.left() == {f".claude/projects/{FILE}"}

    async def test_the_tail_comes_with_it(self, place: Place) -> None:
        key = place.put(FILE, LINES)
        place.add(key, len(LINES), b"more\n", before=LINES)
        place.add(key, len(LINES) + 5, b"and more\n", before=LINES + b"more\n")
        await place.restore()
        assert place.file().read_bytes() == LINES + b"more\nand more\n"

    async def test_memory_does_not_grow_with_the_file_nor_with_its_lines(
        self, place: Place
    ) -> None:
        place.put(FILE, b"x" * (24 * MIB))
        place.save(b"x" * (20 * MIB), age_s=0)
        tracemalloc.start()
        try:
            outcome = one(await place.restore())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert outcome.fate is Fate.RESTORED
        assert place.file().stat().st_size == 24 * MIB
        assert peak < 12 * MIB

    async def test_elsewhere_each_agent_has_a_directory_and_the_archive_is_only_read(
        self, place: Place, tmp_path: Path
    ) -> None:
        place.put(FILE, LINES)
        place.put(f"sessions/2026/{ROLLOUT}", b"rollout\n", "codex")
        before = dict(place.bucket.objects)
        await place.restore(order=Order(to=tmp_path / "to"))
        assert (tmp_path / "to" / "claude" / FILE).read_bytes() == LINES
        assert (tmp_path / "to/codex/sessions/2026" / ROLLOUT).read_bytes() == b"rollout\n"
        assert place.left() == set()
        assert place.bucket.objects == before

    async def test_a_finished_generation_comes_back_by_its_number_and_by_its_key(
        self, place: Place, tmp_path: Path
    ) -> None:
        key = place.put(FILE, LINES)
        meta = Meta.decode(place.bucket.objects[key].metadata)
        assert meta
        place.bucket.objects[key] = Object(LINES, replace(meta, generation=1).encode())
        closed = generation_key(PREFIX, key, 0)
        old = Meta(0, 1, 4, digest(b"old\n"), "m1.0", "claude")
        place.bucket.objects[closed] = Object(b"old\n", old.encode())
        for number, choice in enumerate((Choice((UUID,), generation=0), Choice((closed,)))):
            outcome = one(await place.restore(choice, Order(to=tmp_path / str(number))))
            assert outcome.path
            assert outcome.path.read_bytes() == b"old\n"
            assert outcome.generation == 0

    async def test_no_name_on_the_way_is_one_that_the_agent_would_have(self, place: Place) -> None:
        path = f"{SLUG}/{UUID}/tool-results/output.txt"
        place.put(path, b"result")
        claude = Claude([], {"HOME": str(place.home)})
        place.save(b"another", path, age_s=0)
        projects = place.home / ".claude" / "projects"
        store, seen = place.store, set[str]()

        def look() -> None:
            seen.update(str(p.relative_to(projects)) for p in projects.rglob("*") if p.is_file())

        held = store.hold("put")  # of the claim, when all of the file is written
        found = await Chooser(place.store, PREFIX, "m1").choose(Choice(every=True))
        restoring = asyncio.create_task(place.restored(store, Order(), found.wanted))
        await held.arrived.wait()
        look()
        held.release()
        await restoring
        look()
        beside = f"{SLUG}/{UUID}/output.txt"
        assert seen == {path, f"{beside}.new", f"{beside}.before-restore"}
        assert {name for name in seen if claude.mirrors(name)} == {path}

    async def test_the_longest_name_there_can_be_comes_back(self, place: Place) -> None:
        path = f"{SLUG}/{UUID}/tool-results/{'x' * 255}"
        place.put(path, b"result")
        assert one(await place.restore()).fate is Fate.RESTORED
        assert place.file(path).read_bytes() == b"result"

    async def test_a_dry_run_writes_nothing_anywhere(self, place: Place) -> None:
        place.put(FILE, LINES)
        before = dict(place.bucket.objects)
        outcome = one(await place.restore(order=Order(is_dry=True)))
        assert (outcome.fate, outcome.path) == (Fate.PLANNED, place.file())
        assert place.left() == set()
        assert not place.file().parent.exists()
        assert place.bucket.objects == before

    async def test_a_restore_that_is_given_up_in_the_middle_leaves_nothing(
        self, place: Place
    ) -> None:
        for number in range(20):
            place.put(f"{SLUG}/{number}.jsonl", LINES * 100)
        store = place.store
        held = store.hold("read", key="/9.jsonl")
        found = await Chooser(place.store, PREFIX, "m1").choose(Choice(every=True))
        restoring = asyncio.create_task(place.restored(store, Order(), found.wanted))
        await held.arrived.wait()
        restoring.cancel()
        await asyncio.gather(restoring, return_exceptions=True)
        assert {Path(name).suffix for name in place.left()} <= {".jsonl"}
        assert {
            place.file(n.removeprefix(".claude/projects/")).read_bytes() for n in place.left()
        } <= {LINES * 100}


class TestClaims:
    async def test_this_machines_streams_are_claimed_and_no_others(self, place: Place) -> None:
        mine = place.put(FILE, LINES)
        place.put(f"{SLUG}/{OTHER}.jsonl", LINES, machine="m2")
        await place.restore()
        await place.restore(Choice(machine="m2"))
        claims = [key for key in place.bucket.objects if "/writer-" in key]
        assert claims == [f"{PREFIX}.tail/{mine.removeprefix(PREFIX)}/writer-m1.ba9876543210"]


class TestWhatStandsThere:
    async def test_what_is_equal_is_skipped_without_reading_it_from_the_archive(
        self, place: Place
    ) -> None:
        place.put(FILE, LINES)
        place.save(LINES)
        store = place.store
        found = await Chooser(place.store, PREFIX, "m1").choose(Choice(every=True))
        outcome = one(await place.restored(store, Order(force=True), found.wanted))
        assert outcome.fate is Fate.SKIPPED
        assert store.count("read") == 0

    @pytest.mark.parametrize(
        ("there", "age_s", "reason"),
        [
            (LINES + b"{}\n", 0, "longer"),
            (LINES + b"{}\n", None, "longer"),
            (b"other\n" * 20, None, "newer"),
            (b"other\n", None, "newer"),
            (LINES[:30], None, "newer"),
        ],
    )
    async def test_what_holds_more_or_is_newer_is_kept_and_by_force_kept_beside(
        self, place: Place, there: bytes, age_s: float | None, reason: str
    ) -> None:
        place.put(FILE, LINES)
        place.save(there, age_s=age_s)
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason) == (Fate.KEPT, reason)
        assert place.file().read_bytes() == there
        forced = one(await place.restore(order=Order(force=True)))
        assert forced.fate is Fate.RESTORED
        assert place.file().read_bytes() == LINES
        assert forced.aside
        assert forced.aside.read_bytes() == there

    @pytest.mark.parametrize("there", [b"", LINES[:30]])
    async def test_what_holds_nothing_more_gives_way(self, place: Place, there: bytes) -> None:
        place.put(FILE, LINES)
        place.save(there, age_s=0)
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.aside) == (Fate.RESTORED, None)
        assert place.file().read_bytes() == LINES

    async def test_what_differs_and_is_older_gives_way_and_is_kept_beside(
        self, place: Place
    ) -> None:
        place.put(FILE, LINES)
        place.save(b"other\n", age_s=0)
        outcome = one(await place.restore())
        assert outcome.fate is Fate.RESTORED
        assert outcome.aside
        assert outcome.aside.read_bytes() == b"other\n"

    async def test_what_is_no_file_is_kept(self, place: Place) -> None:
        place.put(FILE, LINES)
        place.file().parent.mkdir(parents=True)
        place.file().symlink_to("/etc/hostname")
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason) == (Fate.KEPT, "not_a_file")
        assert place.file().is_symlink()

    async def test_a_rollout_that_is_compressed_here_is_not_written_beside_it(
        self, place: Place
    ) -> None:
        place.put(f"sessions/2026/{ROLLOUT}", LINES, "codex")
        there = place.home / ".codex" / "sessions" / "2026" / f"{ROLLOUT}.zst"
        there.parent.mkdir(parents=True)
        there.write_bytes(ZstdCompressor().compress(LINES))
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.path) == (Fate.SKIPPED, there)
        there.write_bytes(ZstdCompressor().compress(LINES + b"more\n"))
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason) == (Fate.KEPT, "longer")
        there.write_bytes(ZstdCompressor().compress(LINES[:25]))
        os.utime(there, (0, 0))
        assert one(await place.restore()).fate is Fate.RESTORED

    async def test_a_session_with_two_names_comes_back_under_the_newest(self, place: Place) -> None:
        place.put(f"sessions/2026/{ROLLOUT}", LINES, "codex")
        place.put(f"archived_sessions/{ROLLOUT}", LINES + b"more\n", "codex")
        outcome = one(await place.restore())
        assert outcome.path == place.home / ".codex" / "archived_sessions" / ROLLOUT
        assert place.left() == {f".codex/archived_sessions/{ROLLOUT}"}

    async def test_a_session_that_stands_under_a_former_name_is_there(self, place: Place) -> None:
        place.put(f"sessions/2026/{ROLLOUT}", LINES, "codex")
        place.put(f"archived_sessions/{ROLLOUT}", LINES + b"more\n", "codex")
        there = place.home / ".codex" / "sessions" / "2026" / ROLLOUT
        there.parent.mkdir(parents=True)
        there.write_bytes(LINES + b"more\n")
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.path) == (Fate.SKIPPED, there)


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("path", "agent", "reason"),
        [
            ("sessions.db/telegram_1.jsonl", "zeroclaw", "no_file"),
            (f"{SLUG}/{UUID}/{'/'.join(['x' * 200] * 6)}.jsonl", "claude", "shortened"),
            ("a.jsonl", "stranger", "unknown_agent"),
        ],
    )
    async def test_what_has_no_place_is_written_only_elsewhere(
        self, place: Place, tmp_path: Path, path: str, agent: str, reason: str
    ) -> None:
        place.put(path, LINES, agent)
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason) == (Fate.FAILED, reason)
        assert "--to DIR" in outcome.message
        assert place.left() == set()
        outcome = one(await place.restore(order=Order(to=tmp_path / "to")))
        assert outcome.fate is Fate.RESTORED
        assert outcome.path
        assert outcome.path.is_relative_to(tmp_path / "to" / agent)
        assert outcome.path.read_bytes() == LINES

    async def test_no_key_leads_out_of_the_directory(self, place: Place, tmp_path: Path) -> None:
        for below in ("m1/raw/claude/%2E%2E/%2E%2E/x", "m1/raw/../x.jsonl", "m1/raw/claude/a%2Fb"):
            place.bucket.objects[f"{PREFIX}{below}"] = Object(b"bad\n", {})
        await place.restore(order=Order(to=tmp_path / "a" / "b" / "c"))
        await place.restore()
        written = await asyncio.to_thread(lambda: [p for p in tmp_path.rglob("*") if p.is_file()])
        assert not written

    async def test_bytes_that_are_not_what_was_archived_are_not_written(self, place: Place) -> None:
        place.put(FILE, LINES, says=LINES.replace(b"1", b"7"))
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason) == (Fate.FAILED, "damaged")
        assert "transcriptd verify --deep" in outcome.message
        assert place.left() == set()

    async def test_what_is_sound_is_written_up_to_a_segment_that_does_not_fit(
        self, place: Place
    ) -> None:
        key = place.put(FILE, LINES)
        place.add(key, len(LINES), b"more\n", before=LINES)
        stray = place.add(key, len(LINES) + 5, b"stray\n", before=b"something else")
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason) == (Fate.PARTIAL, "other_bytes_before_it")
        assert stray in outcome.message
        assert place.file().read_bytes() == LINES + b"more\n"

    async def test_a_gap_is_said_and_nothing_is_left(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("transcriptd.retry._pause", lambda _state: 0.0)
        key = place.put(FILE, LINES)
        place.add(key, len(LINES) + 5, b"behind a gap\n", before=LINES)
        outcome = one(await place.restore())
        assert outcome.fate is Fate.FAILED
        assert f"a gap at byte {len(LINES)}" in outcome.message
        assert place.left() == set()


class TestDocuments:
    async def test_a_history_that_is_damaged_is_not_rebuilt(self, place: Place) -> None:
        key = history_key(PREFIX, "s")
        line = b'{"role":"user","content":[]}\n'
        said = Meta(0, 1, len(line), digest(b"another"), "m1.0", "codetether")
        place.bucket.objects[key] = Object(line, said.encode())
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.reason) == (Fate.FAILED, "damaged")
        assert place.left() == set()

    async def test_a_history_that_a_stray_cuts_is_rebuilt_up_to_there(self, place: Place) -> None:
        key = history_key(PREFIX, "s")
        line = b'{"role":"user","content":[]}\n'
        said = Meta(0, 1, len(line), digest(line), "m1.0", "codetether")
        place.bucket.objects[key] = Object(line, said.encode())
        place.add(key, len(line), line, before=b"something else")
        outcome = one(await place.restore())
        assert (outcome.fate, outcome.records) == (Fate.PARTIAL, 1)

    async def test_a_workspace_that_moved_has_its_session_where_it_is_now(
        self, place: Place, tmp_path: Path
    ) -> None:
        line = b'{"role":"user","content":[]}\n'
        place.bucket.objects[history_key(PREFIX, "s")] = Object(line, {})
        rest = b'{"id":"s","metadata":{"directory":"/srv/app"}}'
        place.bucket.objects[f"{PREFIX}s/session.json"] = Object(rest, {})
        now = tmp_path / "app"
        (now / ".git").mkdir(parents=True)
        outcome = one(await place.restore(order=Order(remap=Remap([("/srv/app", str(now))]))))
        assert outcome.path == now / ".codetether-agent" / "sessions" / "s.json"
        assert json.loads(outcome.path.read_bytes())["metadata"]["directory"] == str(now)


class TestChoosing:
    async def chosen(self, place: Place, choice: Choice) -> set[str]:
        found = await Chooser(place.store, PREFIX, "m1").choose(choice)
        return {each.key.removeprefix(PREFIX) for each in found.wanted}

    async def test_what_belongs_to_a_session_comes_with_it(self, place: Place) -> None:
        inner = [
            f"{SLUG}/{UUID}/subagents/agent-1.jsonl",
            f"{SLUG}/{UUID}/subagents/agent-1.meta.json",
            f"{SLUG}/{UUID}/tool-results/1.txt",
        ]
        for path in (FILE, *inner, f"{SLUG}/{OTHER}.jsonl", f"{SLUG}/{UUID}0.jsonl"):
            place.put(path, LINES)
        wanted = {f"m1/raw/claude/{path}" for path in (FILE, *inner)}
        assert await self.chosen(place, Choice((UUID,))) == wanted

    async def test_all_are_the_histories_and_this_machines_mirrors(self, place: Place) -> None:
        place.put(FILE, LINES)
        place.put(FILE, LINES, machine="m2")
        place.bucket.objects[history_key(PREFIX, "s")] = Object(b"{}\n", {})
        mine = {"s/history.jsonl", f"m1/raw/claude/{FILE}"}
        assert await self.chosen(place, Choice(every=True)) == mine
        theirs = {"s/history.jsonl", f"m2/raw/claude/{FILE}"}
        assert await self.chosen(place, Choice(every=True, machine="m2")) == theirs
        assert await self.chosen(place, Choice(machine="m2")) == {f"m2/raw/claude/{FILE}"}
        assert await self.chosen(place, Choice(agents=frozenset({"claude"}))) == {
            f"m1/raw/claude/{FILE}"
        }
        assert await self.chosen(place, Choice(agents=frozenset({"codetether"}))) == {
            "s/history.jsonl"
        }

    async def test_a_machine_that_stored_nothing_is_told_with_those_that_did(
        self, place: Place
    ) -> None:
        place.put(FILE, LINES)
        place.put(FILE, LINES, machine="m2")
        with pytest.raises(NothingThere, match="m1, m2"):
            await self.chosen(place, Choice(machine="m3"))

    async def test_a_session_of_another_machine_is_told_with_its_name(self, place: Place) -> None:
        place.put(FILE, LINES, machine="m2")
        found = await Chooser(place.store, PREFIX, "m1").choose(Choice((UUID,)))
        assert not found.wanted
        assert "--machine m2" in found.missing[UUID]

    async def test_the_beginning_of_an_id_that_several_have_names_them(self, place: Place) -> None:
        place.put(FILE, LINES)
        place.put(f"{SLUG}/{UUID[:9]}{OTHER[9:]}.jsonl", LINES)
        found = await Chooser(place.store, PREFIX, "m1").choose(Choice((UUID[:8],)))
        assert not found.wanted
        assert UUID in found.missing[UUID[:8]]

    async def test_an_id_of_codetethers_is_asked_for_without_a_listing(self, place: Place) -> None:
        place.bucket.objects[history_key(PREFIX, "s")] = Object(b"{}\n", {})
        store = place.store
        found = await Chooser(store, PREFIX, "m1").choose(Choice(("s",)))
        assert [each.session_id for each in found.wanted] == ["s"]
        assert store.count("list") == 0

    async def test_a_project_is_a_directory_or_claudes_name_of_one(self, place: Place) -> None:
        place.put(FILE, LINES)
        inside = LINES.replace(b"/srv/app", b"/srv/app/web")
        place.put(f"-srv-app-web/{OTHER}.jsonl", inside)
        place.put(f"-srv-app-web/{OTHER}/tool-results/1.txt", b"result")
        beside = LINES.replace(b"/srv/app", b"/srv/app-web")
        place.put(f"-srv-app-web/{UUID}.jsonl", beside)
        meta = b'{"type":"session_meta","payload":{"cwd":"%s"}}\n'
        place.put(f"sessions/{ROLLOUT}", meta % b"/srv/app", "codex")
        place.put(
            f"sessions/x{ROLLOUT}".replace("x", "", 1).replace("05", "06"), meta % b"/srv", "codex"
        )
        place.bucket.objects[history_key(PREFIX, "s")] = Object(b"{}\n", {})
        document = b'{"id":"s","metadata":{"directory":"/srv/app"}}'
        place.bucket.objects[f"{PREFIX}s/session.json"] = Object(document, {})
        assert await self.chosen(place, Choice(project="/srv/app")) == {
            f"m1/raw/claude/{FILE}",
            f"m1/raw/claude/-srv-app-web/{OTHER}.jsonl",
            f"m1/raw/claude/-srv-app-web/{OTHER}/tool-results/1.txt",
            f"m1/raw/codex/sessions/{ROLLOUT}",
            "s/history.jsonl",
        }
        assert await self.chosen(place, Choice(project=SLUG)) == {f"m1/raw/claude/{FILE}"}

    def test_a_key_says_all_that_a_listing_would(self) -> None:
        key = mirror_key(PREFIX, "m1", "claude", FILE.encode())
        found = wanted_mirror(PREFIX, key)
        assert found == WantedMirror(UUID, "m1", "claude", FILE, key)
        closed = generation_key(PREFIX, key, 3)
        assert wanted_mirror(PREFIX, closed) == replace(found, generation=3)
        assert wanted_mirror(PREFIX, history_key(PREFIX, "s")) is None


class TestMapping:
    async def test_a_project_that_moved_comes_back_where_it_is_now(self, place: Place) -> None:
        place.put(FILE, LINES)
        place.put(f"{SLUG}/{UUID}/tool-results/1.txt", b"/srv/app\n")
        place.put(f"-srv-app-web/{OTHER}.jsonl", LINES.replace(b"/srv/app", b"/srv/app-web"))
        before = dict(place.bucket.objects)
        order = Order(remap=Remap([("/srv/app", "/home/ann/app")]))
        await place.restore(order=order)
        claims = {k for k in place.bucket.objects if k not in before}
        assert place.file(f"-home-ann-app/{UUID}.jsonl").read_bytes() == LINES.replace(
            b"/srv/app", b"/home/ann/app"
        )
        result = place.file(f"-home-ann-app/{UUID}/tool-results/1.txt")
        assert result.read_bytes() == b"/srv/app\n"
        assert place.file(f"-srv-app-web/{OTHER}.jsonl").exists()
        assert all(f"{OTHER}.jsonl/writer-" in key for key in claims)
        assert {k: v for k, v in place.bucket.objects.items() if k in before} == before
        again = await place.restore(order=order)
        assert {outcome.fate for outcome in again} == {Fate.SKIPPED}

    async def test_what_the_agent_added_to_a_mapped_file_is_kept(self, place: Place) -> None:
        place.put(FILE, LINES)
        order = Order(remap=Remap([("/srv", "/s")]))
        outcome = one(await place.restore(order=order))
        assert outcome.path
        with outcome.path.open("ab") as file:
            file.write(b"{}\n")
        outcome = one(await place.restore(order=order))
        assert (outcome.fate, outcome.reason) == (Fate.KEPT, "longer")

    async def test_a_line_that_is_too_long_stays_as_it_is_and_is_counted(
        self, place: Place
    ) -> None:
        long = b'{"cwd":"/srv/app","text":"%s"}\n' % (b"x" * (2 * MIB))
        place.put(FILE, LINES + long + LINES)
        order = Order(remap=Remap([("/srv/app", "/a")]))
        outcome = one(await place.restore(order=order))
        mapped = LINES.replace(b"/srv/app", b"/a")
        assert place.file(f"-a/{UUID}.jsonl").read_bytes() == mapped + long + mapped
        assert outcome.unmapped == 1
