"""What the bucket enforces by itself, in plain words, and what of it endangers the archive.

Pure: `stores.s3_bucket` asks. A choice that the user may make either way is said with what it
means, and is no warning; what removes, hides or opens the archive is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transcriptd.doctor.finding import Finding, Level, counted
from transcriptd.layout import probe_prefix
from transcriptd.stores.enforced import Unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transcriptd.stores.enforced import DefaultEncryption, Enforced, Lock, Rule

_SECTION = "bucket"
_ON = "Enabled"
_READ_LATE = frozenset({"GLACIER", "DEEP_ARCHIVE"})


def explain(found: Enforced, prefix: str, sse: str) -> Iterator[Finding]:
    """Say what is enforced. `sse` is what each write asks for, or empty."""
    yield _encryption(found.encryption, sse)
    yield _versioning(found, prefix)
    yield _lock(found.lock)
    yield from _lifecycle(found.lifecycle, prefix)
    yield _policy(found.public_policy)
    yield _public_access(found.public_blocked)


def _encryption(found: DefaultEncryption | Unknown | None, sse: str) -> Finding:
    asked = f"each write asks for {sse}, and counts once the server says so; " if sse else ""
    match found:
        case Unknown(why):
            return _said("encryption", f"{asked}by default unknown: {why}")
        case None:
            hint = "" if sse else "set s3.sse, or the bucket's default encryption"
            return _said("encryption", f"{asked}by default none", hint)
    by = f" with the key {found.key}" if found.key else ""
    keys = " and bucket keys" if found.bucket_keys else ""
    return _said("encryption", f"{asked}by default {found.algorithm}{by}{keys}")


def _versioning(found: Enforced, prefix: str) -> Finding:
    match found.versioning:
        case Unknown(why):
            return _said("versioning", f"unknown: {why}")
        case status if status == _ON:
            rules = found.lifecycle if isinstance(found.lifecycle, tuple) else ()
            ours = [rule.versions_days for rule in rules if _concerns(rule, prefix)]
            ends = min(filter(None, ours), default=0)
            kept = f" for {counted(ends, 'day')}" if ends else ""
            hint = "" if ends else "have a lifecycle rule remove what is no longer current"
            message = f"on: what is replaced or removed stays{kept} as a version, and takes room"
            return _said("versioning", message, hint)
    return _said(
        "versioning",
        "off: who may write below the prefix can overwrite what is archived, for good",
        "turn it on, with a lifecycle rule that removes what is no longer current",
    )


def _lock(found: Lock | Unknown | None) -> Finding:
    match found:
        case Unknown(why):
            return _said("object lock", f"unknown: {why}")
        case None:
            return _said("object lock", "off")
    if not found.days:
        return _said(
            "object lock", "on, without a default retention: it holds nothing that we write"
        )
    return _said(
        "object lock",
        f"each version is held for {counted(found.days, 'day')} ({found.mode}), also segments that "
        "were folded in and bases that were replaced: they take room until then",
    )


def _lifecycle(found: tuple[Rule, ...] | Unknown | None, prefix: str) -> Iterator[Finding]:
    if isinstance(found, Unknown):
        yield _said("lifecycle", f"unknown: {found.why}")
        return
    ours = [rule for rule in found or () if _concerns(rule, prefix)]
    for rule in ours:
        if rule.expires:
            yield Finding(
                _SECTION, Level.FAIL, "lifecycle",
                f"the rule {rule.name!r} removes what is archived",
                f"limit it to other keys than those below {prefix}, or to noncurrent versions",
            )  # fmt: skip
        if late := rule.moves_to & _READ_LATE:
            yield Finding(
                _SECTION, Level.WARN, "lifecycle",
                f"the rule {rule.name!r} moves what is archived to {' and '.join(sorted(late))}: "
                "it cannot be read at once there, and a session that goes on cannot be archived",
                "choose a class that can be read at once, such as GLACIER_IR",
            )  # fmt: skip
    if not any(rule.expires for rule in ours):
        days = min((rule.uploads_days for rule in ours if rule.uploads_days), default=0)
        ends = f"; unfinished uploads are removed after {counted(days, 'day')}" if days else ""
        yield _said("lifecycle", f"no rule removes what is archived{ends}")


def _concerns(rule: Rule, prefix: str) -> bool:
    """Whether a rule can be about something of ours that is worth keeping. We set no tags."""
    is_near = rule.prefix.startswith(prefix) or prefix.startswith(rule.prefix)
    return is_near and not rule.of_some and not rule.prefix.startswith(probe_prefix(prefix))


def _policy(found: bool | Unknown | None) -> Finding:  # noqa: FBT001 - it is what was found
    match found:
        case Unknown(why):
            return _said("policy", f"unknown: {why}")
        case True:
            return Finding(
                _SECTION, Level.FAIL, "policy", "the bucket's policy lets everybody in",
                "transcripts hold what the agents saw: remove the public statement",
            )  # fmt: skip
    return _said("policy", "the bucket's policy does not let everybody in")


def _public_access(found: bool | Unknown | None) -> Finding:  # noqa: FBT001 - it is what was found
    match found:
        case Unknown(why):
            return _said("public access", f"unknown: {why}")
        case True:
            return _said("public access", "blocked, whatever policies and ACLs say")
    return _said("public access", "not blocked", "turn on all four settings that block it")


def _said(subject: str, message: str, hint: str = "") -> Finding:
    return Finding(_SECTION, Level.OK, subject, message, hint)
