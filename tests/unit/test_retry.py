"""The type of an error decides whether there is another attempt, and when."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from tenacity import stop_after_attempt

from transcriptd import errors
from transcriptd.errors import Behind, Changing, Corrupted, NotFound, StoreError, Superseded
from transcriptd.errors import Unreachable as Down
from transcriptd.retry import is_worth_a_retry, until_done

STORE_WIDE = {"Unreachable", "SlowDown", "ServerError", "AuthFailed", "AccessDenied",
              "BucketMissing"}  # fmt: skip
OF_ONE_OBJECT = {"Corrupted", "Damaged"}
FINAL = {"NotFound", "ConditionFailed", "RangeInvalid", "Unsupported"}


@dataclass(slots=True)
class Attempts:
    """Fails with each of `failures`, then succeeds; records the pauses between."""

    failures: list[BaseException]
    made: int = 0
    pauses: list[float] = field(default_factory=list)

    async def attempt(self) -> str:
        self.made += 1
        if self.made <= len(self.failures):
            raise self.failures[self.made - 1]
        return "done"

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)

    async def run(self) -> str:
        return await until_done(self.attempt, sleep=self.sleep)


def store_errors() -> list[type[StoreError]]:
    return StoreError.__subclasses__()


def test_every_error_of_the_store_is_in_one_of_the_lists() -> None:
    assert {error.__name__ for error in store_errors()} == STORE_WIDE | OF_ONE_OBJECT | FINAL


@pytest.mark.parametrize("error", [e for e in store_errors() if e.__name__ not in FINAL])
async def test_an_error_that_may_pass_is_tried_again(error: type[StoreError]) -> None:
    attempts = Attempts([error("x")] * 3)
    assert await attempts.run() == "done"
    assert attempts.made == 4


@pytest.mark.parametrize("error", [e for e in store_errors() if e.__name__ in FINAL])
async def test_an_error_that_stays_is_raised_at_once(error: type[StoreError]) -> None:
    attempts = Attempts([error("x")])
    with pytest.raises(error):
        await attempts.run()
    assert (attempts.made, attempts.pauses) == (1, [])


@pytest.mark.parametrize("name", ["AccessDenied", "ServerError"])
async def test_what_may_concern_one_object_backs_off_from_the_second_time_on(name: str) -> None:
    attempts = Attempts([getattr(errors, name)("x")] * 30)
    await attempts.run()
    assert attempts.pauses[0] == 0.0
    assert max(attempts.pauses[1:]) > 1.0


@pytest.mark.parametrize("name", sorted(STORE_WIDE - {"AccessDenied", "ServerError"}))
async def test_an_error_of_the_whole_store_leaves_the_pause_to_the_gate(name: str) -> None:
    attempts = Attempts([getattr(errors, name)("x")] * 30)
    await attempts.run()
    assert attempts.pauses == [0.0] * 30


@pytest.mark.parametrize("error", [Corrupted("x"), Changing("x")])
async def test_an_error_of_one_object_backs_off_with_full_jitter(error: Exception) -> None:
    attempts = Attempts([error] * 40)
    await attempts.run()
    longest = [min(300.0, 2.0**number) for number in range(40)]
    assert all(0 <= pause <= most for pause, most in zip(attempts.pauses, longest, strict=True))
    assert max(attempts.pauses) > 30
    assert len(set(attempts.pauses)) == 40


async def test_an_archive_that_moved_on_is_looked_at_again_at_once_but_only_once() -> None:
    attempts = Attempts([Superseded("x")] * 10)
    await attempts.run()
    assert attempts.pauses[0] == 0.0
    assert all(attempts.pauses[1:])


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), Behind("x")])
async def test_an_error_that_is_not_known_to_pass_is_raised_at_once(error: Exception) -> None:
    attempts = Attempts([error])
    with pytest.raises(type(error)):
        await attempts.run()
    assert attempts.made == 1


async def test_the_text_of_an_error_decides_nothing() -> None:
    assert not is_worth_a_retry(NotFound("503 SlowDown, please retry"))
    assert is_worth_a_retry(Down("404 NoSuchKey"))


async def test_a_cancelled_attempt_is_not_tried_again() -> None:
    attempts = Attempts([asyncio.CancelledError()])
    with pytest.raises(asyncio.CancelledError):
        await attempts.run()
    assert attempts.made == 1


async def test_the_last_error_itself_is_raised_when_it_is_told_to_stop() -> None:
    last = Down("last")
    attempts = Attempts([Down("first"), last, Down("never")])
    with pytest.raises(Down) as caught:
        await until_done(attempts.attempt, sleep=attempts.sleep, stop=stop_after_attempt(2))
    assert caught.value is last


async def test_each_failure_is_told_before_its_pause() -> None:
    told: list[tuple[BaseException, float]] = []
    failures = [Down("a"), Corrupted("b")]
    attempts = Attempts([*failures])
    await until_done(
        attempts.attempt, sleep=attempts.sleep, before_pause=lambda e, s: told.append((e, s))
    )
    assert told == list(zip(failures, attempts.pauses, strict=True))


async def test_the_caller_may_say_what_is_worth_a_retry() -> None:
    attempts = Attempts([ValueError("x")])
    done = await until_done(attempts.attempt, sleep=attempts.sleep, worth_it=lambda _: True)
    assert done == "done"
