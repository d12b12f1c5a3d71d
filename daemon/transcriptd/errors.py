"""Every error this program raises on purpose, and what each means for a retry.

    TranscriptdError
    ├── ConfigError          the configuration cannot mean anything      exit 78
    ├── LockHeld             another daemon owns the state or the socket exit 75
    ├── SourceError          one session could not be read
    │   ├── Unreadable       quarantined until it changes
    │   ├── Changing         it changed while it was read
    │   └── Vanished         it is not there
    ├── StoreError           the archive could not do what was asked
    │   ├── Unreachable      refused, reset, timed out: the outcome may be unknown
    │   ├── SlowDown         the server asks for fewer requests
    │   ├── ServerError      5xx
    │   ├── AuthFailed       credentials missing, expired or wrong
    │   ├── AccessDenied     the credentials may not do this
    │   ├── BucketMissing    the bucket is not there
    │   ├── Corrupted        the bytes did not arrive as they were sent
    │   ├── Damaged          the store holds something else than it said
    │   ├── NotFound         no such object
    │   ├── ConditionFailed  the object is not what the condition says
    │   ├── RangeInvalid     the range starts behind the end
    │   └── Unsupported      this server cannot do it
    ├── Fault                a pointer leads to nothing (`fault`)
    └── StreamError          the archive holds something that is not ours to change
        ├── Behind           the archive holds more than the source
        ├── Resting          it was repaired a moment ago; the next time is not yet
        └── Superseded       the archive moved on under us; look again

The type decides about retrying (`StoreError.retry`); nobody reads messages to decide.
An error that an operator can act on carries a `hint`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

# At any moment; and what is not archived can be lost meanwhile.
_MAY_BE_BACK_S = 15.0


class Retry(Enum):
    """What a failed attempt means for the next one."""

    NEVER = "never"  # the same attempt fails again; the caller decides
    LATER = "later"  # this one object: back off, try again
    STORE = "store"  # the whole store is concerned: one probe at a time


class TranscriptdError(Exception):
    """The root of the tree. `hint` says what a person can do about it."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in the configuration: where, what, and what was expected."""

    key: str
    message: str
    origin: str = ""

    def __str__(self) -> str:
        where = f" ({self.origin})" if self.origin else ""
        return f"{self.key}{where}: {self.message}"


class ConfigError(TranscriptdError):
    """The configuration cannot mean anything; `problems` lists every reason at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class LockHeld(TranscriptdError):
    """Another process holds the lock; `pid` is its number where it could be read."""

    def __init__(self, message: str, *, pid: int | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class SourceError(TranscriptdError):
    """One session could not be read."""


class Unreadable(SourceError):
    """The session cannot be archived as it stands; it is quarantined until it changes.

    `reason` is a short constant word for status and metrics, the message says more.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Changing(SourceError):
    """The file changed while it was read, each time it was tried, or cannot be read just now."""


class Rewritten(Changing):
    """A file is no longer what it was known as, where nothing but reading all of it told so."""


UNFINISHED_TEXT = "unfinished_text"
"""The reason where a text may still be written, so that a secret may be half there."""


class Unsettled(Changing):
    """A file is being written; it is to be looked at again in `seconds`, not sooner."""

    def __init__(self, message: str, *, seconds: float, reason: str = "moved_on") -> None:
        super().__init__(message)
        self.seconds = seconds
        self.reason = reason


class Vanished(SourceError):
    """The file is not there."""


class StoreError(TranscriptdError):
    """The archive could not do what was asked.

    `retry` says whether another attempt can help, `degraded` is the word under which status shows
    it, `retry_after` (seconds) is what the server asked for. While it concerns the whole store, one
    attempt is made at least every `longest_pause` seconds.
    """

    retry: ClassVar[Retry] = Retry.NEVER
    degraded: ClassVar[str] = ""
    longest_pause: ClassVar[float] = 300.0

    def __init__(self, message: str = "", *, hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unreachable(StoreError):
    """Refused, reset, no such host, or no answer in time. A write may have taken effect."""

    retry = Retry.STORE
    degraded = "store_unreachable"
    longest_pause = _MAY_BE_BACK_S


class SlowDown(StoreError):
    """The server asks for fewer requests (503 SlowDown, 429)."""

    retry = Retry.STORE
    degraded = "store_slow"


class ServerError(StoreError):
    """The server failed (5xx). A write may have taken effect."""

    retry = Retry.STORE
    degraded = "store_failing"
    longest_pause = _MAY_BE_BACK_S


class AuthFailed(StoreError):
    """Credentials are missing, expired or wrong; they are resolved again before the next try."""

    retry = Retry.STORE
    degraded = "auth"


class AccessDenied(StoreError):
    """The credentials are good but may not do this."""

    retry = Retry.STORE
    degraded = "denied"


class BucketMissing(StoreError):
    """The bucket is not there. It is never created unasked."""

    retry = Retry.STORE
    degraded = "bucket_missing"


class Corrupted(StoreError):
    """The bytes did not arrive as they were sent; nothing was stored."""

    retry = Retry.LATER
    degraded = "corrupted"


class Damaged(StoreError):
    """The store answered well and holds something else."""

    retry = Retry.LATER
    degraded = "store_lies"


class NotFound(StoreError):
    """There is no such object."""


class ConditionFailed(StoreError):
    """The object is not what the condition says."""


class RangeInvalid(StoreError):
    """The range starts behind the end of the object."""


class Unsupported(StoreError):
    """This server cannot do that."""


class StreamError(TranscriptdError):
    """The archive holds something under this stream's key that is not ours to change."""


class Behind(StreamError):
    """The archive holds more than the source: nothing is written."""


class Resting(StreamError):
    """Somebody overwrites this stream again and again: it is repaired again in `seconds`."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Superseded(StreamError):
    """The archive changed since it was looked at; look again before anything is written."""
