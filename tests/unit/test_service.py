"""The user service, against a `systemctl` that writes down what it was asked."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from transcriptd import service
from transcriptd.cli.service import command

if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$0.calls"
case "$*" in
  *show-environment*) [ ! -e "$0.none" ] || { echo "Failed to connect to bus" >&2; exit 1; } ;;
  *is-active*) [ -e "$0.running" ] ;;
  *enable*--now*) [ ! -e "$0.broken" ] || { echo "Job failed" >&2; exit 1; } ;;
  *show*)
    printf '%s\\n' UnitFileState=enabled ActiveState=active MainPID=7 'StatusText=3 current' ;;
esac
"""
LOGINCTL = '#!/bin/sh\ncat "$0.answer"\n'


@dataclass(frozen=True, slots=True)
class Machine:
    """A home, and a PATH with the two tools alone."""

    home: Path
    bin: Path

    @property
    def unit(self) -> Path:
        return self.home / ".config/systemd/user/transcriptd.service"

    def say(self, name: str, text: str = "") -> None:
        (self.bin / name).write_text(text)

    def calls(self) -> list[str]:
        return (self.bin / "systemctl.calls").read_text().splitlines()

    def run(self, *arguments: str, **environ: str) -> Result:
        kept = {name: None for name in os.environ if name.startswith(("AWS_", "XDG_"))}
        path = f"{self.bin}:/usr/bin:/bin"
        return CliRunner().invoke(
            command, arguments, env=kept | {"HOME": str(self.home), "PATH": path} | environ
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "home", tmp_path / "bin")
    made.home.mkdir()
    made.bin.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("loginctl", LOGINCTL)):
        made.say(name, text)
        (made.bin / name).chmod(0o755)
    made.say("loginctl.answer", "yes\n")
    return made


def lines(unit: Path, name: str) -> list[str]:
    return [x for x in unit.read_text().splitlines() if x.startswith(f"{name}=")]


def test_install_writes_the_unit_enables_it_and_starts_it(machine: Machine) -> None:
    result = machine.run("install")
    assert result.exit_code == 0, result.output
    assert machine.calls()[-2:] == [
        "--user daemon-reload",
        "--user enable --now transcriptd.service",
    ]
    (start,) = lines(machine.unit, "ExecStart")
    program = shlex.split(start.partition("=")[2])
    assert os.access(program[0], os.X_OK)
    assert program[-1] == "run"
    others = [x for x in service.shipped_unit().splitlines() if not x.startswith("ExecStart=")]
    written = [x for x in machine.unit.read_text().splitlines() if x != start]
    assert written == others
    assert [file.name for file in machine.unit.parent.iterdir()] == ["transcriptd.service"]


def test_install_over_a_running_service_starts_it_anew(machine: Machine) -> None:
    machine.say("systemctl.running")
    assert machine.run("install").exit_code == 0
    assert machine.calls()[-1] == "--user restart transcriptd.service"


def test_install_without_start_only_enables(machine: Machine) -> None:
    machine.say("systemctl.running")
    assert machine.run("install", "--no-start").exit_code == 0
    assert machine.calls()[-1] == "--user enable transcriptd.service"


def test_the_named_configuration_and_this_shells_variables_are_kept(
    machine: Machine, tmp_path: Path
) -> None:
    file = tmp_path / "my 100% config.toml"
    file.write_text(f'local.path = "{tmp_path}/ar chive"')
    state = str(tmp_path / "state")
    result = machine.run("install", TRANSCRIPTD_CONFIG=str(file), TRANSCRIPTD_STATE_DIR=state)
    assert result.exit_code == 0, result.output
    (start,) = lines(machine.unit, "ExecStart")
    assert start.endswith(f'run --config "{tmp_path}/my 100%% config.toml"')
    assert f"Environment=TRANSCRIPTD_STATE_DIR={state}" in lines(machine.unit, "Environment")
    assert f'ReadWritePaths=-{state} "-{tmp_path}/ar chive"' in lines(
        machine.unit, "ReadWritePaths"
    )


def test_secrets_stay_out_of_the_unit_and_the_service_waits_for_them(machine: Machine) -> None:
    secret = {
        f"CODETETHER_HISTORY_S3_{x}": "canary" for x in ("BUCKET", "ACCESS_KEY", "SECRET_KEY")
    }
    secret["CODETETHER_HISTORY_S3_ENDPOINT"] = "http://h"
    result = machine.run("install", **secret)
    assert result.exit_code == 1
    assert "canary" not in machine.unit.read_text() + result.output
    assert all(name in result.stderr for name in secret)
    assert machine.calls()[-1] == "--user enable transcriptd.service"
    env = machine.home / ".config/transcriptd/env"
    env.parent.mkdir()
    env.write_text("".join(f"{name}={value}\n" for name, value in secret.items()))
    assert machine.run("install", **secret).exit_code == 0
    assert machine.calls()[-1] == "--user enable --now transcriptd.service"


def test_install_says_when_lingering_is_off(machine: Machine) -> None:
    assert "Lingering" not in machine.run("install").output
    machine.say("loginctl.answer", "no\n")
    assert "loginctl enable-linger" in machine.run("install").output


def test_without_systemctl_the_message_says_so(machine: Machine) -> None:
    result = machine.run("install", PATH=str(machine.home))
    assert result.exit_code == 1
    assert "systemctl is not on PATH" in result.stderr
    assert not machine.unit.exists()


def test_without_a_user_manager_the_message_says_so_and_nothing_is_written(
    machine: Machine,
) -> None:
    machine.say("systemctl.none")
    for verb in ("install", "uninstall", "status"):
        result = machine.run(verb)
        assert result.exit_code == 1
        assert "no user service manager: Failed to connect to bus" in result.stderr
    assert not machine.unit.exists()


def test_a_service_that_does_not_start_is_reported_with_where_to_look(machine: Machine) -> None:
    machine.say("systemctl.broken")
    result = machine.run("install")
    assert result.exit_code == 1
    assert "Job failed" in result.stderr
    assert "journalctl --user" in result.stderr


def test_a_configuration_that_cannot_be_is_not_installed(machine: Machine) -> None:
    result = machine.run("install", TRANSCRIPTD_WORKERS="0")
    assert result.exit_code == 78
    assert not machine.unit.exists()


def test_uninstall_stops_disables_and_removes(machine: Machine) -> None:
    machine.run("install")
    result = machine.run("uninstall")
    assert result.exit_code == 0
    assert not machine.unit.exists()
    assert machine.calls()[-2:] == [
        "--user disable --now transcriptd.service",
        "--user daemon-reload",
    ]
    assert "not installed" in machine.run("uninstall").output


def test_status_tells_what_systemd_says(machine: Machine) -> None:
    machine.run("install")
    result = machine.run("status")
    assert result.exit_code == 0
    assert "enabled, active (process 7)\n3 current\n" in result.output
    said = json.loads(machine.run("status", "--json").output)
    assert said["unit"] == str(machine.unit)
    assert (said["installed"], said["active"], said["lingering"]) == (True, "active", True)


def test_the_program_is_the_running_one_else_python_with_the_package(tmp_path: Path) -> None:
    script = tmp_path / "transcriptd"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert service.program(str(script)) == [str(script)]
    words = service.program(str(tmp_path / "__main__.py"))
    assert Path(words[0]).is_absolute()
    assert words[1:] in ([], ["-m", "transcriptd"])


@pytest.mark.parametrize(
    ("command_line", "written"),
    [
        (["/a b/x", "run"], '"/a b/x" run'),
        (["/x", 'q"b\\', "$HOME", "5%"], '/x "q\\"b\\\\" "$$HOME" 5%%'),
    ],
)
def test_words_mean_the_same_to_systemd(command_line: Sequence[str], written: str) -> None:
    assert service.render("ExecStart=x", command_line, {}, []) == f"ExecStart={written}"


def test_systemd_accepts_what_install_writes(machine: Machine, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    unit = tmp_path / "transcriptd.service"
    unit.write_text(
        service.render(
            service.shipped_unit(),
            [sys.executable, "-m", "transcriptd", "run", "--config", "/a b/c$%.toml"],
            {"TRANSCRIPTD_MACHINE": 'a "b" %h'},
            [tmp_path / "with space", tmp_path],
        )
    )
    result = subprocess.run(
        [analyze, "--user", "verify", unit],
        env={**os.environ, "HOME": str(machine.home), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, "")
