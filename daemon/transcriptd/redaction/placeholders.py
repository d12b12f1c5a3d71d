"""What stands where a secret would, and is none: placeholders, references, words of a language.

Patterns for `Rule.unless`: the whole of a supposed secret is one of these.
"""

from __future__ import annotations

_NOUN = (
    r"(?:pass|passwd|password|passphrase|passw(?:or)?t|pwd|pw|secret|token|key|apikey|api[-_. ]?key"
    r"|secret[-_. ]?key|access[-_. ]?key|private[-_. ]?key|access[-_. ]?token|auth[-_. ]?token"
    r"|refresh[-_. ]?token|client[-_. ]?secret|credentials?|value|string|text|hash)"
)
_STANDING_IN = (
    r"(?:example|placeholder|redacted|dummy|masked|hidden|omitted|removed|replace[-_. ]?(?:me|with)"
    r"|change[-_. ]?(?:me|it|this|in|before)|todo|fixme|tbd|insert|generate[-_. ]?(?:a|me|with))"
)

# References to where the value is: variables, templates, calls, members, files, URLs.
_REFERENCE = (
    r"\$[a-z_({@$!?*#0-9].*|.*\$[({].*|%[a-z]|%\(.*|%[a-z_]+%.*|\{[^}]*\}.*|\{\{.*|<.*|\[.*|`.*|&.*"
    r"|@\w.*|!\w.*|#\{.*|.*\{\{.*|.*<[a-z_ -]+>.*|\\.*"
    r"|[a-z_][\w.:>-]*[(\[{].*"
    r"|(?:process|os|env|environ|config|settings|self|this|args|argv|opts|options|request|req|ctx"
    r"|params|props|secrets|vars?|local|data|inputs|github|steps|app|user|state|module|import"
    r"|std|crypto|context|event|body|payload|response|result|form|cfg|conf)[.?:!].*"
    r"|(?:env|file|arn|vault|op|ssm|secretsmanager|ref|enc|aws|gcp|sops|keyring|keychain|pass)"
    r"(?:[:+]|\[).*"
    r"|(?-i:(?:~|\.{1,2})?/(?:[a-z.][a-z0-9_./-]*)?)|[a-z]:\\.*|[a-z][a-z0-9+.-]*://[^@\s]*"
)
_PLACEHOLDER = (
    r"[x*.•?#=+~^0_-]*|.*(?:\*{3}|x{5}|\.{3}|•|\xe2\x80\xa6|\xe2\x80\xa2).*|your.*|my[-_. ].*"
    r"|(?:.*[-_. ])?here|" + _STANDING_IN + r"(?:[-_. !:].*)?|.*[-_. ]" + _STANDING_IN
    + r"|(?:(?:test|testing|fake|mock|demo|dev|sample|invalid|wrong|bad|old|new|some|any|super|my"
    r"|the|a|user|root|admin|db|database)[-_. ]?)?" + _NOUN + r"[0-9]?"
    r"|none|null|nil|undefined|true|false|empty|unset|required|optional|default|unknown|foo|bar"
    r"|baz|foobar|n/?a|test|testing|fake|mock|user|username|bearer|basic|auth|authentication"
    r"|bool(?:ean)?|int(?:eger)?|bytes|object|number|any|str|optional\W.*|secretstr|prompt|stdin"
    r"|abc(?:123|def|xyz)?|abcdef[0-9]*|12345(?:6(?:7(?:8(?:90?)?)?)?)?"
)  # fmt: skip

NOTHING = f"(?i:{_REFERENCE}|{_PLACEHOLDER})"
# No digit, nothing but letters and what stands between words.
WORDS = r"[A-Za-z_.:/, -]*[!?)\]}]*"
NUMBERS = r"[0-9.,:_-]*(?:[a-z]{1,2})?"
# What a key of a configuration is called: `s3.secret_key`.
KEYS = r"[a-z_][0-9a-z_]*\.[a-z_.]*"
# What a variable or a member is called, with digits: `config.token2`, `token_v2`, `key1`.
NAMES = (
    r"[A-Za-z_][0-9A-Za-z_]*(?:\.[A-Za-z_].*)|[a-z]*_[0-9a-z_]*|[A-Z]*_[0-9A-Z_]*"
    r"|(?i:" + _NOUN + r"|val|str|res|resp|response|result|data|arg|param|var|v|x|y)[0-9]{0,2}"
)
