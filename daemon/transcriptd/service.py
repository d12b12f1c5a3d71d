"""The systemd user service: its unit, and the manager that runs it.

Knows systemd's syntax and tools; knows nothing of what the daemon does. Every function raises
`TranscriptdError` with a hint where systemd cannot do what was asked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from transcriptd.errors import TranscriptdError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

UNIT = "transcriptd.service"
_SHIPPED = Path("share") / "transcriptd" / "systemd" / UNIT
_CALL_S = 120.0
_NO_MANAGER = (
    "Log in as this user (not through su or sudo), or run `loginctl enable-linger` and try again; "
    "without systemd, start `transcriptd run` by other means."
)


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What systemd says of the service. `lingering` is `None` where that is not known."""

    unit: str
    installed: bool
    enabled: str
    active: str
    text: str
    pid: int
    lingering: bool | None


class Manager:
    """The user's service manager, asked through `systemctl --user`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find the manager, or say why there is none."""
        program = shutil.which("systemctl", path=environ.get("PATH"))
        if program is None:
            raise TranscriptdError("systemctl is not on PATH: no systemd here?", hint=_NO_MANAGER)
        self._program = program
        self._environ = dict(environ)
        runtime = Path("/run/user", str(os.getuid()))
        if runtime.is_dir():
            self._environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
        result = self._run("show-environment")
        if result.returncode:
            said = result.stderr.strip() or "systemctl --user failed"
            raise TranscriptdError(f"no user service manager: {said}", hint=_NO_MANAGER)

    def install(self, target: Path, unit: str, *, start: bool) -> None:
        """Write the unit, enable it, and start it; one that runs is started anew."""
        was_running = self._run("is-active", "--quiet", UNIT).returncode == 0
        _write(target, unit)
        self._do("daemon-reload")
        self._do("enable", *(["--now"] if start else []), UNIT)
        if start and was_running:
            self._do("restart", UNIT)

    def uninstall(self, target: Path) -> bool:
        """Stop, disable and remove the unit; say whether there was one."""
        if not target.exists():
            return False
        self._do("disable", "--now", UNIT)
        target.unlink()
        self._do("daemon-reload")
        return True

    def status(self, target: Path) -> ServiceStatus:
        wanted = ("UnitFileState", "ActiveState", "StatusText", "MainPID")
        lines = self._do("show", f"--property={','.join(wanted)}", UNIT).splitlines()
        said = {name: value for name, _, value in (line.partition("=") for line in lines)}
        return ServiceStatus(
            unit=str(target),
            installed=target.exists(),
            enabled=said.get("UnitFileState") or "disabled",
            active=said.get("ActiveState") or "inactive",
            text=said.get("StatusText", ""),
            pid=int(said.get("MainPID") or 0),
            lingering=self.lingering(),
        )

    def lingering(self) -> bool | None:
        """Whether the service outlives the user's last session."""
        program = shutil.which("loginctl", path=self._environ.get("PATH"))
        if program is None:
            return None
        question = [program, "show-user", str(os.getuid()), "--property=Linger", "--value"]
        answer = _call(question, self._environ).stdout.strip()
        return {"yes": True, "no": False}.get(answer)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return _call([self._program, "--user", *arguments], self._environ)

    def _do(self, *arguments: str) -> str:
        result = self._run(*arguments)
        if result.returncode:
            raise TranscriptdError(
                f"systemctl --user {' '.join(arguments)}: "
                f"{result.stderr.strip() or f'exit status {result.returncode}'}",
                hint=f"journalctl --user --unit {UNIT} --lines 20",
            )
        return result.stdout


def shipped_unit() -> str:
    """Read the unit that came with this installation, or with its source tree."""
    for place in _places():
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise TranscriptdError(f"{UNIT} did not come with this installation", hint="Install it anew.")


def program(argv0: str = sys.argv[0]) -> list[str]:
    """Return the command that runs this program, with an absolute path.

    A symbolic link (pipx, ~/.local/bin) is kept: it outlives an upgrade.
    """
    found = Path(argv0).absolute()
    beside = Path(sys.executable).parent / "transcriptd"
    for candidate in (found, beside):
        if (
            candidate.name == "transcriptd"
            and os.access(candidate, os.X_OK)
            and candidate.is_file()
        ):
            return [str(candidate)]
    return [sys.executable, "-m", "transcriptd"]


def render(
    unit: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    writable: Sequence[Path],
) -> str:
    """Fit the shipped unit to this installation.

    `writable` are the directories the daemon writes to besides those the unit knows.
    """
    lines = [f"Environment={_quoted(f'{name}={value}')}" for name, value in environment.items()]
    lines.append("ExecStart=" + " ".join(_argument(word) for word in command))
    if writable:
        paths = [str(path) for path in writable]
        lines.append("ExecStartPre=+mkdir -p -m 0700 " + " ".join(map(_argument, paths)))
        lines.append("ReadWritePaths=" + " ".join(_quoted(f"-{path}") for path in paths))
    rendered, count = re.subn(r"(?m)^ExecStart=.*$", lambda _: "\n".join(lines), unit)
    assert count == 1, "the shipped unit has one ExecStart="
    return rendered


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[^\w@:,./=%+-]", word) or not word else escaped


def _argument(word: str) -> str:
    return _quoted(word).replace("$", "$$")


def _places() -> Iterator[Path]:
    try:
        files = metadata.files("transcriptd") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-len(_SHIPPED.parts) :] == _SHIPPED.parts:
            yield Path(str(file.locate()))
    yield Path(sysconfig.get_path("data")) / _SHIPPED
    yield Path(__file__).parents[2] / "systemd" / UNIT


def _call(command: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603 - systemctl and loginctl, arguments are our own
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_CALL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TranscriptdError(f"{' '.join(command)}: {error}", hint=_NO_MANAGER) from None


def _write(target: Path, text: str) -> None:
    """Replace the file so that it is never seen half written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
