"""The one retry layer. The error's type decides (`errors.Retry`), never its text.

An error of the whole store is tried again as soon as the gate gives a turn; the gate keeps the
pauses. An error of one object backs off by itself: exponential, full jitter, 1 s to 5 min.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_never
from tenacity.wait import wait_random_exponential

from transcriptd.errors import (
    AccessDenied,
    Changing,
    Retry,
    ServerError,
    StoreError,
    Superseded,
)
from transcriptd.gate import FIRST_PAUSE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tenacity.stop import stop_base

T = TypeVar("T")

LONGEST_PAUSE_S = 300.0

_back_off = wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)


def is_worth_a_retry(error: BaseException) -> bool:
    """Whether another attempt can go better."""
    if isinstance(error, StoreError):
        return error.retry is not Retry.NEVER
    return isinstance(error, Changing | Superseded)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, StoreError) and error.retry is Retry.STORE:
        # Denied or failing again and again may be this one object: it must not keep the store down.
        alone = isinstance(error, AccessDenied | ServerError) and state.attempt_number > 1
        return _back_off(state) if alone else 0.0
    if isinstance(error, Superseded) and state.attempt_number == 1:
        return 0.0  # the archive moved on once: look again at once
    return _back_off(state)


async def until_done(
    attempt: Callable[[], Awaitable[T]],
    *,
    worth_it: Callable[[BaseException], bool] = is_worth_a_retry,
    before_pause: Callable[[BaseException, float], None] = lambda _error, _pause_s: None,
    stop: stop_base = stop_never,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Run `attempt` until it succeeds, fails for good, or `stop` says so; raises the last error.

    `worth_it` says which errors another attempt can mend; `before_pause` hears the error and the
    seconds until the next attempt.
    """

    def report(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None and state.next_action is not None:
            before_pause(error, state.next_action.sleep)

    async def once() -> T:
        return await attempt()  # tenacity awaits only what is declared to be a coroutine function

    retrying = AsyncRetrying(
        retry=retry_if_exception(worth_it),
        wait=_pause,
        stop=stop,
        sleep=sleep,
        before_sleep=report,
        reraise=True,
    )
    return await retrying(once)
