"""What `doctor` makes of what a bucket enforces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from transcriptd.doctor.bucket import explain
from transcriptd.doctor.finding import Finding, Level
from transcriptd.stores.enforced import DefaultEncryption, Enforced, Lock, Rule, Unknown

PREFIX = "history/"
NOTHING = Enforced(None, "", None, None, public_policy=None, public_blocked=None)


def findings(sse: str = "", **found: Any) -> list[Finding]:  # noqa: ANN401 - any field
    return list(explain(replace(NOTHING, **found), PREFIX, sse))


def about(subject: str, sse: str = "", **found: Any) -> Finding:  # noqa: ANN401 - any field
    (finding,) = [each for each in findings(sse, **found) if each.subject == subject]
    return finding


def test_a_bucket_that_enforces_nothing_is_well_with_hints() -> None:
    assert {finding.level for finding in findings()} == {Level.OK}
    hinted = {finding.subject for finding in findings() if finding.hint}
    assert hinted == {"encryption", "versioning", "public access"}


def test_what_is_not_told_is_unknown_with_its_reason_and_no_problem() -> None:
    why = Unknown("bucket: the credentials may not do this")
    said = findings(
        encryption=why, versioning=why, lock=why, lifecycle=why, public_policy=why,
        public_blocked=why,
    )  # fmt: skip
    assert len(said) == 6
    for finding in said:
        assert (finding.level, finding.hint) == (Level.OK, "")
        assert finding.message.endswith(f"unknown: {why.why}")


def test_encryption_by_default_is_named_with_its_key() -> None:
    default = DefaultEncryption("aws:kms", "k1", bucket_keys=True)
    assert about("encryption", encryption=default).message == (
        "by default aws:kms with the key k1 and bucket keys"
    )
    assert about("encryption", encryption=DefaultEncryption("AES256")).message == (
        "by default AES256"
    )


def test_what_writes_ask_for_is_said_beside_the_default() -> None:
    finding = about("encryption", "AES256")
    assert finding.message.startswith("each write asks for AES256, and counts once ")
    assert not finding.hint


def test_versions_that_are_never_removed_have_a_hint() -> None:
    assert about("versioning", versioning="Enabled").hint
    ended = Rule("n", versions_days=30)
    elsewhere = Rule("o", "other/", versions_days=1)
    assert about("versioning", versioning="Enabled", lifecycle=(elsewhere,)).hint
    finding = about("versioning", versioning="Enabled", lifecycle=(elsewhere, ended))
    assert not finding.hint
    assert "stays for 30 days" in finding.message
    assert "off" in about("versioning", versioning="Suspended").message


def test_a_default_retention_is_said_to_hold_segments_and_bases() -> None:
    message = about("object lock", lock=Lock("GOVERNANCE", 30)).message
    assert message.startswith("each version is held for 30 days (GOVERNANCE), also segments")
    assert about("object lock", lock=Lock()).message.startswith("on, without")
    assert about("object lock").message == "off"


@pytest.mark.parametrize("prefix", ["", "his", "history/", "history/.tail/", "history/m/raw/"])
def test_a_rule_that_removes_what_is_archived_fails(prefix: str) -> None:
    finding = about("lifecycle", lifecycle=(Rule("old", prefix, expires=True),))
    assert finding.level is Level.FAIL
    assert "'old'" in finding.message
    assert PREFIX in finding.hint


@pytest.mark.parametrize(
    "rule",
    [
        Rule("elsewhere", "other/", expires=True),
        Rule("a longer name", "history-of/", expires=True),
        Rule("scratch", "history/.tail/.probe/", expires=True),
        Rule("tagged", expires=True, of_some=True),
        Rule("versions", versions_days=1),
        Rule("uploads", uploads_days=1),
        Rule("warm", moves_to=frozenset({"STANDARD_IA", "GLACIER_IR"})),
    ],
)
def test_a_rule_about_anything_else_is_well(rule: Rule) -> None:
    finding = about("lifecycle", lifecycle=(rule,))
    assert finding.level is Level.OK
    assert ("after 1 day" in finding.message) == bool(rule.uploads_days)


def test_a_rule_that_moves_to_where_nothing_is_read_at_once_is_a_warning() -> None:
    rule = Rule("cold", moves_to=frozenset({"STANDARD_IA", "GLACIER"}))
    (cold,) = [each for each in findings(lifecycle=(rule,)) if each.level is Level.WARN]
    assert "'cold'" in cold.message
    assert "GLACIER:" in cold.message


def test_a_bucket_that_is_open_to_everybody_fails() -> None:
    assert about("policy", public_policy=True).level is Level.FAIL
    assert about("policy", public_policy=False).level is Level.OK
    assert not about("public access", public_blocked=True).hint
