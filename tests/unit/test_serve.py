"""What the process says of errors that nobody waited for."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

from transcriptd.serve import unheard

if TYPE_CHECKING:
    import pytest


async def test_a_connection_that_is_lost_while_nobody_waits_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _fail_unheard(ConnectionResetError("Cannot write to closing transport"))
    assert caplog.records == []


async def test_any_other_error_that_nobody_waited_for_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _fail_unheard(ValueError("ours"))
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def _fail_unheard(error: Exception) -> None:
    async def fail() -> None:
        raise error

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(unheard)
    task = loop.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    loop.set_exception_handler(None)
