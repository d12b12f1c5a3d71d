"""Every key of the configuration: its type, bounds, default and explanation.

The reference of all keys is generated from here. Knows what a key means, not where its value comes
from (`layers`) nor whether several values make sense together (`config`).
A field without a default has one that depends on the machine.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from transcriptd.config.agents import SourcesSettings
from transcriptd.config.kinds import Redaction, Seconds
from transcriptd.config.kinds import derived as _derived

MIB = 1 << 20
_SECRETS = frozenset({"access_key", "secret_key", "session_token"})

Size = Annotated[
    int, Meta(ge=1, extra={"expected": "a size > 0 such as 1048576 or '64MiB'", "size": True})
]
SizeOrZero = Annotated[
    int, Meta(ge=0, extra={"expected": "a size such as 1048576 or '4MiB', or 0", "size": True})
]
SecretText = Annotated[str, Meta(extra={"secret": True})]


class S3Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The archive in S3. The secrets show neither in `repr` nor where rich prints it."""

    endpoint: Annotated[
        str,
        Meta(description="The server, `http://` or `https://`. Empty: AWS itself."),
        Meta(examples=["https://minio.example:9000"]),
    ] = ""
    bucket: Annotated[
        str,
        Meta(description="The bucket. Naming one makes S3 the archive; it is never created."),
        Meta(examples=["transcripts"]),
    ] = ""
    region: Annotated[
        str,
        Meta(description="The region requests are signed for."),
        Meta(examples=["eu-central-1"]),
        _derived("us-east-1 with an endpoint, else AWS_REGION or what the profile says"),
    ]
    access_key: Annotated[
        SecretText,
        Meta(
            description="A static key id. Empty: the AWS credential chain (environment, profile, "
            "SSO, web identity, container, instance metadata)."
        ),
        Meta(examples=["AKIAIOSFODNN7EXAMPLE"]),
    ] = ""
    secret_key: Annotated[
        SecretText,
        Meta(
            description="The secret of `access_key`. Better in TRANSCRIPTD_S3__SECRET_KEY_FILE or "
            "in a systemd credential named `s3.secret_key` than here."
        ),
        Meta(examples=["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"]),
    ] = ""
    session_token: Annotated[
        SecretText,
        Meta(description="The session token, where the keys are temporary ones."),
        Meta(examples=["FwoGZXIvYXdzEXAMPLE"]),
    ] = ""
    profile: Annotated[
        str,
        Meta(description="The profile of the AWS configuration, where no static keys are given."),
        Meta(examples=["backup"]),
    ] = ""
    path_style: Annotated[
        bool,
        Meta(description="Whether the bucket stands in the path instead of the host name."),
        Meta(examples=[True]),
        _derived("true with an endpoint, else false"),
    ]
    ca_bundle: Annotated[
        str,
        Meta(description="A PEM file with the certificates to trust instead of the usual ones."),
        Meta(examples=["/etc/ssl/certs/ca-certificates.crt"]),
        Meta(extra={"path": True}),
    ] = ""
    sse: Annotated[
        Literal["", "AES256", "aws:kms"],
        Meta(description="Encryption by the server: `AES256` (SSE-S3) or `aws:kms` (SSE-KMS)."),
        Meta(examples=["aws:kms"]),
    ] = ""
    sse_kms_key_id: Annotated[
        str,
        Meta(description="The KMS key for `aws:kms`. Empty: the account's own."),
        Meta(examples=["alias/transcripts"]),
    ] = ""
    storage_class: Annotated[
        str,
        Meta(description="The storage class; one that can be read back at once."),
        Meta(examples=["STANDARD_IA"]),
    ] = ""

    @property
    def credentials(self) -> "S3Credentials | None":
        """The static keys; `None` means the AWS credential chain."""
        if not self.access_key:
            return None
        return S3Credentials(self.access_key, self.secret_key, self.session_token or None)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"S3Settings({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        said = {name: getattr(self, name) for name in self.__struct_fields__}
        return [(name, "***" if said[name] and name in _SECRETS else said[name]) for name in said]


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Static keys. They do not show in `repr`."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class LocalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The archive in a local directory, used where no bucket is named."""

    path: Annotated[
        Path,
        Meta(
            description="The directory. Naming one makes it the archive, unless s3.bucket is "
            "named as near to the command line or nearer."
        ),
        Meta(examples=["/srv/transcripts"]),
        _derived("$XDG_DATA_HOME/transcriptd/archive"),
    ]


class DebounceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a change is archived."""

    quiet: Annotated[
        Seconds, Meta(description="Seconds without a further change before a session is archived.")
    ] = 0.5
    max_wait: Annotated[
        Seconds,
        Meta(description="Seconds after which a session is archived even if it keeps changing."),
    ] = 5.0


class SealSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When an object takes in what was appended to it."""

    max_lag: Annotated[
        float,
        Meta(gt=0, extra={"expected": "a number of seconds > 0"}),
        Meta(
            description="Seconds that a reader who knows only `history.jsonl` may be behind. What "
            "is new is archived at once beside it; this is when it is folded in at the latest."
        ),
    ] = 1800.0


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How changes are noticed."""

    rescan: Annotated[
        float,
        Meta(ge=0.05, extra={"expected": "a number of seconds >= 0.05"}),
        Meta(
            description="Seconds between two looks at every session, in case an event was lost. "
            "Longer by itself where a look is expensive."
        ),
    ] = 30.0
    force_polling: Annotated[
        bool,
        Meta(description="Poll, for file systems that send no events (network, some overlays)."),
    ] = False


class ScrubSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How mirrors are read again, to find what no cheap look shows."""

    rate: Annotated[
        SizeOrZero,
        Meta(
            description="Bytes a second at which mirrored files are read again in the background. "
            "It finds rewrites that change neither the size nor the bytes near the end. `0`: not."
        ),
    ] = 4 * MIB
    after: Annotated[
        Seconds, Meta(description="Seconds without a change before a file is read again.")
    ] = 600.0


class HealthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the outside asks what is going on."""

    socket: Annotated[
        Path,
        Meta(description="The Unix socket; its path may have 107 bytes."),
        Meta(examples=["/run/user/1000/transcriptd/transcriptd.sock"]),
        _derived(
            "$XDG_RUNTIME_DIR/transcriptd/transcriptd.sock, else run/transcriptd.sock in state_dir"
        ),
    ]
    listen: Annotated[
        str,
        Meta(description="HOST:PORT to answer the read-only questions on as well. Empty: nowhere."),
        Meta(examples=["127.0.0.1:9464"]),
    ] = ""
    max_age: Annotated[
        float,
        Meta(gt=0, extra={"expected": "a number of seconds > 0"}),
        Meta(
            description="Seconds a change may stay unarchived before `health --strict` fails.",
        ),
    ] = 300.0


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is logged, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="The least level logged.")
    ] = "info"
    format: Annotated[
        Literal["auto", "json", "console"],
        Meta(description="`auto` is console on a terminal and JSON lines everywhere else."),
    ] = "auto"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every key, with its final value."""

    machine: Annotated[
        str,
        Meta(
            description="The stable name of this machine in the archive. A pod sets it, because "
            "its host name changes."
        ),
        Meta(examples=["laptop"]),
        _derived("the host name"),
    ]
    state_dir: Annotated[
        Path,
        Meta(description="Where the journal lies. One daemon per directory."),
        Meta(examples=["/var/lib/transcriptd"]),
        _derived("$XDG_STATE_HOME/transcriptd, else ~/.local/state/transcriptd"),
    ]
    prefix: Annotated[
        str, Meta(description="What every key in the archive begins with; ends in `/`.")
    ] = "history/"
    workers: Annotated[
        int,
        Meta(ge=1, le=256, extra={"expected": "a whole number from 1 to 256"}),
        Meta(description="How many sessions are archived at once."),
    ] = 8
    memory_budget: Annotated[
        Size, Meta(description="How many bytes of sessions may be in work at once.")
    ] = 64 * MIB
    max_document: Annotated[
        Size, Meta(description="A larger session is quarantined as too large.")
    ] = 256 * MIB
    drain: Annotated[
        Seconds, Meta(description="Seconds a stop may take to archive what is left.")
    ] = 30.0
    redaction: Annotated[
        Redaction,
        Meta(
            description="What is done about secrets in sessions: `report` archives them as they "
            "are and counts what it finds, `mask` makes them unreadable in the archive, `off` does "
            "not look."
        ),
    ] = "report"
    s3: S3Settings
    local: LocalSettings
    debounce: DebounceSettings
    seal: SealSettings
    watch: WatchSettings
    sources: SourcesSettings
    scrub: ScrubSettings
    health: HealthSettings
    log: LogSettings
