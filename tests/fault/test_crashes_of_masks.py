"""The daemon dies while it masks: no secret stands anywhere, and what was masked is known again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.agents import UUID
from tests.daemon import running
from tests.documents import document, history, message, save
from tests.fault.archives import over_a_bucket
from tests.fault.masked import MASK, MORE_RULES, archived, configure, masked, secret
from tests.fault.mirrored import (
    CONFLICTS,
    FIRST,
    MORE_LINES,
    RAW,
    REWRITTEN,
    SEGMENT,
    everything,
    finished_of,
    grow,
    lines,
    mirrored,
    session,
    still_holds,
)
from tests.kept import finished, history_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.daemon import Daemon
    from tests.fault.archives import Archive
    from tests.home import Home

STEPS = ("uploaded", "committed", "preserved")
MIRRORS = rf"^{RAW}|{SEGMENT}"
SECRETS = [secret(number) for number in range(4)]
PLANTED = [f'{{"type":"user","content":"{each}"}}\n' for each in SECRETS]
BASE = FIRST + PLANTED[0].encode()
TAIL = BASE + lines(MORE_LINES, 400)[: len(FIRST) // 10] + PLANTED[1].encode()
GROWN = TAIL + PLANTED[2].encode() + lines(20)
NEW = PLANTED[0].encode() + REWRITTEN + PLANTED[3].encode()


def hiding(content: bytes) -> bytes:
    return masked(content, ["zq-token"], *SECRETS)


async def die(home: Home, archive: Archive, step: str, change: Callable[[], object]) -> None:
    """Let the daemon die at a step of what follows a change; what was archived stays so."""
    before = everything(archive.kept)
    async with running(home, TRANSCRIPTD_FAILPOINT=step) as daemon:
        change()
        assert await daemon.ended() == -9, "the step was not reached"
    assert still_holds(archive.kept, before)
    require_silence(archive)


def require_silence(archive: Archive) -> None:
    found = archived(archive.kept)
    assert not [each for each in SECRETS if each.encode() in found]


async def goes_on(daemon: Daemon, archive: Archive, content: bytes, generation: int) -> None:
    await daemon.archives(UUID, len(content))
    said = await daemon.state_of(UUID)
    assert (said["generation"], said["reason"]) == (generation, "")
    assert mirrored(archive.kept) == hiding(content)
    require_silence(archive)


@over_a_bucket
@pytest.mark.parametrize("step", STEPS)
async def test_killed_at_any_step_it_goes_on_with_the_masks_that_stand_there(
    home: Home, archive: Archive, step: str
) -> None:
    home.environ |= MASK
    configure(home)
    path = session(home)
    async with running(home) as daemon:
        grow(path, BASE)
        await daemon.archives(UUID, len(BASE))
        grow(path, TAIL)
        await daemon.archives(UUID, len(TAIL))
    if step != "preserved":
        await die(home, archive, step, lambda: grow(path, GROWN))
    async with running(home) as daemon:
        grow(path, GROWN)
        await goes_on(daemon, archive, GROWN, 0)
    await die(home, archive, step, lambda: path.write_bytes(NEW))
    async with running(home) as daemon:
        await goes_on(daemon, archive, NEW, 1)
        grow(path, NEW + PLANTED[1].encode())
        await goes_on(daemon, archive, NEW + PLANTED[1].encode(), 1)
    assert finished_of(archive.kept) == [hiding(GROWN)]
    assert not archive.kept.listing(CONFLICTS)
    assert archive.sent(MIRRORS) == len(GROWN + NEW + PLANTED[1].encode())


@over_a_bucket
@pytest.mark.parametrize("step", ["uploaded", "committed"])
async def test_killed_under_old_rules_it_goes_on_under_new_ones_with_what_stands_there(
    home: Home, archive: Archive, step: str
) -> None:
    home.environ |= MASK
    configure(home)
    path, said = session(home), [message("user", SECRETS[0])]
    grow(path, BASE)
    save(home.sessions, document(said, "one"))
    assert (await asyncio.to_thread(home.run, "sync")).status == 0
    await die(home, archive, step, lambda: grow(path, TAIL))
    configure(home, MORE_RULES)
    wanted = hiding(TAIL) + masked(GROWN[len(TAIL) :], MORE_RULES, *SECRETS)
    async with running(home) as daemon:
        said.append(message("user", SECRETS[1]))
        save(home.sessions, document(said, "one"))
        grow(path, GROWN)
        await daemon.archives(UUID, len(GROWN))
        assert (await daemon.sync(seal=True)).is_ok
        assert {each["generation"] for each in (await daemon.status())["sessions"]} == {0}
    found = mirrored(archive.kept)
    assert found == wanted
    assert history_of(archive.kept, "one") == hiding(history(said[:1])) + masked(
        history(said[1:]), MORE_RULES, *SECRETS
    )
    assert not finished(archive.kept, "one")
    assert not finished_of(archive.kept)
    require_silence(archive)
