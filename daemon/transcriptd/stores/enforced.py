"""What a bucket enforces by itself, as values. How it is asked for, `s3_bucket` knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unknown:
    """The server does not say, for this reason."""

    why: str


@dataclass(frozen=True, slots=True)
class DefaultEncryption:
    """How the bucket encrypts what is written without a word about it."""

    algorithm: str
    key: str = ""
    bucket_keys: bool = False


@dataclass(frozen=True, slots=True)
class Lock:
    """Object lock is on. `mode` and `days` of what each new version is kept by, or empty and 0."""

    mode: str = ""
    days: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the lifecycle that is enabled, for keys that begin with `prefix`.

    `of_some`: only for objects with tags. `expires`: it removes what is current. `moves_to`: the
    storage classes that it moves objects to. `versions_days` and `uploads_days`: when it removes
    what is no longer current, and uploads that were not finished; 0 is never.
    """

    name: str
    prefix: str = ""
    of_some: bool = False
    expires: bool = False
    moves_to: frozenset[str] = frozenset()
    versions_days: int = 0
    uploads_days: int = 0


@dataclass(frozen=True, slots=True)
class Enforced:
    """What the bucket does. `None` is: nothing of the kind is configured."""

    encryption: DefaultEncryption | Unknown | None
    versioning: str | Unknown | None
    lock: Lock | Unknown | None
    lifecycle: tuple[Rule, ...] | Unknown | None
    public_policy: bool | Unknown | None
    public_blocked: bool | Unknown | None
