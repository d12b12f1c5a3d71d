"""`transcriptd scan` as a person calls it: in a process of its own, on a home of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.agents import UUID, Claude, Codex, write
from tests.documents import conversation, document, message, save
from tests.home import PATIENCE_S, Home

if TYPE_CHECKING:
    from pathlib import Path

    from tests.home import Outcome

MIDDLE = "4d5e6f7a8b9c"
SECRET = f"canary-0123{MIDDLE}fedc"
RULES = """
[[rules]]
name = "canary"
pattern = "canary-([0-9a-f]{20})"

[[rules]]
name = "intranet"
pattern = "intra-[0-9]{6}"
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with rules of its own, and with a session of each of three agents."""
    home = Home.make(tmp_path / "home")
    configure(home, RULES)
    said = [*conversation(2), message("user", f"it is {SECRET}")]
    save(home.sessions, document(said, "one"))
    Claude(home.path).says("nothing")
    Codex(home.path).says("nothing")
    return home


def configure(home: Home, text: str) -> None:
    path = home.path / ".config" / "transcriptd" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def lines(outcome: Outcome) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return what was said, and the summary at its end."""
    *said, last = map(json.loads, outcome.out.splitlines())
    return said, last["summary"]


def everything(home: Home) -> dict[str, tuple[bytes, int]]:
    """Return all there is, but what SQLite has beside the journal while it is read."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else (b"", 0)
        for path in home.path.rglob("*")
        if not path.name.endswith(("-shm", "-wal"))
    }


def test_what_is_found_is_told_by_rule_session_and_line(home: Home) -> None:
    Claude(home.path).says(f"a {SECRET} and {SECRET} for intra-123456")
    outcome = home.run("scan")
    assert (outcome.status, outcome.err) == (1, "")
    assert re.search(r"^one +canary +1  3$", outcome.out, re.MULTILINE)
    assert re.search(rf"^{UUID} +canary +2  2, 2\n +intranet +1  2$", outcome.out, re.MULTILINE)
    assert "4 findings in 2 of 3 sessions" in outcome.out
    assert "Revoke what is still valid" in outcome.out


def test_nothing_found_is_exit_status_0(home: Home) -> None:
    outcome = home.run("scan", UUID)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("Nothing found in 2 sessions, ")


def test_an_empty_machine_has_nothing_to_be_found(tmp_path: Path) -> None:
    outcome = Home.make(tmp_path / "empty").run("scan")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("Nothing found in 0 sessions, 0 B")


def test_json_has_a_line_for_each_finding_and_a_summary(home: Home) -> None:
    outcome = home.run("scan", "--json")
    assert (outcome.status, outcome.err) == (1, "")
    said, summary = lines(outcome)
    path = str(home.sessions / "one.json")
    found = {"rule": "canary", "session": "one", "source": "codetether", "path": path, "line": 3}
    assert said == [found]
    read = summary.pop("bytes")
    assert summary == {
        "findings": 1, "rules": {"canary": 1}, "found_in": 1, "looked_at": 3, "not_looked_at": 0,
    }  # fmt: skip
    assert read > (home.sessions / "one.json").stat().st_size


@pytest.mark.parametrize("options", [(), ("--json",), ("--show",), ("--show", "--json")])
def test_no_more_of_a_match_is_told_than_its_ends(home: Home, options: tuple[str, ...]) -> None:
    outcome = home.run("scan", *options)
    assert MIDDLE not in outcome.out + outcome.err
    assert ("0123" in outcome.out) is False
    said = outcome.out.encode().decode("unicode_escape" if "--json" in options else "utf-8")
    assert ("012…edc" in said) is ("--show" in options)


def test_one_rule_can_be_asked_for_and_an_unknown_one_is_exit_status_2(home: Home) -> None:
    write(home.path / "x.txt", f"intra-123456\n{SECRET}\n".encode())
    outcome = home.run("scan", "x.txt", "--rule", "intranet")
    assert outcome.status == 1
    assert "1 finding in 1 of 1 file, " in outcome.out
    assert "canary" not in outcome.out
    assert home.run("scan", "one", "--rule", "intranet").status == 0
    both = home.run("scan", "x.txt", "--rule", "intranet", "--rule", "canary", "--json")
    assert lines(both)[1]["rules"] == {"intranet": 1, "canary": 1}
    unknown = home.run("scan", "--rule", "intranets")
    assert (unknown.status, unknown.out) == (2, "")
    assert "there is no rule 'intranets'" in unknown.err


def test_the_rules_are_listed_and_the_users_own_by_name_alone(home: Home) -> None:
    outcome = home.run("scan", "--list-rules")
    assert (outcome.status, outcome.err) == (0, "")
    assert re.search(r"^intranet +\[\[rules\]\] of the configuration$", outcome.out, re.MULTILINE)
    assert re.search(r"^aws-access-key +\S", outcome.out, re.MULTILINE)
    assert "intra-" not in outcome.out
    rows = {row["rule"]: row for row in map(json.loads, home.run(
        "scan", "--list-rules", "--json").out.splitlines())}  # fmt: skip
    assert rows["intranet"] == {"rule": "intranet", "is_own": True, "pattern": None}
    assert rows["aws-access-key"]["is_own"] is False


def test_what_cannot_be_read_is_named_and_the_others_go_on(home: Home) -> None:
    (home.sessions / "broken.json").write_text("{")
    write(Codex(home.path).rollout().with_name("rollout-x.jsonl.zst"), b"damaged")
    outcome = home.run("scan")
    assert outcome.status == 1
    assert "1 finding in 1 of 3 sessions" in outcome.out
    assert re.search(r"^transcriptd: not looked at: \S+/broken\.json: ", outcome.err, re.MULTILINE)
    assert "rollout-x.jsonl.zst: " in outcome.err
    said, summary = lines(home.run("scan", "broken", "--json"))
    assert [(one["session"], one["reason"]) for one in said] == [("broken", "invalid_json")]
    assert summary["not_looked_at"] == 1


def test_what_could_not_be_looked_at_alone_is_exit_status_1(home: Home) -> None:
    outcome = home.run("scan", "nobody", UUID)
    assert outcome.status == 1
    assert "nobody: there is no such file, and no such session on this machine" in outcome.err
    assert outcome.out.startswith("Nothing found in 2 sessions")
    said, summary = lines(home.run("scan", "nobody", "--json"))
    assert [(one["path"], one["reason"]) for one in said] == [("nobody", "missing")]
    assert summary["looked_at"] == 0


def test_a_file_without_permission_is_named(home: Home) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    write(home.path / "x.txt", SECRET.encode()).chmod(0)
    outcome = home.run("scan", "x.txt")
    assert (outcome.status, "no permission" in outcome.err) == (1, True)


def test_it_looks_whatever_the_configuration_does_about_secrets(home: Home) -> None:
    said = f'redaction = "off"\n[sources.codetether]\nexclude = ["**"]\n{RULES}'
    configure(home, said)
    assert home.run("scan").status == 1
    assert home.run("scan", "one").status == 1
    configure(home, f"[sources.codetether]\nenabled = false\n{RULES}")
    assert home.run("scan").status == 0, "an agent that is off has no sessions here"


def test_nothing_is_written_without_a_daemon_and_beside_its_state(home: Home) -> None:
    before = everything(home)
    assert home.run("scan", "--show").status == 1
    assert everything(home) == before
    home.run("sync")
    before = everything(home)
    assert home.run("scan", "--json").status == 1
    assert everything(home) == before


def test_an_archive_that_is_missing_or_refuses_is_not_asked(home: Home) -> None:
    home.environ["CODETETHER_HISTORY_S3_BUCKET"] = "b"  # and no more: the store is disabled
    assert "1 finding" in home.run("scan").out
    said = f'[s3]\nendpoint = "http://127.0.0.1:9"\nbucket = "b"\n{RULES}'
    configure(home, said)
    assert "1 finding" in home.run("scan").out


def test_a_rule_that_cannot_be_is_exit_status_78(home: Home) -> None:
    configure(home, '[[rules]]\nname = "bad"\npattern = "("\n')
    outcome = home.run("scan")
    assert (outcome.status, outcome.out) == (78, "")
    assert "rules.bad" in outcome.err


def test_many_findings_are_counted_and_the_first_of_them_placed(home: Home) -> None:
    write(home.path / "x.txt", f"{SECRET}\n".encode() * 2000)
    outcome = home.run("scan", "x.txt")
    assert re.search(
        r"^x\.txt +canary +2,000  1, 2, 3, 4, 5, 6, 7, 8, … 1,992 more$", outcome.out, re.MULTILINE
    )
    for number in range(150):
        write(home.path / "many" / f"{number}.txt", f"{SECRET}\n".encode())
    outcome = home.run("scan", "many")
    assert "… and 50 more rows: transcriptd scan --json" in outcome.out
    assert "150 findings in 150 of 150 files" in outcome.out
    assert "Revoke" not in outcome.out


def test_a_name_cannot_command_the_terminal(home: Home) -> None:
    write(home.path / "a" / "\x07.txt", SECRET.encode())
    outcome = home.run("scan", "a")
    assert outcome.status == 1
    assert "\x07" not in outcome.out + outcome.err


def test_a_reader_that_has_seen_enough_is_no_error(home: Home) -> None:
    write(home.path / "x.txt", f"{SECRET}\n".encode() * 20_000)
    with home.start("scan", "--json", "x.txt") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE_S) == 1


def test_a_terminal_sees_how_far_it_is(home: Home) -> None:
    write(home.path / "x.txt", b"x " * (8 << 20))
    main, terminal = os.openpty()
    with os.fdopen(main, "rb", buffering=0) as seen:
        subprocess.run(
            [sys.executable, "-m", "transcriptd", "scan", "x.txt"],
            env={**os.environ, "HOME": str(home.path), "TERM": "xterm", "COLUMNS": "80"},
            cwd=home.path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal,
            check=True, timeout=PATIENCE_S,
        )  # fmt: skip
        os.close(terminal)
        drawn = b""
        try:
            while piece := seen.read(1 << 16):
                drawn += piece
        except OSError:
            pass  # how Linux says that nobody writes any more
    assert b"scanning, MiB" in drawn
    assert b"/16" in drawn


def test_help_says_what_it_does_with_examples_and_exit_statuses(home: Home) -> None:
    outcome = home.run("scan", "--help")
    assert outcome.status == 0
    assert "Exit status 0 if nothing was found" in outcome.out
    assert re.search(r"Examples:\n +transcriptd scan", outcome.out)
