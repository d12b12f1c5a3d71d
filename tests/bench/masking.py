"""What it costs to look for secrets: `python -m tests.bench masking`.

MB a second of one core's time, for texts with nothing to mask and for some with a lot; what the
rules cost to load; and how much longer than prose the worst text for each rule takes.
"""

from __future__ import annotations

import base64
import json
import random
import time
from contextlib import suppress
from pathlib import Path

from tests.bench.result import Figure
from transcriptd.content import Held

SPEED = "masking, CPU time"
_SUBJECT = "transcriptd"
_SIZE = 16_000_000
_ROOT = Path(__file__).parents[2]


def _lines(text: str, *, ascii_only: bool = True, length: int = 3000) -> bytes:
    text = (text * (_SIZE // len(text) + 1))[:_SIZE]
    return b"".join(
        json.dumps({"type": "user", "content": text[at : at + length]}, ensure_ascii=ascii_only)
        .encode("utf-8")
        .strip()
        + b"\n"
        for at in range(0, len(text), length)
    )


def texts() -> dict[str, bytes]:
    """Return texts as transcripts hold them, by name."""
    chance = random.Random(1)
    prose = (_ROOT / "LICENSE").read_text() + (_ROOT / "CHANGELOG.md").read_text()
    code = "".join(
        path.read_text() for path in sorted((_ROOT / "daemon/transcriptd/stores").glob("*.py"))
    )
    blob = base64.b64encode(chance.randbytes(_SIZE * 3 // 4)).decode()
    return {
        "prose": _lines(prose),
        "code": _lines(code),
        "code in JSON in JSON": _lines(_lines(code).decode()),
        "base64, a line of 64 MB": b'{"data":"' + 4 * blob.encode() + b'"}\n',
        "base64, lines of 100 KB": _lines(blob, length=100_000),
        "hexadecimal": _lines(chance.randbytes(_SIZE // 2).hex()),
        "escapes: Chinese": _lines("你好世界今天天气很好 "),
        "escapes: French": _lines("Où est l'été à la forêt, garçon ? "),
        'escapes: \\n \\t \\"': _lines('\n\t"\\ x\n'),
        "colours, as they are": _lines("\x1b[31merror\x1b[0m: é\n", ascii_only=False),
        "random bytes": chance.randbytes(_SIZE),
        "a key in every tenth line": b"".join(
            line + b"\n" + json.dumps({"x": "AKIA" + "J" * 16}).encode() + b"\n"
            for line in _lines(prose).splitlines()[::10]
        ),
    }


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def run(*, quick: bool = False) -> list[Figure]:
    """Measure loading the rules, masking each text, and the three slowest rules.

    Quick is a sixteenth of each text, and every tenth rule.
    """
    part, step = (16, 10) if quick else (1, 1)
    before, begun = _resident_mb(), time.thread_time()
    from transcriptd.redaction import RuleSet, Unscannable, in_lines

    rules = RuleSet()
    list(in_lines(rules, Held(b'{"x":"PASSWORD=ab1"}'), 0, 20))
    figures = [
        Figure(f"{len(rules.names)} rules", _SUBJECT, "loading", "ms", _ms_since(begun)),
        Figure(f"{len(rules.names)} rules", _SUBJECT, "memory", "MB", _resident_mb() - before),
    ]
    for name, whole in texts().items():
        raw = whole[: len(whole) // part]
        begun = time.thread_time()
        found = sum(1 for _ in in_lines(rules, Held(raw), 0, len(raw)))
        speed = len(raw) / 1e3 / _ms_since(begun)
        print(f"masking: {name:<28} {speed:7.1f} MB/s {found:8d} found", flush=True)
        figures.append(Figure(name, _SUBJECT, SPEED, "MB/s", speed))
    slowest = []
    for rule in rules.rules[::step]:
        raw = (rule.true[0].encode() * (1 + (1 << 20) // len(rule.true[0])))[: 1 << 20] + b"\n"
        begun = time.thread_time()
        with suppress(Unscannable):  # a match that ends nowhere: the line is withheld
            list(in_lines(rules, Held(raw), 0, len(raw)))
        slowest.append((_ms_since(begun), rule.name))
    for ms, rule_name in sorted(slowest)[-3:]:
        scenario = f"1 MiB of the example of {rule_name}"
        figures.append(Figure(scenario, _SUBJECT, "masking", "ms", ms))
    return figures


def _ms_since(begun: float) -> float:
    return (time.thread_time() - begun) * 1e3
