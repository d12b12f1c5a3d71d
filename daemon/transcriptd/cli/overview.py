"""The status document as a person sees it: a few lines, and a table of what stands out.

Knows the document (`report`) and nothing of where it comes from; one of an earlier version may lack
what is new.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from transcriptd.cli.units import duration, many, size
from transcriptd.totals import DONE, REVOKE, in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

_MOST_ROWS = 30
_MOST_ROOTS = 10
_MOST_NAMES = 5
_MOST_FOUND = 10  # sessions that are shown for nothing but what was found in them
_DAY_S = 86_400
_REST_WIDTH = 40  # columns, for what is said of a session beside its id
_STATES = {  # in the order in which they are shown, behind those that alarm
    "retrying": "yellow",
    "uploading": "cyan",
    "pending": "yellow",
    "current": "green",
    "source_gone": "dim",
    "excluded": "dim",
}
_ORDER = list(_STATES)
_QUIET = {"current", "excluded"}
_ALARMING = "bold red"


def overview(document: dict[str, Any], socket: str = "") -> RenderableType:
    """Draw the document: a few lines, and a table of the sessions that are not current."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, said, style in _lines(document, socket):
        lines.add_row(Text(name), Text(said, style=style))
    shown, more = _shown(document)
    if not shown:
        return lines
    parts: list[RenderableType] = [lines, "", _Sessions(shown)]
    if more:
        parts.append(f"… and {more} more: transcriptd status --json")
    return Group(*parts)


def _shown(document: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the sessions to show, first what needs attention, and how many more there are.

    One in which something was found is shown for that, unless it is masked.
    """
    masked = {s["source"] for s in document.get("sources", ()) if s.get("redaction") == "mask"}
    standing_out, found = [], []
    for session in document["sessions"]:
        if session["state"] not in _QUIET or session.get("damaged_lines"):
            standing_out.append(session)
        elif session.get("findings") and session["source"] not in masked:
            found.append(session)
    standing_out.sort(key=lambda s: _ORDER.index(s["state"]) if s["state"] in _ORDER else -1)
    found.sort(key=lambda s: -sum(s["findings"].values()))
    shown = standing_out[:_MOST_ROWS] + found[:_MOST_FOUND]
    left_off = document.get("sessions_left_off", 0)
    return shown, len(standing_out) + len(found) - len(shown) + left_off


class _Sessions:
    """A table of sessions. An id is there to be copied: it is broken at a slash, or not at all."""

    def __init__(self, sessions: list[dict[str, Any]]) -> None:
        self._sessions = sessions

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        longest = max(len(session["id"]) for session in self._sessions)
        yield _table(self._sessions, "/\n  " if longest + _REST_WIDTH > options.max_width else "/")


def _lines(document: dict[str, Any], socket: str) -> Iterator[tuple[str, str, str]]:
    """Yield (name, what is to be said, style)."""
    state, totals = document["state"], document["totals"]
    if state == "stopped":
        yield "transcriptd", f"not running: nobody answers at {socket}", _ALARMING
        yield "", "as of the last stop; files were not looked at since", "yellow"
    else:
        up = duration(time.time() - document["started_at"])
        version, pid = document["version"], document["pid"]
        style = "bold green" if state == "ready" else _ALARMING
        yield "transcriptd", f"{version}, {state} for {up}, process {pid}", style
        yield "archive", f"{document['archive']['place']} (as {document['machine']})", ""
    yield "sessions", _counted(totals), ""
    records = many(totals["records"], "record", "records")
    archived = f"current content: {records}, {size(totals['bytes'])}"
    if last := totals.get("last_archived_at"):
        archived += f", the last {duration(time.time() - last)} ago"
    yield "archived", archived, ""
    if said := "; ".join(_traffic(document)):
        yield "store", said, ""
    if oldest := totals.get("oldest_unarchived_s"):
        yield "oldest", f"something has been waiting for {duration(oldest)}", "yellow"
    yield from _expiring(document)
    yield from _findings(document)
    yield from _again(document)
    watched = document.get("watch", ())
    for watch in watched:
        yield from _roots(watch)
    if absent := ", ".join(watch["source"] for watch in watched if not _is_here(watch)):
        yield "not here", f"{absent}: transcriptd sources", ""
    if document.get("store", {}).get("state") == "failing":
        store = document["store"]
        again = f"next attempt in {duration(store['next_attempt_in_s'])}"
        yield "store", f"{store['error']}; {again}", _ALARMING
    for trouble in document.get("degraded", ()):
        since = duration(time.time() - trouble["since"])
        yield "degraded", f"{trouble['reason']} for {since}: {trouble['message']}", _ALARMING
        if trouble["hint"]:
            yield "", f"→ {trouble['hint']}", "yellow"


def _traffic(document: dict[str, Any]) -> Iterator[str]:
    """Yield what was sent, and how far the objects are behind what is archived."""
    store, totals = document.get("store", {}), document["totals"]
    if "requests" in store:
        requests = many(sum(row["count"] for row in store["requests"]), "request", "requests")
        yield f"{requests}, {size(store['sent_bytes'])} sent"
    if behind := totals.get("bases_behind"):  # a daemon of an earlier version does not say
        bases, by = many(behind, "base", "bases"), size(totals["behind_bytes"])
        yield f"{bases} behind by {by}, for up to {duration(totals['oldest_behind_s'])}"


def _expiring(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what agents delete soon, and by name what of that is not archived."""
    within_s = document.get("expiring_within_s", 0)
    days = f"{within_s / _DAY_S:g} {'day' if within_s == _DAY_S else 'days'}"
    until = time.time() + within_s
    for source in document.get("sources", ()):
        if not source["expiring"]:
            continue
        name, unarchived = source["source"], source["expiring_unarchived"]
        sessions = many(source["expiring"], "session", "sessions")
        said = f"{sessions} will be deleted by {name} within {days}; "
        if not unarchived:
            yield "expiring", f"{said}all archived", ""
            continue
        names = [
            session["id"]
            for session in document["sessions"]
            if session["source"] == name
            and not session["is_archived"]
            and (session["expires_at"] or until) < until
        ]
        yield (
            "expiring",
            f"{said}{unarchived:,} not archived: {_some(names, unarchived)}",
            _ALARMING,
        )
        yield (
            "",
            "→ `transcriptd sync` archives what can be, and says why the rest cannot",
            "yellow",
        )


def _some(names: Iterable[str], count: int) -> str:
    """Name the first of so many."""
    shown = list(names)[:_MOST_NAMES]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def _again(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was not as expected in files that are mirrored, or is read again for that."""
    damaged = [s for s in document.get("sources", ()) if s["damaged_lines"]]
    if damaged:
        lines = ", ".join(f"{each['damaged_lines']:,} of {each['source']}" for each in damaged)
        yield "damaged", f"lines that are no JSON, archived as they are: {lines}", "yellow"
    scrub = document.get("scrub", {})
    if not scrub.get("waiting"):
        return
    waits = f"{many(scrub['waiting'], 'session', 'sessions')} ({size(scrub['waiting_bytes'])})"
    found = many(scrub["found"], "rewrite", "rewrites")
    how = f"at {size(scrub['rate'])} a second" if scrub["rate"] else "never: scrub.rate is 0"
    yield "scrub", f"{waits} to be read again, {how}; {found} found", ""


def _findings(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield how much the rules found by what is done about it; never what it is."""
    for mode, done in DONE.items():
        counts, names, sessions = Counter[str](), list[str](), 0
        for source in document.get("sources", ()):
            if source.get("findings") and source["redaction"] == mode:
                counts.update(source["findings"])
                names.append(source["source"])
                sessions += source["with_findings"]
        if not names:
            continue
        where = f"{many(sessions, 'session', 'sessions')} of {', '.join(names)}"
        said = f"{counts.total():,} in {where} ({in_words(counts)})"
        if mode == "mask":
            yield "findings", f"{said}; {done}", ""
        else:
            yield "findings", f"{said}; {done}", "yellow"
            yield "", f"→ {REVOKE}", "yellow"


def _is_here(watch: dict[str, Any]) -> bool:
    return any(root["present"] for root in watch["roots"])


def _roots(watch: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    if not _is_here(watch):
        return
    how = ", polling" if watch["polling"] else ""
    for name, present in (("watching", True), ("awaited", False)):
        paths = [root["path"] for root in watch["roots"] if root["present"] is present]
        for path in paths[:_MOST_ROOTS]:
            yield name, f"{watch['source']}{how if present else ''}: {path}", ""
        if len(paths) > _MOST_ROOTS:
            yield "", f"… and {len(paths) - _MOST_ROOTS} more: transcriptd status --json", ""


def _counted(totals: dict[str, Any]) -> str:
    states = totals["states"]
    several = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    return f"{totals['sessions']:,}" + (f": {several}" if several else "")


def _table(sessions: list[dict[str, Any]], slash: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    ids = [session["id"].replace("/", slash, 1) for session in sessions]
    longest = max(len(part) for each in ids for part in each.splitlines())
    table.add_column("session", no_wrap=True, min_width=longest)
    table.add_column("source", no_wrap=True)
    table.add_column("state", overflow="fold")
    table.add_column("archived", justify="right", no_wrap=True)
    table.add_column("waiting", justify="right", no_wrap=True)
    for session, shown in zip(sessions, ids, strict=True):
        state, age = session["state"], session["oldest_unarchived_s"]
        damaged = session.get("damaged_lines", 0)
        said = (session["reason"], session["message"])
        why = [word for word in said if word]
        why += [many(damaged, "damaged line", "damaged lines")] if damaged else []
        why += [f"found {in_words(findings)}"] if (findings := session.get("findings")) else []
        table.add_row(
            Text(shown),
            Text(session["source"]),
            Text.assemble((state, _STATES.get(state, _ALARMING)), *(f": {word}" for word in why)),
            Text(f"{session['records']:,}"),
            Text("" if age is None else duration(age)),
        )
    return table
