"""The configuration: the archive it chooses, its credentials, and what it derives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from tests.unit.configuration import HOME, SINK, refused, written
from transcriptd.cli.config import command
from transcriptd.config import load, machine_name
from transcriptd.config.reference import LEAVES

CANARIES = ("canary-id", "canary-secret", "canary-token")
STATIC = {
    "TRANSCRIPTD_S3__BUCKET": "ours",
    "TRANSCRIPTD_S3__ACCESS_KEY": CANARIES[0],
    "TRANSCRIPTD_S3__SECRET_KEY": CANARIES[1],
    "TRANSCRIPTD_S3__SESSION_TOKEN": CANARIES[2],
}


def test_with_nothing_configured_the_archive_is_a_local_directory() -> None:
    config = load({}, HOME, None)
    assert config.store == "local"
    assert config.local.path == Path("/home/ann/.local/share/transcriptd/archive")
    assert config.state_dir == Path("/home/ann/.local/state/transcriptd")
    assert config.health.socket == config.state_dir / "run" / "transcriptd.sock"
    assert set(config.origin.values()) == {"default"}
    assert set(config.origin) == set(LEAVES)


def test_xdg_directories_move_what_is_not_configured() -> None:
    xdg = {"XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "/d", "XDG_RUNTIME_DIR": "/r"}
    config = load({}, {**HOME, **xdg}, None)
    assert config.state_dir == Path("/s/transcriptd")
    assert config.local.path == Path("/d/transcriptd/archive")
    assert config.health.socket == Path("/r/transcriptd/transcriptd.sock")


def test_a_relative_xdg_directory_is_ignored() -> None:
    config = load({}, {**HOME, "XDG_STATE_HOME": "state", "XDG_RUNTIME_DIR": "run"}, None)
    assert config.state_dir == Path("/home/ann/.local/state/transcriptd")
    assert config.health.socket == config.state_dir / "run" / "transcriptd.sock"


def test_the_sinks_variables_name_the_archive_as_one_unit(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'prefix = "other/"\n[s3]\nbucket = "other"\nregion = "eu-west-1"\nsession_token = "t"\n'
        'profile = "p"\npath_style = false\nendpoint = "http://other"\nstorage_class = "STANDARD"',
    )
    environ = {**HOME, **SINK, "AWS_REGION": "x", "TRANSCRIPTD_S3__ACCESS_KEY": "other"}
    config = load({}, environ, file)
    assert (config.store, config.sink, config.missing) == ("s3", True, ())
    assert config.s3.endpoint == "https://minio.example:9000"
    assert (config.s3.bucket, config.prefix) == ("sink", "history/")
    assert (config.s3.region, config.s3.path_style) == ("us-east-1", True)
    assert (config.s3.access_key, config.s3.secret_key) == ("sink-key", "sink-secret")
    assert (config.s3.session_token, config.s3.profile) == ("", "")
    assert config.s3.storage_class == "STANDARD"


def test_the_sinks_prefix_is_trimmed_and_gets_its_slash() -> None:
    environ = {**HOME, **SINK, "CODETETHER_HISTORY_S3_PREFIX": " team/a "}
    assert load({}, environ, None).prefix == "team/a/"


def test_a_bucket_or_directory_named_by_us_goes_before_the_sink() -> None:
    config = load({}, {**HOME, **SINK, **STATIC}, None)
    assert (config.s3.bucket, config.s3.endpoint, config.sink) == ("ours", "", False)
    assert load({"local.path": "/a"}, {**HOME, **SINK}, None).store == "local"


@pytest.mark.parametrize("unset", sorted(SINK))
def test_a_sink_in_part_disables_and_names_what_is_missing(unset: str) -> None:
    config = load({}, {**HOME, **SINK, unset: "  "}, None)
    assert (config.store, config.missing, config.sink) == ("disabled", (unset,), False)


def test_a_sink_in_part_takes_no_key_from_elsewhere() -> None:
    environ = {**HOME, **SINK, "TRANSCRIPTD_S3__SECRET_KEY": "other"}
    del environ["CODETETHER_HISTORY_S3_SECRET_KEY"]
    config = load({}, environ, None)
    assert config.store == "disabled"
    assert config.s3.credentials is None


@pytest.mark.parametrize(
    ("text", "store"), [('[s3]\nbucket = "b"', "s3"), ('[local]\npath = "/a"', "local")]
)
def test_a_sink_in_part_does_not_disable_another_archive(
    text: str, store: str, tmp_path: Path
) -> None:
    environ = {**HOME, "CODETETHER_HISTORY_S3_BUCKET": "sink"}
    config = load({}, environ, written(tmp_path, text))
    assert (config.store, config.missing) == (store, ())


def test_the_sinks_prefix_alone_configures_nothing() -> None:
    config = load({}, {**HOME, "CODETETHER_HISTORY_S3_PREFIX": "x"}, None)
    assert (config.store, config.prefix) == ("local", "history/")


def test_in_one_place_a_bucket_goes_before_a_directory(tmp_path: Path) -> None:
    file = written(tmp_path, '[s3]\nbucket = "b"\n[local]\npath = "/a"')
    assert load({}, HOME, file).store == "s3"
    assert load({"local.path": "/c"}, HOME, file).store == "local"


def test_region_and_path_style_follow_the_endpoint() -> None:
    aws = {**HOME, "TRANSCRIPTD_S3__BUCKET": "b", "AWS_REGION": "eu-west-1"}
    config = load({}, aws, None)
    assert (config.s3.region, config.s3.path_style) == ("eu-west-1", False)
    config = load({"s3.endpoint": "http://h:9000"}, aws, None)
    assert (config.s3.region, config.s3.path_style) == ("us-east-1", True)


def test_rotated_credential_files_are_read_anew(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("access_key", "secret_key")}
    for name, file in files.items():
        file.write_text(f"old-{name}\n")
    environ = {**HOME, "TRANSCRIPTD_S3__BUCKET": "b"} | {
        f"TRANSCRIPTD_S3__{name.upper()}_FILE": str(file) for name, file in files.items()
    }
    config = load({}, environ, None)
    for name, file in files.items():
        file.write_text(f"new-{name}\n")
    again = config.reload_credentials()
    assert again is not None
    assert (again.access_key, again.secret_key) == ("new-access_key", "new-secret_key")


def test_credentials_that_cannot_be_read_now_stay_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s")
    environ = {**HOME, "TRANSCRIPTD_S3__BUCKET": "b", "TRANSCRIPTD_S3__ACCESS_KEY": "k"}
    config = load({}, {**environ, "TRANSCRIPTD_S3__SECRET_KEY_FILE": str(file)}, None)
    file.unlink()
    assert config.reload_credentials() == config.s3.credentials


def test_credentials_of_another_archive_are_not_taken(tmp_path: Path) -> None:
    text = '[s3]\nbucket = "{}"\naccess_key = "k-{}"\nsecret_key = "s"'
    file = written(tmp_path, text.format("one", "one"))
    config = load({}, HOME, file)
    written(tmp_path, text.format("two", "two"))
    again = config.reload_credentials()
    assert again is not None
    assert again.access_key == "k-one"


def test_without_static_keys_the_aws_chain_is_asked() -> None:
    config = load({}, {**HOME, "TRANSCRIPTD_S3__BUCKET": "b"}, None)
    assert config.s3.credentials is None
    assert config.reload_credentials() is None


def test_secrets_show_in_no_representation() -> None:
    config = load({}, {**HOME, **STATIC}, None)
    shown = CliRunner(env={**HOME, **STATIC}).invoke(command, ["show"]).output
    as_json = CliRunner(env={**HOME, **STATIC}).invoke(command, ["show", "--json"]).output
    texts = (
        repr(config),
        str(config.s3),
        repr(config.s3.credentials),
        pretty_repr(config),
        shown,
        as_json,
    )
    assert not [text for text in texts for canary in CANARIES if canary in text]
    assert "s3.secret_key = set (from TRANSCRIPTD_S3__SECRET_KEY)" in shown


def test_no_problem_repeats_a_secret(tmp_path: Path) -> None:
    environ = {
        "TRANSCRIPTD_S3__BUCKET": "b",
        "TRANSCRIPTD_S3__SECRET_KEY": "canary secret",
        "TRANSCRIPTD_S3__ENDPOINT": "http://ann:canary@h",
    }
    file = written(tmp_path, '[s3]\naccess_key = ["canary"]')
    problems = refused(environ, file=file)
    assert {"s3.access_key", "s3.secret_key", "s3.endpoint"} <= set(problems)
    assert "canary" not in "".join(problems.values())


def test_a_derived_socket_that_would_be_too_long_is_put_elsewhere() -> None:
    environ = {**HOME, "TRANSCRIPTD_STATE_DIR": "/" + 120 * "x", "TMPDIR": "/tmp"}
    config = load({}, environ, None)
    assert config.health.socket.parent == Path(f"/tmp/transcriptd-{os.getuid()}")
    other = load({}, {**environ, "TRANSCRIPTD_STATE_DIR": "/" + 121 * "x"}, None)
    assert other.health.socket != config.health.socket


@settings(deadline=None)  # a busy machine is no failure
@given(st.text())
def test_any_host_name_makes_a_machine_name(host: str) -> None:
    assert load({"machine": machine_name(host)}, HOME, None).machine == machine_name(host)


def test_a_good_host_name_is_the_machine_name() -> None:
    assert machine_name("lap-top_1.example") == "lap-top_1.example"
