"""What is shipped beside the code: the unit, the lock, the manifests, the wheel's shared data."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml

from transcriptd import metrics

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "transcriptd.service"
DRAIN_S = 30


def directives(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    return directives(UNIT.read_text())


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "config" / "kubernetes.yaml").read_text())
    (found,) = (document for document in documents if document["kind"] == "StatefulSet")
    template: dict[str, Any] = found["spec"]["template"]["spec"]
    return template


@pytest.fixture(scope="module")
def sidecar(pod: dict[str, Any]) -> dict[str, Any]:
    _, found = pod["initContainers"]
    container: dict[str, Any] = found
    return container


@pytest.fixture(scope="module")
def hydration(pod: dict[str, Any]) -> dict[str, Any]:
    found, _ = pod["initContainers"]
    container: dict[str, Any] = found
    return container


def test_systemd_knows_every_directive_of_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    program = tmp_path / ".local" / "bin" / "transcriptd"
    program.parent.mkdir(parents=True)
    program.symlink_to(sys.executable)
    result = subprocess.run(
        [analyze, "--user", "verify", UNIT],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (result.stdout, result.returncode) == ("", 0)


def test_only_a_configuration_error_keeps_the_service_down(unit: dict[str, list[str]]) -> None:
    assert unit["Type"] == ["notify"]
    assert unit["Restart"] == ["on-failure"]
    assert unit["RestartPreventExitStatus"] == ["78"]
    assert unit["StartLimitIntervalSec"] == ["0"]


def test_the_unit_leaves_time_to_drain(unit: dict[str, list[str]]) -> None:
    (stop,) = unit["TimeoutStopSec"]
    assert int(stop.removesuffix("s")) > DRAIN_S


def test_the_sandbox_is_really_on_under_a_user_manager(unit: dict[str, list[str]]) -> None:
    assert unit["PrivateUsers"] == ["yes"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["ProtectHome"] == ["read-only"]


def test_the_state_lies_where_the_command_line_finds_it(unit: dict[str, list[str]]) -> None:
    (made,), (writable,) = unit["ExecStartPre"], unit["ReadWritePaths"]
    assert "StateDirectory" not in unit
    for place in ("%h/.local/state/transcriptd", "%h/.local/share/transcriptd"):
        assert place in made.split()
        assert f"-{place}" in writable.split()


def test_no_lock_says_where_packages_come_from() -> None:
    locks = [*ROOT.glob("*.lock"), *ROOT.glob("requirements*")]
    assert locks
    for lock in locks:
        assert not re.findall(r"(?m)\S+://\S+|^ *-(?:i|f|-index|-extra|-find).*", lock.read_text())


def test_every_package_in_the_lock_has_its_hashes() -> None:
    entries = re.findall(
        r"(?m)^[\w.-]+==.*(?:\n +--hash=\S+.*)*", ROOT.joinpath("requirements.lock").read_text()
    )
    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_wheel_carries_the_configuration_and_the_unit() -> None:
    try:
        files = distribution("transcriptd").files or []
    except PackageNotFoundError:
        pytest.skip("transcriptd is not installed: use tests/run")
    installed = {str(file).rpartition("share/transcriptd/")[2] for file in files}
    shipped = {
        str(path.relative_to(ROOT))
        for folder in ("config", "systemd")
        for path in ROOT.joinpath(folder).rglob("*")
        if path.is_file()
    }
    assert shipped
    assert shipped <= installed


def test_no_probe_of_the_pod_waits_for_the_store(sidecar: dict[str, Any]) -> None:
    probes = {
        name: sidecar[f"{name}Probe"]["exec"]["command"]
        for name in ("startup", "liveness", "readiness")
    }
    assert probes == {
        "startup": ["transcriptd", "health", "--live"],
        "liveness": ["transcriptd", "health", "--live"],
        "readiness": ["transcriptd", "health", "--ready"],
    }


def test_the_sidecar_outlives_the_agent_and_has_time_to_drain(
    pod: dict[str, Any], sidecar: dict[str, Any]
) -> None:
    assert sidecar["restartPolicy"] == "Always"
    assert pod["terminationGracePeriodSeconds"] > DRAIN_S


def test_only_the_daemon_is_given_the_five_variables(
    pod: dict[str, Any], sidecar: dict[str, Any]
) -> None:
    compose = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text())["services"]
    agents = [*pod["containers"], compose["agent"]]
    assert "envFrom" in sidecar
    assert "env_file" in compose["transcriptd"]
    for agent in agents:
        assert not {"envFrom", "env_file"} & agent.keys()
        assert "HISTORY_S3" not in str(agent)


def test_the_daemon_cannot_write_the_sessions(sidecar: dict[str, Any]) -> None:
    compose = yaml.safe_load((ROOT / "config" / "compose.yaml").read_text())["services"]
    mounts = {mount["name"]: mount for mount in sidecar["volumeMounts"]}
    assert mounts["data"]["readOnly"] is True
    assert "agent-data:/data:ro" in compose["transcriptd"]["volumes"]
    assert sidecar["securityContext"]["readOnlyRootFilesystem"] is True
    assert compose["transcriptd"]["read_only"] is True


def test_what_hydrates_ends_before_the_daemon_starts_and_speaks_for_it(
    sidecar: dict[str, Any], hydration: dict[str, Any]
) -> None:
    assert "restartPolicy" not in hydration
    verb, *arguments = hydration["args"]
    with import_module(f"transcriptd.cli.{verb}").command.make_context(verb, arguments):
        pass
    said = {entry["name"]: entry["value"] for entry in hydration["env"]}
    assert said.items() <= {e["name"]: e.get("value") for e in sidecar["env"]}.items()
    assert said["TRANSCRIPTD_MACHINE"] == "agent"
    assert hydration["envFrom"] == sidecar["envFrom"]
    assert {"name": "data", "mountPath": "/data"} in hydration["volumeMounts"]
    assert {"name": "state", "mountPath": "/state"} in hydration["volumeMounts"]


def test_the_alert_rules_ask_for_metrics_that_exist() -> None:
    rules = ROOT.joinpath("config", "prometheus-rules.yaml").read_text()
    exported = set(re.findall(r'"(transcriptd_\w+)"', inspect.getsource(metrics)))
    asked = set(re.findall(r"\btranscriptd_\w+", rules))
    assert asked
    assert {re.sub(r"_(total|bucket)$", "", name) for name in asked} <= exported
