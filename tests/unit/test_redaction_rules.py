"""Every rule finds its own examples, wherever they stand and however they are written."""

from __future__ import annotations

import json
import time

import pytest

from transcriptd.content import Held
from transcriptd.redaction import BadRule, Rule, RuleSet, in_lines, in_text, masked
from transcriptd.redaction.heads import heads, together
from transcriptd.redaction.rule import options
from transcriptd.redaction.ruleset import BUILT_IN
from transcriptd.redaction.shapes import mixed

RULES = RuleSet()
TRUE = [
    pytest.param(rule, text, id=f"{rule.name}-{at}")
    for rule in BUILT_IN
    for at, text in enumerate(rule.true)
]
FALSE = [
    pytest.param(rule, text, id=f"{rule.name}-{at}")
    for rule in BUILT_IN
    for at, text in enumerate(rule.false)
]


def found(raw: bytes, rules: RuleSet = RULES) -> list[tuple[str, bytes]]:
    return [(one.rule, raw[one.start : one.end]) for one in in_lines(rules, Held(raw), 0, len(raw))]


def found_as_text(raw: bytes, rules: RuleSet = RULES) -> list[tuple[str, bytes]]:
    return [(one.rule, raw[one.start : one.end]) for one in in_text(rules, Held(raw), 0, len(raw))]


def secret_in(text: str) -> bytes:
    """Return the first secret in an example, which is what no position of it may hide."""
    return found_as_text(text.encode())[0][1]


def once_masked(raw: bytes) -> bytes:
    result = bytearray(raw)
    for one in in_lines(RULES, Held(raw), 0, len(raw)):
        result[one.start : one.end] = masked(one.rule, raw[one.start : one.end])
    return bytes(result)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(one):04x}" for one in text)


@pytest.mark.parametrize(("rule", "text"), TRUE)
def test_a_rule_finds_its_examples(rule: Rule, text: str) -> None:
    assert rule.name in {name for name, _ in found_as_text(text.encode())}


@pytest.mark.parametrize(("rule", "text"), FALSE)
def test_no_rule_finds_what_is_none(rule: Rule, text: str) -> None:
    assert found_as_text(text.encode()) == []


@pytest.mark.parametrize(("rule", "text"), TRUE)
@pytest.mark.parametrize(
    "around",
    ["{}", "{} and more", "so {} and more", "so\n{}\nand more", "\x1b[1;31m{}\x1b[0m", "é{}é"],
)
def test_an_example_is_masked_anywhere_in_a_string(rule: Rule, text: str, around: str) -> None:
    line = json.dumps({"type": "user", "content": [around.format(text)]}).encode()
    after = once_masked(line)
    assert json.loads(after).keys() == {"type", "content"}
    assert secret_in(text).decode() not in json.loads(after)["content"][0]


@pytest.mark.parametrize(("rule", "text"), TRUE)
def test_an_example_is_masked_as_plain_text(rule: Rule, text: str) -> None:
    line = f"so {text} it is".encode()
    if b"\n" not in line:
        assert secret_in(text) not in once_masked(line)


@pytest.mark.parametrize(("rule", "text"), TRUE)
def test_escapes_hide_no_example(rule: Rule, text: str) -> None:
    after = json.loads(once_masked(f'{{"x":"so {escaped(text)} it is"}}'.encode()))
    assert secret_in(text).decode() not in after["x"]


@pytest.mark.parametrize(("rule", "text"), TRUE)
def test_json_in_json_hides_no_example(rule: Rule, text: str) -> None:
    inner = json.dumps({"command": f"run {text}"})
    middle = json.dumps({"arguments": inner, "n": 1})
    after = json.loads(once_masked(json.dumps({"arguments": middle}).encode()))
    told = json.loads(json.loads(after["arguments"])["arguments"])
    assert secret_in(text).decode() not in told["command"]


@pytest.mark.parametrize(("rule", "text"), TRUE)
def test_escapes_in_json_in_json_hide_no_example(rule: Rule, text: str) -> None:
    inner = f'{{"command":"run {escaped(text)} now"}}'
    after = json.loads(once_masked(json.dumps({"arguments": inner}).encode()))
    assert secret_in(text).decode() not in json.loads(after["arguments"])["command"]


@pytest.mark.parametrize(
    "line",
    [
        {"AWS_SECRET_ACCESS_KEY": mixed(40)},
        {"password": "hunter2" + "hunter2"},
        {"password": 'a"b\\c1 23"'.replace(" ", "")},
        {"arguments": json.dumps({"client_secret": mixed(32)})},
        {"headers": {"Authorization": "Bearer " + mixed(40)}},
    ],
)
def test_a_member_is_an_assignment(line: dict[str, object]) -> None:
    ((_, secret),) = found(json.dumps(line).encode())
    assert json.loads(once_masked(json.dumps(line).encode())) != line
    assert len(secret) >= 8


def test_an_escaped_key_is_the_same_key() -> None:
    assert found(b'{"pass\\u0077ord":"ab\\"cdef1234"}') == [
        ("secret-in-double-quotes", b'ab\\"cdef1234')
    ]


@pytest.mark.parametrize("rule", BUILT_IN, ids=lambda rule: rule.name)
def test_the_head_of_a_rule_matches_wherever_it_does(rule: Rule) -> None:
    import re2

    chosen = options(text=False)
    chosen.never_capture = True
    for raw in (False, True):
        ways = heads(rule.pattern, raw=raw)
        assert ways is not None
        pattern = re2.compile(together(ways).encode(), chosen)
        assert all(pattern.search(text.encode()) for text in rule.true)


@pytest.mark.parametrize("rule", BUILT_IN, ids=lambda rule: rule.name)
def test_no_text_makes_a_rule_slow(rule: Rule) -> None:
    """Repeated examples, and repeated beginnings of them, cost a bounded time for each byte."""
    for text in rule.true[:2]:
        for part in (text, text[: len(text) // 2], text[:12], text[-12:]):
            raw = (part.encode() * (1 + (32 << 10) // len(part)))[: 32 << 10]
            begun = time.thread_time()
            found_as_text(raw)
            assert time.thread_time() - begun < 2


def test_rules_have_names_and_examples() -> None:
    assert len({rule.name for rule in BUILT_IN}) == len(BUILT_IN)
    assert all(rule.true and rule.false for rule in BUILT_IN)


def test_the_version_tells_the_rules_apart() -> None:
    mine = RuleSet([Rule("mine", "acme_[0-9]{8}")])
    other = RuleSet([Rule("mine", "acme_[0-9]{9}")])
    assert len({RULES.version, mine.version, other.version}) == 3
    assert RuleSet().version == RULES.version
    assert len(RULES.version) == 12


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule("mine", "a("), "does not compile"),
        (Rule("mine", "(?=a)b"), "does not compile"),
        (Rule("mine", "x*"), "matches the empty string"),
        (Rule("mine", r"\bx*"), "matches the empty string"),
        (Rule("mine", "^secret"), "means nothing"),
        (Rule("mine", r"secret\z"), "means nothing"),
        (Rule("mine", r"(?:secret$|x)"), "means nothing"),
        (Rule("Mine", "secret"), "a name is"),
        (Rule("m" * 41, "secret"), "a name is"),
        (Rule("json-web-token", "secret"), "taken"),
        (Rule("mine", "secret", unless="("), "does not compile"),
        (Rule("mine", "\ud800"), "no text"),
    ],
)
def test_what_cannot_be_a_rule_is_refused(rule: Rule, reason: str) -> None:
    with pytest.raises(BadRule, match=reason) as refused:
        RuleSet([rule])
    assert refused.value.rule == rule.name


def test_a_name_stands_once() -> None:
    with pytest.raises(BadRule, match="taken"):
        RuleSet([Rule("mine", "a"), Rule("mine", "b")])


@pytest.mark.parametrize(
    "pattern", [r"[$^]acme[0-9]+", r"\$acme[0-9]+", r"\Q$\Eacme[0-9]+", r"[]^]?acme[0-9]+"]
)
def test_signs_that_are_no_anchors_are_allowed(pattern: str) -> None:
    assert found(b'{"x":"$acme123"}', RuleSet([Rule("mine", pattern)]))


@pytest.mark.parametrize(
    ("pattern", "line", "secret"),
    [
        ("acme-([0-9]{6})", '{"x":"acme-123456"}', b"123456"),
        ("acme-[0-9]{6}", '{"x":"acme-123456"}', b"acme-123456"),
        ("acme.*", '{"x":"acme one","y":"two"}', b"acme one"),
        ('"ssn":"[0-9-]+"', '{"ssn":"123-45","y":"two"}', b"123-45"),
        ("größe.{3}", '{"x":"größe中文1"}', "größe中文1".encode()),
        ("größe.{3}", r'{"x":"gr\u00f6\u00dfe\u4e2d\u65871"}', rb"gr\u00f6\u00dfe\u4e2d\u65871"),
        ("(?i)acme[0-9]+|(other)", '{"x":"ACME77"}', b"ACME77"),
        (r"acme\B[0-9]+", r'{"x":"acme\u0037\u0037"}', rb"acme\u0037\u0037"),
        ("\U0001f600+", r'{"x":"\ud83d\ude00\ud83d\ude00"}', rb"\ud83d\ude00\ud83d\ude00"),
    ],
)
def test_the_users_rules_see_what_is_said(pattern: str, line: str, secret: bytes) -> None:
    rules = RuleSet([Rule("mine", pattern)])
    assert found(line.encode(), rules) == [("mine", secret)]


def test_what_is_no_secret_may_hold_one() -> None:
    secret = b"hunter2" * 2
    assert found(b"TOKEN=$(PASSWORD=" + secret + b" login)") == [("secret-in-environment", secret)]


def test_many_rules_of_the_user_are_one_look() -> None:
    rules = RuleSet([Rule(f"mine-{at}", f"acme{at}_[0-9a-f]{{200}}") for at in range(200)])
    secret = "acme77_" + "0f" * 100
    assert found(json.dumps({"x": secret}).encode(), rules) == [("mine-77", secret.encode())]


@pytest.mark.parametrize(
    ("rule", "raw", "mask"),
    [
        ("aws-access-key", b"A" * 20, b"[aws-access-key]****"),
        ("aws-access-key", b"A" * 16, b"[aws-access-key]"),
        ("aws-access-key", b"A" * 15, b"*" * 15),
        ("x", b"ab\r\ncdefg\nh", b"**\r\n[x]**\n*"),
        ("x", b"", b""),
    ],
)
def test_a_mask_has_as_many_bytes_and_ends_no_line_elsewhere(
    rule: str, raw: bytes, mask: bytes
) -> None:
    assert masked(rule, raw) == mask
