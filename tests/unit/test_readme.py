"""The README says what is so: its tables are held against the code and the tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from transcriptd.config.reference import LEAVES, literal
from transcriptd.layout import Meta
from transcriptd.model import State

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def _section(title: str) -> str:
    return re.split(r"^## ", README.split(f"\n## {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[
        0
    ]


def _first_cells(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)`", text, flags=re.MULTILINE))


def _configuration_table() -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for leaf in LEAVES.values():
        default = leaf.default_text or f"`{literal(leaf, leaf.default)}`"
        if leaf.default in {"", ()}:
            default = "none"
        rows.append(f"| `{leaf.key}` | {default} | {leaf.description} |")
    return "\n".join(rows)


def test_the_configuration_table_has_every_key_with_its_default_and_meaning() -> None:
    table = README.split("<!-- keys: begin -->\n")[1].split("\n<!-- keys: end -->")[0]
    assert table == _configuration_table()


def test_every_state_is_explained() -> None:
    assert _first_cells(_section("States")) == {state.value for state in State}


def test_every_word_of_the_metadata_is_explained() -> None:
    meta = Meta(0, 0, 0, "", "w", "s")
    assert set(meta.encode()) <= _first_cells(_section("Archive format 1"))


def test_every_reason_to_be_degraded_or_quarantined_is_explained() -> None:
    section = _section("Troubleshooting")
    for path in (ROOT / "daemon").rglob("*.py"):
        for reason in _reasons(path):
            assert f"`{reason}`" in section, f"{reason} ({path.name})"


def test_every_guarantee_names_a_test_that_exists() -> None:
    tests = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = re.findall(r"`(test_\w+)`", _section("Guarantees"))
    assert named
    assert set(named) <= tests


def _reasons(path: Path) -> set[str]:
    """Return the words that a module gives to `Unreadable`, `degrade` and `degraded =`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in {"Unreadable", "degrade"}:
                found.add(str(node.args[0].value))
        if isinstance(node, ast.ClassDef):
            found |= {
                str(each.value.value)
                for each in node.body
                if isinstance(each, ast.Assign)
                and getattr(each.targets[0], "id", "") == "degraded"
                and isinstance(each.value, ast.Constant)
            }
    return found
