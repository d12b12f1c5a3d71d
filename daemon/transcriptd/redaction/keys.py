"""Private keys, signed tokens, and secrets where they are handed over: URLs, headers, commands."""

from __future__ import annotations

from transcriptd.redaction.placeholders import NOTHING, WORDS
from transcriptd.redaction.rule import Rule
from transcriptd.redaction.shapes import START, hexadecimal, mixed

_BODY = mixed(64) + "\n" + mixed(64) + "\n" + mixed(20) + "==\n"

KEYS: tuple[Rule, ...] = (
    Rule(
        "private-key",
        # The whole block up to its end, or else as much as is base 64 behind at most two headers.
        r"(-----BEGIN [0-9A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[0-9A-Za-z+/=_:;,.@()<> \t\r\n\\*-]{24,}?-----END [0-9A-Z ]*PRIVATE KEY"
        r"(?: BLOCK)?-----"
        r"|\s*(?:[A-Za-z-]+: [^\n]*\n)?(?:[A-Za-z-]+: [^\n]*\n)?[0-9A-Za-z+/=\r\n\\]{24,}))",
        true=(
            "-----BEGIN " + "RSA PRIVATE KEY-----\n" + _BODY + "-----END RSA PRIVATE KEY-----",
            "-----BEGIN " + "PRIVATE KEY-----\n" + _BODY + "-----END PRIVATE KEY-----\n",
            "-----BEGIN " + "OPENSSH PRIVATE KEY-----\n" + _BODY
            + "-----END OPENSSH PRIVATE KEY-----",
            "-----BEGIN " + "ENCRYPTED PRIVATE KEY-----\r\n" + _BODY.replace("\n", "\r\n")
            + "-----END ENCRYPTED PRIVATE KEY-----",
            "-----BEGIN " + "PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n" + _BODY
            + "-----END PGP PRIVATE KEY BLOCK-----",
            "-----BEGIN " + "EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
            "DEK-Info: AES-128-CBC,00\n\n" + _BODY,
        ),
        false=(
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN PUBLIC KEY-----\n" + _BODY + "-----END PUBLIC KEY-----",
            "-----BEGIN CERTIFICATE-----\n" + _BODY + "-----END CERTIFICATE-----",
            "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        ),
        unless=r"-----BEGIN [^-]*-----\s*[.*x<>\s]*(?:-----END [^-]*-----)?",
    ),
    Rule(
        "age-key",
        r"(AGE-(?:SECRET-KEY|PLUGIN-[0-9A-Z]{1,20})-1[02-9AC-HJ-NP-Z]{58,})",
        true=("AGE-SECRET-" + "KEY-1" + ("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2)[:58],),
        false=("AGE-SECRET-KEY-1", "age1" + "q" * 58),
    ),
    Rule(
        "putty-key",
        r"Private-Lines: [0-9]{1,3}\s{1,3}([0-9A-Za-z+/=\r\n]{40,})",
        true=("Private-Lines: 2\n" + mixed(64) + "\n" + mixed(40) + "\n",),
        false=("Private-Lines: 14",),
    ),
    Rule(
        "json-web-token",
        START + r"(eyJ[0-9A-Za-z_-]{10,}={0,2}\.eyJ[0-9A-Za-z_-]{8,}={0,2}\.[0-9A-Za-z_-]*)",
        true=("eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + mixed(43),
              "eyJhbGciOiJub25lIn0." + "eyJzdWIiOiIxMjM0In0."),
        false=("eyJhbGciOiJIUzI1NiJ9", "eyJ.eyJ."),
    ),
    Rule(
        "encrypted-token",
        START + r"(eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]*\.[0-9A-Za-z_-]{8,}"
        r"\.[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{16,})",
        true=("eyJhbGciOiJSU0EifQ." + mixed(80) + "." + mixed(16) + "." + mixed(90)
              + "." + mixed(22),
              "eyJhbGciOiJkaXIifQ.." + mixed(16) + "." + mixed(60) + "." + mixed(22)),
        false=("eyJhbGciOiJSU0EifQ.x.y.z",),
    ),
    Rule(
        "url-password",
        r"://[^\s\"'`<>/@:\\?#]*:([^\s\"'`<>/@\\]{3,})@[0-9A-Za-z\[$%{]",
        true=("postgres://app:" + "hunter2hunter2" + "@db.internal:5432/app",
              "https://ada:" + mixed(20) + "@example.com/repository.git",
              "redis://:" + mixed(16) + "@cache:6379/0",
              "mongodb+srv://app:" + "p%40ss:w0rd" + "@cluster0.example.net"),
        false=("postgres://user:password@localhost", "https://example.com:8080/@scope/name",
               "postgres://$USER:$PASSWORD@host", "https://<user>:<token>@example.com",
               "https://example.com/a:b@c", "postgres://{user}:{password}@{host}",
               "mysql://user:***@host", "redis://user:%s@host", "ssh://git@example.com:22/a"),
        unless=NOTHING,
    ),
    Rule(
        "authorization",
        r"(?i:authorization)[\"'`]?\]?\s{0,3}(?:[:=,]|=>)\s{0,3}[a-z]?[\"'`]?"
        r"(?i:bearer|basic|token|apikey|api-key|bot|digest|splunk|ssws|negotiate|aws4-hmac-sha256"
        r"|sharedkey|glpat|key)[ =]{1,3}([0-9A-Za-z_.~+/=:|-]{8,})",
        true=("Authorization: Bearer " + mixed(30), "authorization: Basic " + mixed(20) + "==",
              '"Authorization": "token ' + mixed(20), "-H 'Authorization: Bot " + mixed(40)),
        false=("Authorization: Bearer $TOKEN", "Authorization: Bearer <token>",
               "Authorization: Bearer your-token-here", "Authorization: Basic auth",
               "authorization: bearer authentication"),
        unless=NOTHING + "|" + WORDS,
    ),
    Rule(
        "bearer-token",
        START + r"[Bb]earer[ ]{1,2}([0-9A-Za-z_.~+/=|-]{20,})",
        true=("Bearer " + mixed(30), "'bearer " + mixed(24) + "'"),
        false=("Bearer authentication", "Bearer token-authentication-scheme", "Bearer eyJ..."),
        unless=NOTHING + "|" + WORDS,
    ),
    Rule(
        "key-header",
        START + r"(?i:(?:x-[a-z-]*(?:api-?key|token|secret|password|auth-key)|api-key|apikey"
        r"|private-token|job-token|deploy-token|ocp-apim-subscription-key|dd-application-key"
        r"|circle-token|fastly-key))[\"'`]?\s{0,3}:\s{0,3}[\"'`]?"
        r"([0-9A-Za-z_.~+/=:|-]{12,})",
        true=("X-Api-Key: " + mixed(24), "PRIVATE-TOKEN: " + mixed(20),
              '"x-vault-token": "' + mixed(24), "X-Auth-Token: " + hexadecimal(32)),
        false=("X-Api-Key: your-api-key", "x-api-key: ${API_KEY}", "X-Request-Id: " + mixed(20),
               "x-csrf-token: header-name-only", "x-api-key: process.env.KEY1"),
        unless=NOTHING + "|" + WORDS + r"|[0-9]*|[a-z_]+\.[A-Za-z_0-9.]+",
    ),
    Rule(
        "curl-password",
        START + r"curl\b[^\n|;]*?\s(?:-u|--user|--proxy-user)[ =]?[\"']?[^\s\"':$]+:"
        r"([^\s\"'@]{4,})",
        true=("curl -s -u ada:" + "hunter2hunter2" + " https://example.com",
              "curl https://example.com --user 'ada:" + mixed(16) + "'"),
        false=("curl -u user:password https://example.com", "curl -u $USER:$PASS https://e.com",
               "curl -u ada https://example.com:8080"),
        unless=NOTHING,
    ),
    Rule(
        "netrc-password",
        START + r"machine\s+\S+\s+login\s+\S+\s+password\s+([^\s\"']{4,})",
        true=("machine example.com login ada password " + "hunter2hunter2",),
        false=("machine example.com login ada password <password>",),
        unless=NOTHING,
    ),
    Rule(
        "docker-auth",
        r"\"(?:auth|identitytoken)\"\s{0,3}:\s{0,3}\"([0-9A-Za-z+/]{12,}={0,2})\"",
        true=('{"auths": {"https://index.docker.io/v1/": {"auth": "' + mixed(32) + '"}}}',
              '"identitytoken": "' + mixed(40) + '"'),
        false=('{"auths": {"ghcr.io": {}}}', '"auth": "authentication"', '"auth": "required"'),
        unless=NOTHING + "|" + WORDS,
    ),
    Rule(
        "json-web-key",
        r"\"(?:d|p|q|dp|dq|qi)\"\s*:\s*\"([0-9A-Za-z_-]{43,})\"",
        true=('"d":"' + mixed(43) + '"', '"dp": "' + mixed(171) + '"'),
        false=('"d":"' + mixed(20) + '"', '"x":"' + mixed(43) + '"'),
    ),
)  # fmt: skip
