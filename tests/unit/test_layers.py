"""Where values come from: which goes before which, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.configuration import HOME, refused, value_of, written
from transcriptd.config import load
from transcriptd.config.reference import LEAVES, Leaf, literal


def test_each_layer_goes_before_those_below_it(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "workers").write_text("3\n")
    file = written(tmp_path, "workers = 2")
    environ = dict(HOME)
    assert load({}, environ, file).workers == 2
    environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert load({}, environ, file).workers == 3
    environ["TRANSCRIPTD_WORKERS"] = "4"
    assert load({}, environ, file).workers == 4
    config = load({"workers": "5"}, environ, file)
    assert config.workers == 5
    assert config.origin["workers"] == "command line"


@pytest.mark.parametrize("leaf", LEAVES.values(), ids=lambda leaf: leaf.key)
def test_every_key_is_also_a_variable(leaf: Leaf, tmp_path: Path) -> None:
    is_list = leaf.kind is tuple
    text = "/a:/b" if is_list else literal(leaf, leaf.example).strip('"')
    if leaf.key == "s3.ca_bundle":
        text = str(written(tmp_path, ""))
    needed = {
        "TRANSCRIPTD_S3__BUCKET": "b",
        "TRANSCRIPTD_S3__ACCESS_KEY": "k",
        "TRANSCRIPTD_S3__SECRET_KEY": "s",
        "TRANSCRIPTD_S3__SSE": "aws:kms",
    }
    config = load({}, {**HOME, **needed, leaf.variable: text}, None)
    assert config.origin[leaf.key] == leaf.variable
    value = value_of(config, leaf.key)
    assert value == ("/a", "/b") if is_list else literal(leaf, value).strip('"') == text


def test_a_blank_variable_counts_as_unset(tmp_path: Path) -> None:
    file = written(tmp_path, 'machine = "m1"')
    assert load({}, {**HOME, "TRANSCRIPTD_MACHINE": " "}, file).machine == "m1"


def test_the_file_is_the_named_one_else_the_users_own(tmp_path: Path) -> None:
    for name in ("home", "variable", "option"):
        (tmp_path / name / "transcriptd").mkdir(parents=True)
        written(tmp_path / name / "transcriptd", f'machine = "{name}"')
    environ = {**HOME, "XDG_CONFIG_HOME": str(tmp_path / "home")}
    assert load({}, environ, None).machine == "home"
    environ["TRANSCRIPTD_CONFIG"] = str(tmp_path / "variable/transcriptd/config.toml")
    assert load({}, environ, None).machine == "variable"
    assert load({}, environ, tmp_path / "option/transcriptd/config.toml").machine == "option"


def test_paths_count_from_the_file_they_stand_in(tmp_path: Path) -> None:
    file = written(tmp_path, 'state_dir = "state"\nlocal.path = "~/archive"')
    config = load({}, HOME, file)
    assert config.state_dir == tmp_path / "state"
    assert config.local.path == Path("/home/ann/archive")
    assert load({"state_dir": "x"}, HOME, None).state_dir == Path.cwd() / "x"


def test_a_variable_may_name_a_file_with_the_value(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(" with spaces around \n")
    environ = {"TRANSCRIPTD_S3__BUCKET": "b", "TRANSCRIPTD_S3__PROFILE_FILE": str(secret)}
    config = load({}, {**HOME, **environ}, None)
    assert config.s3.profile == " with spaces around "
    assert config.origin["s3.profile"] == "TRANSCRIPTD_S3__PROFILE_FILE"


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, 'wrokers = 1\ndebounce = 3\n[watch]\nrescan = "often"\n[log]\nx = 1')
    environ = {
        "TRANSCRIPTD_DEBOUNCE_QUIET": "1",
        "TRANSCRIPTD_DRAIN": "soon",
        "TRANSCRIPTD_S3__SECRET_KEY_FILE": "/nowhere",
    }
    problems = refused(environ, {"workers": "0", "nothing.like.it": 1}, file)
    misspelt = "unknown; did you mean TRANSCRIPTD_DEBOUNCE__QUIET?"
    unreadable = "cannot read /nowhere: No such file or directory"
    assert problems == {
        "wrokers": f"wrokers ({file}): unknown; did you mean workers?",
        "debounce": f"debounce ({file}): expected a table",
        "log.x": f"log.x ({file}): unknown",
        "watch.rescan": f"watch.rescan ({file}): expected a number of seconds >= 0.05, got 'often'",
        "TRANSCRIPTD_DEBOUNCE_QUIET": f"TRANSCRIPTD_DEBOUNCE_QUIET (environment): {misspelt}",
        "drain": "drain (TRANSCRIPTD_DRAIN): expected a number of seconds >= 0, got 'soon'",
        "s3.secret_key": f"s3.secret_key (TRANSCRIPTD_S3__SECRET_KEY_FILE): {unreadable}",
        "workers": "workers (command line): expected a whole number from 1 to 256, got '0'",
        "nothing.like.it": "nothing.like.it (command line): unknown",
    }


@pytest.mark.parametrize(
    "environ",
    [
        {"TRANSCRIPTD_TEST_S3_ENDPOINT": "http://h"},
        {"TRANSCRIPTD_FAILPOINT": "x"},
        {"TRANSCRIPTD_SERVICE_HOST": "10.0.0.1", "TRANSCRIPTD_PORT_9464_TCP_ADDR": "10.0.0.1"},
        {"TRANSCRIPTD_METRICS_SERVICE_PORT_HTTP": "1", "TRANSCRIPTD_METRICS_PORT": "tcp://h:1"},
    ],
)
def test_variables_that_are_no_configuration_are_left_alone(environ: dict[str, str]) -> None:
    assert load({}, {**HOME, **environ}, None).store == "local"


def test_a_named_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    named = {"TRANSCRIPTD_CONFIG": str(tmp_path / "none.toml")}
    assert "TRANSCRIPTD_CONFIG" in refused(named)["config"]
    assert "--config" in refused({}, file=tmp_path)["config"]
    assert "line 1" in refused({}, file=written(tmp_path, "workers = = 1"))["config"]


def test_a_value_and_a_file_with_it_are_one_too_many(tmp_path: Path) -> None:
    file = written(tmp_path, "m")
    environ = {"TRANSCRIPTD_MACHINE": "m", "TRANSCRIPTD_MACHINE_FILE": str(file)}
    assert set(refused(environ)) == {"machine"}
