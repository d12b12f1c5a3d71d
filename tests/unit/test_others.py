"""Agents that only the file names: both spellings of them, and what is wrong with an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.configuration import HOME, refused, written
from transcriptd.config import OtherSource, load

if TYPE_CHECKING:
    from pathlib import Path

AS_TABLES = """
[sources.codex]
enabled = false
roots = ["/more"]
[sources.openclaw]
root = "~/.openclaw/agents"
glob = "*/sessions/*.jsonl"
[sources."my.agent"]
root = ["near", "/far"]
glob = ["*.jsonl", "*.log"]
enabled = false
[sources.plain]
root = "/plain"
"""
AS_ARRAY = """
[[sources]]
name = "openclaw"
root = "~/.openclaw/agents"
glob = "*/sessions/*.jsonl"
[[sources]]
name = "my.agent"
root = ["near", "/far"]
glob = ["*.jsonl", "*.log"]
enabled = false
[[sources]]
name = "codex"
enabled = false
roots = ["/more"]
[[sources]]
name = "plain"
root = "/plain"
"""


@pytest.mark.parametrize("text", [AS_TABLES, AS_ARRAY], ids=["tables", "array"])
def test_either_spelling_says_the_same(text: str, tmp_path: Path) -> None:
    sources = load({}, HOME, written(tmp_path, text)).sources
    assert sources.others == (
        OtherSource("openclaw", ("/home/ann/.openclaw/agents",), ("*/sessions/*.jsonl",)),
        OtherSource(
            "my.agent", (str(tmp_path / "near"), "/far"), ("*.jsonl", "*.log"), enabled=False
        ),
        OtherSource("plain", ("/plain",), ("**/*.jsonl",), enabled=True),
    )
    assert (sources.codex.enabled, sources.codex.roots) == (False, ("/more",))
    assert sources.claude.enabled


def test_a_variable_goes_before_an_entry_of_a_known_agent(tmp_path: Path) -> None:
    file = written(tmp_path, '[[sources]]\nname = "claude"\nenabled = false\nroots = ["/a"]')
    environ = {**HOME, "TRANSCRIPTD_SOURCES__CLAUDE__ENABLED": "true"}
    config = load({}, environ, file)
    assert (config.sources.claude.enabled, config.sources.claude.roots) == (True, ("/a",))
    assert config.origin["sources.claude.enabled"] == "TRANSCRIPTD_SOURCES__CLAUDE__ENABLED"
    assert config.origin["sources.claude.roots"] == str(file)


@pytest.mark.parametrize("name", ["a", "0", 64 * "a", "a.b_c-d", "others"])
def test_a_name_may_be_a_short_word(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, f'[sources."{name}"]\nroot = "/x"')
    assert [other.name for other in load({}, HOME, file).sources.others] == [name]


@pytest.mark.parametrize("name", ["", "A", ".a", "-a", "a b", "a/b", "ä", 65 * "a"])
def test_another_name_is_refused(name: str, tmp_path: Path) -> None:
    tables = written(tmp_path, f'[sources."{name}"]\nroot = "/x"')
    assert set(refused({}, file=tables)) == {f"sources.{name}"}
    entries = written(tmp_path, f'[[sources]]\nname = "{name}"\nroot = "/x"')
    assert set(refused({}, file=entries)) == {f"sources.{name}"}


@pytest.mark.parametrize("glob", ['""', "[]", "5", '["a", 5]', '["a", ""]', '"a\\n"'])
def test_a_glob_that_is_no_pattern_is_refused(glob: str, tmp_path: Path) -> None:
    file = written(tmp_path, f'[sources.x]\nroot = "/x"\nglob = {glob}')
    assert set(refused({}, file=file)) == {"sources.x.glob"}


@pytest.mark.parametrize("glob", ["/x", "../x", "a/../x", "a//x", "./x", "~/x", "x/"])
def test_a_glob_that_leads_elsewhere_or_nowhere_is_refused(glob: str, tmp_path: Path) -> None:
    file = written(tmp_path, f'[sources.x]\nroot = "/x"\nglob = "{glob}"')
    assert set(refused({}, file=file)) == {"sources.x.glob"}


@pytest.mark.parametrize("root", ['""', "[]", "5", "true", '["/a", ""]', '["/a", 5]', '"/a\\n"'])
def test_a_root_that_is_no_directory_is_refused(root: str, tmp_path: Path) -> None:
    file = written(tmp_path, f"[sources.x]\nroot = {root}")
    assert set(refused({}, file=file)) == {"sources.x.root"}


def test_every_problem_of_every_entry_is_listed_at_once(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        """
        workers = 0
        [[sources]]
        name = "one"
        roots = "/x"
        enabled = "yes"
        [[sources]]
        name = "one"
        root = "/x"
        glob = "/y"
        [[sources]]
        root = "/x"
        [[sources]]
        name = "codex"
        root = "/x"
        glob = "*"
        enabled = 5
        [[sources]]
        name = "codx"
        enabled = false
        """,
    )
    known = "this agent is known: expected `roots` beside those that are found, or another name"
    lies_below = "expected a pattern of what lies below root, such as '*/sessions/*.jsonl'"
    in_it = "expected the directory that its sessions are in"
    wanted = {
        "workers": "expected a whole number from 1 to 256, got 0",
        "sources.one": "entry 2 has the name of one before it",
        "sources.one.roots": "unknown; did you mean root?",
        "sources.one.root": in_it,
        "sources.one.enabled": "expected true or false, got 'yes'",
        "sources.one.glob": f"{lies_below}, got '/y'",
        "sources entry 3": "expected a name such as 'openclaw'",
        "sources.codex.root": known,
        "sources.codex.glob": "unknown; did you mean sources.codex.roots?",
        "sources.codex.enabled": "expected true or false, got 5",
        "sources.codx.root": f"{in_it}; or did you mean sources.codex?",
    }
    assert refused({}, file=file) == {
        key: f"{key} ({file}): {message}" for key, message in wanted.items()
    }


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    assert set(refused({}, file=written(tmp_path, "sources = 5"))) == {"sources"}
    assert set(refused({}, file=written(tmp_path, 'sources.x = "/x"'))) == {"sources.x"}
    entries = written(tmp_path, 'sources = [5, {name = 5}, {name = "codex", roots = 5}]')
    wanted = {"sources entry 1", "sources entry 2", "sources.codex.roots"}
    assert set(refused({}, file=entries)) == wanted


def test_both_spellings_in_one_file_are_refused(tmp_path: Path) -> None:
    one = '[[sources]]\nname = "x"\nroot = "/x"\n'
    other = "[sources.codex]\nenabled = false\n"
    assert "not both" in refused({}, file=written(tmp_path, one + other))["sources.x.codex"]
    assert set(refused({}, file=written(tmp_path, other + one))) == {"config"}


def test_an_agent_that_is_not_known_is_no_variable_and_no_option() -> None:
    variable = "TRANSCRIPTD_SOURCES__OPENCLAW__ENABLED"
    key = "sources.openclaw.enabled"
    assert set(refused({variable: "false"}, {key: "false"})) == {variable, key}


def test_the_origin_of_another_agent_is_told(tmp_path: Path) -> None:
    file = written(tmp_path, '[sources.x]\nroot = "/x"\nenabled = false')
    origin = load({}, HOME, file).origin
    assert origin["sources.x.root"] == origin["sources.x.enabled"] == str(file)
    assert origin["sources.x.glob"] == "default"
