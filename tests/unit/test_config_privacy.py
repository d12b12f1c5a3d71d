"""The keys that keep something on the machine: what is masked, and what never leaves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.unit.configuration import HOME, refused, written
from transcriptd.cli.config import command
from transcriptd.config import Excludes, OwnRule, load

if TYPE_CHECKING:
    from pathlib import Path

OTHER = '[sources.pi]\nroot = "/pi"\n'
AGENTS = ("codetether", "claude", "codex", "zeroclaw", "pi")
CANARY = "canary7c1e"


@pytest.fixture
def others(tmp_path: Path) -> Path:
    return written(tmp_path, OTHER)


def test_secrets_are_reported_unless_somebody_says_otherwise(others: Path) -> None:
    config = load({}, HOME, others)
    assert {config.redaction_of(agent) for agent in AGENTS} == {"report"}


@pytest.mark.parametrize("mode", ["off", "report", "mask"])
def test_what_is_said_of_all_holds_for_each_agent(mode: str, others: Path) -> None:
    config = load({"redaction": mode}, HOME, others)
    assert {config.redaction_of(agent) for agent in (*AGENTS, "unheard-of")} == {mode}


def test_what_is_said_of_one_agent_goes_before(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'redaction = "mask"\n[sources.claude]\nredaction = "off"\n'
        '[sources.pi]\nroot = "/pi"\nredaction = "report"',
    )
    environ = {**HOME, "TRANSCRIPTD_SOURCES__CODEX__REDACTION": "report"}
    config = load({}, environ, file)
    modes = {agent: config.redaction_of(agent) for agent in AGENTS}
    assert modes == {
        "codetether": "mask", "claude": "off", "codex": "report", "zeroclaw": "mask",
        "pi": "report",
    }  # fmt: skip
    assert config.origin["sources.pi.redaction"] == str(file)
    assert config.origin["sources.zeroclaw.redaction"] == "default"


def test_another_mode_is_refused_wherever_it_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, 'redaction = "yes"\n[sources.pi]\nroot = "/pi"\nredaction = true')
    problems = refused({"TRANSCRIPTD_SOURCES__CLAUDE__REDACTION": "on"}, file=file)
    assert set(problems) == {"redaction", "sources.pi.redaction", "sources.claude.redaction"}
    assert (
        "expected one of 'off', 'report', 'mask', got 'on'" in problems["sources.claude.redaction"]
    )


def test_nothing_is_excluded_by_default(others: Path) -> None:
    config = load({}, HOME, others)
    assert {config.excludes_of(agent) for agent in (*AGENTS, "unheard-of")} == {Excludes()}


SAID = 'exclude = ["~/a", "/b/", "c/**"]\nexclude_older = 86400\n'
MEANT = Excludes(paths=("/home/ann/a", "/b"), globs=("c/**",), older_s=86400.0)


@pytest.mark.parametrize("agent", ["codetether", "claude", "codex", "zeroclaw"])
def test_a_known_agent_has_its_excludes(agent: str, tmp_path: Path) -> None:
    file = written(tmp_path, f"[sources.{agent}]\n{SAID}")
    config = load({}, HOME, file)
    assert config.excludes_of(agent) == MEANT
    assert config.excludes_of("claude" if agent != "claude" else "codex") == Excludes()


@pytest.mark.parametrize("head", ["[sources.pi]", '[[sources]]\nname = "pi"'])
def test_another_agent_has_its_excludes_in_either_spelling(head: str, tmp_path: Path) -> None:
    file = written(tmp_path, f'{head}\nroot = "/pi"\n{SAID}')
    assert load({}, HOME, file).excludes_of("pi") == MEANT


@pytest.mark.parametrize("agent", ["codetether", "claude", "codex"])
def test_projects_are_directories_wherever_the_configuration_stands(
    agent: str, tmp_path: Path
) -> None:
    file = written(tmp_path, f'[sources.{agent}]\nexclude_projects = ["~", "~/w/x/", "/srv"]')
    assert load({}, HOME, file).excludes_of(agent).projects == (
        "/home/ann", "/home/ann/w/x", "/srv",
    )  # fmt: skip


def test_excludes_of_a_variable_are_separated_by_colons() -> None:
    environ = {
        "TRANSCRIPTD_SOURCES__CLAUDE__EXCLUDE": "~/a:x-*",
        "TRANSCRIPTD_SOURCES__CLAUDE__EXCLUDE_PROJECTS": "/p:~/q",
        "TRANSCRIPTD_SOURCES__CLAUDE__EXCLUDE_OLDER": "60",
    }
    assert load({}, {**HOME, **environ}, None).excludes_of("claude") == Excludes(
        ("/home/ann/a",), ("x-*",), ("/p", "/home/ann/q"), 60.0
    )


@pytest.mark.parametrize(
    "exclude",
    ["5", '"/a"', '[""]', '["../a"]', '["./a"]', '["a//b"]', '["a/"]', '["/a/*"]',
     '["~no-such-user/a"]', '["/a\\n"]', '["a", 5]'],
)  # fmt: skip
@pytest.mark.parametrize("agent", ["claude", "pi"])
def test_an_exclude_that_would_never_match_is_refused(
    agent: str, exclude: str, tmp_path: Path
) -> None:
    root = 'root = "/pi"\n' if agent == "pi" else ""
    file = written(tmp_path, f"[sources.{agent}]\n{root}exclude = {exclude}")
    assert set(refused({}, file=file)) == {f"sources.{agent}.exclude"}


@pytest.mark.parametrize("project", ["work", "./work", "", "~no-such-user/work"])
def test_a_project_that_would_never_match_is_refused(project: str, tmp_path: Path) -> None:
    file = written(tmp_path, f'[sources.codex]\nexclude_projects = ["{project}"]')
    assert set(refused({}, file=file)) == {"sources.codex.exclude_projects"}


@pytest.mark.parametrize("older", ["-1", '"30d"', "inf", "nan", "true"])
@pytest.mark.parametrize("agent", ["codex", "pi"])
def test_an_age_that_is_no_number_of_seconds_is_refused(
    agent: str, older: str, tmp_path: Path
) -> None:
    root = 'root = "/pi"\n' if agent == "pi" else ""
    file = written(tmp_path, f"[sources.{agent}]\n{root}exclude_older = {older}")
    assert set(refused({}, file=file)) == {f"sources.{agent}.exclude_older"}


@pytest.mark.parametrize("spelling", ["[sources.{}]\n", '[[sources]]\nname = "{}"\n'])
@pytest.mark.parametrize("agent", ["zeroclaw", "pi"])
def test_projects_of_an_agent_whose_sessions_say_none_are_refused(
    agent: str, spelling: str, tmp_path: Path
) -> None:
    root = 'root = "/pi"\n' if agent == "pi" else ""
    text = f'{spelling.format(agent)}{root}exclude_projects = ["/p"]'
    problems = refused({}, file=written(tmp_path, text))
    assert "do not say a project" in problems.pop(f"sources.{agent}.exclude_projects")
    assert not problems


RULES = """
[[rules]]
name = "intranet-token"
pattern = 'intra_[0-9a-f]{32}'
[[rules]]
name = "door"
pattern = 'door code (\\d{6})'
"""


def test_rules_stand_in_the_file_in_their_order(tmp_path: Path) -> None:
    file = written(tmp_path, RULES)
    config = load({}, HOME, file)
    assert config.rules == (
        OwnRule("intranet-token", "intra_[0-9a-f]{32}"),
        OwnRule("door", "door code (\\d{6})"),
    )
    assert config.origin["rules.door"] == str(file)


def test_every_problem_of_every_rule_is_listed_at_once(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        f"""
        workers = 0
        [[rules]]
        pattern = "x"
        [[rules]]
        name = "Upper"
        pattern = "x"
        [[rules]]
        name = "none"
        patern = "x"
        [[rules]]
        name = "open"
        pattern = "{CANARY}("
        [[rules]]
        name = "empty"
        pattern = "x*"
        [[rules]]
        name = "anchored"
        pattern = "^{CANARY}"
        [[rules]]
        name = "twice"
        pattern = "x"
        [[rules]]
        name = "twice"
        pattern = "y"
        [[rules]]
        name = "jwt"
        pattern = 5
        """,
    )
    problems = refused({}, file=file)
    assert set(problems) == {
        "workers", "rules entry 1", "rules.Upper", "rules.none.patern", "rules.none.pattern",
        "rules.open", "rules.empty", "rules.anchored", "rules.twice", "rules.jwt.pattern",
    }  # fmt: skip
    assert problems["rules.none.patern"].endswith("unknown; did you mean pattern?")
    assert "looked for anywhere" in problems["rules.anchored"]
    assert CANARY not in str(problems), "what is looked for may be a secret by itself"


def test_a_rule_with_the_name_of_a_built_in_one_is_refused(tmp_path: Path) -> None:
    from transcriptd.redaction import RuleSet

    name = RuleSet().names[0]
    file = written(tmp_path, f'[[rules]]\nname = "{name}"\npattern = "x"')
    assert set(refused({}, file=file)) == {f"rules.{name}"}


@pytest.mark.parametrize("rules", ["rules = 5", 'rules.name = "x"', "rules = [5]"])
def test_rules_that_are_no_entries_are_refused(rules: str, tmp_path: Path) -> None:
    (key,) = refused({}, file=written(tmp_path, rules))
    assert key in {"rules", "rules entry 1"}


def test_rules_are_no_variable_and_no_option() -> None:
    assert set(refused({"TRANSCRIPTD_RULES": "x"}, {"rules": "x"})) == {
        "TRANSCRIPTD_RULES",
        "rules",
    }


def test_a_pattern_does_not_show_where_the_configuration_is_printed(tmp_path: Path) -> None:
    file = written(tmp_path, f'[[rules]]\nname = "mine"\npattern = "{CANARY}"')
    assert CANARY not in repr(load({}, HOME, file))


def test_show_prints_what_is_masked_and_excluded_and_which_rules_there_are(tmp_path: Path) -> None:
    file = written(tmp_path, f"{RULES}{OTHER}{SAID}")
    runner = CliRunner(env={**HOME, "TRANSCRIPTD_CONFIG": str(file)})
    shown = runner.invoke(command, ["show"]).output
    assert 'sources.claude.redaction = "report"  # default\n' in shown
    assert f'sources.pi.exclude = ["/home/ann/a", "/b", "c/**"]  # {file}\n' in shown
    assert 'sources.pi.redaction = "report"  # default\n' in shown
    assert f'rules.intranet-token = "intra_[0-9a-f]{{32}}"  # {file}\n' in shown
    as_json = json.loads(runner.invoke(command, ["show", "--json"]).output)
    assert as_json["sources.pi.exclude_older"] == {"value": 86400.0, "origin": str(file)}
    assert as_json["rules.door"]["origin"] == str(file)
