"""Secrets by the name of what they are assigned to: in environments, settings, code and JSON.

A name in capitals, as in an environment, may have anything around its word; others are of a strict
list. What is assigned must not look like a word, a number, a name or a placeholder.
"""

from __future__ import annotations

from transcriptd.redaction.placeholders import KEYS, NAMES, NOTHING, NUMBERS, WORDS
from transcriptd.redaction.rule import Rule
from transcriptd.redaction.shapes import hexadecimal, mixed

_CAPITALS = (
    r"(?:SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|_PASS|_PWD|API_?KEY|APP_?KEY|AUTH_?KEY"
    r"|(?:ACCESS|PRIVATE|SECRET|SIGNING|ENCRYPTION|MASTER|ACCOUNT|STORAGE|LICENSE)_?KEY"
    r"|CREDENTIALS?)(?:_[0-9A-Z_]*)?"
)
_STRICT = (
    r"(?i:pass(?:word|wd|phrase|code)|(?:db|smtp|user|root|admin|mysql|postgres|redis)_?pass"
    r"|(?:client|app|consumer|webhook|shared|signing|api|oauth|jwt|token|session|cookie)[_-]?secret"
    r"|(?:api|app|secret|auth|master|signing|encryption|account|storage|subscription|license)[_-]?key"
    r"|(?:aws[_-]?)?secret[_-]?access[_-]?key|private[_-]?key"
    r"|(?:access|refresh|auth|bot|bearer|session|id|api|oauth|deploy|personal|security)[_-]?token)"
)
_NAME = f"(?:{_CAPITALS}|{_STRICT})"
# Behind the name: its own quote, a bracket, a type; then the sign, and what may precede a string.
_SIGN = (
    r"[\"'`]?\]?\s{0,3}(?::\s{0,2}[A-Za-z]{2,12}\s{0,2})?(?:=>|:=|={1,3}|!==?|:)\s{0,3}[bruf]{0,2}"
)
_QUOTED = NOTHING + "|" + WORDS + "|" + NUMBERS + "|" + KEYS
_BARE = _QUOTED + "|" + NAMES
_SECRET = "hunter2" + "hunter2"

ASSIGNMENTS: tuple[Rule, ...] = (
    Rule(
        "aws-secret-key",
        r"(?i:secret[_-]?(?:access[_-]?)?key)[\"'`]?\]?\s{0,3}(?:=>|:=|[:=])\s{0,3}[\"'`]?"
        r"([0-9A-Za-z+/]{40})\b",
        true=("aws_secret_access_key = " + mixed(40), "AWS_SECRET_ACCESS_KEY=" + mixed(40),
              '"SecretAccessKey": "' + mixed(40) + '"', "secretKey: '" + mixed(40) + "'",
              "AWS_SECRET_ACCESS_KEY=" + "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"),
        false=("secret_key = " + "configuration", "secret_access_key: ${AWS_SECRET}"),
        unless=r"[a-z_/]*|[A-Z_/]*|[0-9a-f]*",
    ),
    Rule(
        "secret-in-environment",
        # No space around the sign, as shells and .env files want it: what follows is no code.
        _CAPITALS + r"=[\"']?([^\s\"'`\\;&|<>]{6,})",
        true=("export DB_PASSWORD=" + _SECRET, "GITHUB_TOKEN=" + mixed(24), "X_API_KEY=" + mixed(9),
              "-e MYSQL_ROOT_PASSWORD=" + "swordfish" + " mysql",
              "STRIPE_SECRET='" + mixed(20) + "'",
              "ENV JWT_SECRET_KEY=" + "c0rrect-horse!battery"),
        false=("DB_PASSWORD=$PASSWORD", "TOKEN=${{ secrets.TOKEN }}", "API_KEY=your-api-key",
               "PASSWORD=<password>", "SECRET_NAME=my-app-secret", "MAX_TOKENS=4096",
               "TOKEN_FILE=/run/secrets/token", "API_KEY=os.environ['API_KEY']", "TOKEN=token",
               "SECRET=changeme", "SECRET_KEY=xxxxxxxxxxxx", "TOKEN_TTL=86400", "PASSWORD=***",
               "TOKEN_URL=https://example.com/token", "TOKEN=$(cat token)", "API_KEY=API_KEY"),
        unless=NOTHING + r"|[A-Z_]*|[a-zA-Z]+(?:[_.:/, -][a-zA-Z_.:/, -]*)|[a-z]+[A-Z][A-Za-z]*"
        + "|" + NUMBERS + r"|[A-Za-z_][0-9A-Za-z_]*\.[A-Za-z_].*",
    ),
    Rule(
        "secret-in-double-quotes",
        _NAME + _SIGN + r'"((?:[^"\\\s]|\\.){6,})',
        true=('password = "' + _SECRET + '"', '{"password":"' + _SECRET + '"}',
              '"client_secret": "' + mixed(32) + '"', 'const apiKey: string = "' + mixed(24) + '";',
              '{"AWS_SESSION_TOKEN":"' + mixed(60) + '"}', 'refresh_token => "' + mixed(40) + '"',
              'settings["db_password"] = "' + "p@ss-w0rd!" + '"', 'API_TOKEN: "' + mixed(20) + '"'),
        false=('password = "password"', '"password": "string"', '"access_token": "your-token"',
               'token = "', 'type: "password", placeholder: "secret1"', '"max_tokens": "4096"',
               'password: "Enter your password"', '"api_key": "${API_KEY}"', '"password": ""',
               '"private_key": "/etc/ssl/private/key.pem"', '"access_token": "access_token"',
               'api_key = "sk-..."', '"password": "********"', 'TOKEN_KIND = "bearer_token"'),
        unless=_QUOTED,
    ),
    Rule(
        "secret-in-single-quotes",
        _NAME + _SIGN + r"'((?:[^'\\\s]|\\.){6,})",
        true=("password = '" + _SECRET + "'", "'api_key': '" + mixed(32) + "'",
              "ENV['SECRET_KEY_BASE'] = '" + hexadecimal(64) + "'"),
        false=("password = 'password'", "'password': 'required'", "api_key='<your key>'",
               "passwd = os.environ['PASSWORD1']", "token = 'abc123'"),
        unless=_QUOTED,
    ),
    Rule(
        "secret-in-setting",
        _NAME + r"[\"'`]?(?:\s{0,3}=\s{0,3}|:[ \t]{1,4}|[ \t]{1,4}:=[ \t]{0,4})"
        r"([^\s\"'`\\,;&|<>]{6,})",
        true=("password: " + _SECRET, "  db_password: " + "S3cr3t!pass", "password=" + _SECRET,
              "?access_token=" + mixed(40) + "&x=1", "client_secret = " + mixed(32),
              "API_KEY: " + mixed(32), "secret_key=" + hexadecimal(40)),
        false=("password: str", "password: Optional[str] = None", "password = get_password()",
               "api_key = config.api_key", "access_token: string;", "password=password",
               "password = token2", "api_key=self._api_key", "password: $PASSWORD",
               "password: {{ vault_password }}", "access_token = response['access_token']",
               "password = pass_v2", "private_key: /etc/ssl/key1.pem", "API_KEY = API_KEY_2",
               "password: required", "auth_token: 12345678", "client_secret: <secret1>",
               "passwords: hunter2hunter2", "password = input(prompt1)"),
        unless=_BARE,
    ),
    Rule(
        "secret-option",
        r"\s--?(?:[a-z]+-)?(?:password|passwd|pass|token|api-?key|secret|secret-key|client-secret"
        r"|access-token|auth-token|access-key)(?:=|[ \t]{1,3})[\"']?([^\s\"'`\\;&|<>]{6,})",
        true=("tool --password " + _SECRET, "tool --token=" + mixed(24) + " run",
              "docker login -u ada --password '" + mixed(20) + "'", "gh --auth-token " + mixed(30)),
        false=("docker login --password-stdin", "tool --token $TOKEN", "tool --token <token>",
               "tool --password password", "tool --secret id=npmrc", "tool --token TOKEN --x",
               "tool --secret id=npmrc1,src=.npmrc", "tool --api-key your-key1"),
        unless=_BARE + r"|[a-z]+=.*|--?[a-z].*",
    ),
    Rule(
        "secret-in-element",
        r"(?i:password|passwd|passphrase|secret|api_?key|token)>\s{0,3}"
        r"([^<>\s]{6,})\s{0,3}</",
        true=("<password>" + _SECRET + "</password>", "<clientSecret>" + mixed(20) + "</"),
        false=("<password>${env.PASSWORD}</password>", "<token>string</token>"),
        unless=_QUOTED,
    ),
    Rule(
        "secret-in-manifest",
        r"name[\"']?:\s{0,3}[\"']?[0-9A-Z_]*" + _CAPITALS
        + r"[\"']?,?\s{1,20}[\"']?value[\"']?:\s{0,3}[\"']?([^\s\"'`\\,;&|<>]{6,})",
        true=("- name: DB_PASSWORD\n  value: " + _SECRET,
              'env {"name": "API_TOKEN", "value": "' + mixed(20) + '"}'),
        false=("- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:", "- name: TOKEN\n  value: 1"),
        unless=_BARE,
    ),
)  # fmt: skip
