"""The one S3 client: how it is configured, where its credentials come from, how it signs.

It knows the SDK and nothing of objects. It is made at first use, serves every request, and is made
again after `close`. Retries are switched off: the layer that retries is not here.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError
from botocore.handlers import add_expect_header

from transcriptd.logs import get_logger
from transcriptd.stores.s3_model import NeededFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from types_aiobotocore_s3 import S3Client

    from transcriptd.config.settings import S3Credentials, S3Settings
    from transcriptd.stores.s3_hashes import Hashes

log = get_logger("transcriptd.stores.s3")

SLOTS = 16
CONNECT_S = 5.0
# The deadline of each request is the real bound; this one only ends what would escape it.
READ_S = 3600.0
CREATE_S = 30.0
LEAST_SKEW = timedelta(seconds=30)
DEFAULT_REGION = "us-east-1"

_SIGNER = "transcriptd-s3v4"
_OFFSET = "transcriptd.clock_offset"

_payload_sha256: ContextVar[str] = ContextVar("payload_sha256", default="")


@contextmanager
def body_known(hashes: Hashes) -> Iterator[None]:
    """Sign the request sent in here with the hash of its body that is known already."""
    token = _payload_sha256.set(hashes.sha256)
    try:
        yield
    finally:
        _payload_sha256.reset(token)


class Client:
    """Makes the client when it is needed, and keeps what belongs to it.

    `offset` is how far the server's time is ahead of this machine's, as far as it is known.
    """

    def __init__(
        self, settings: S3Settings, find_credentials: Callable[[], S3Credentials | None] | None
    ) -> None:
        self._settings = settings
        find = find_credentials or (lambda: settings.credentials)
        self._credentials = _Renewable(settings.profile, find)
        self.offset = timedelta()
        self._client: S3Client | None = None
        self._stack = AsyncExitStack()
        self._making = asyncio.Lock()

    @property
    def is_aws(self) -> bool:
        return is_aws(self._settings.endpoint)

    @property
    def signs_bodies(self) -> bool:
        """Whether requests carry the SHA-256 of their body: without TLS nothing else holds."""
        return self._settings.endpoint.lower().startswith("http://")

    def body_proof(self, hashes: Hashes) -> dict[str, Any]:
        """Return what goes along with a body so that the server refuses another one.

        To AWS the SDK sends a stronger checksum by itself.
        """
        return {} if self.is_aws else {"ContentMD5": _base64(hashes.md5)}

    async def get(self) -> S3Client:
        """Return the client; may take up to `CREATE_S` the first time."""
        async with self._making:
            if self._client is None:
                async with asyncio.timeout(CREATE_S):
                    self._client = await self._make()
            return self._client

    def renew_credentials(self) -> None:
        """Resolve the credentials anew before the next request is signed."""
        self._credentials.stale = True

    def correct_clock(self, server_date: str) -> None:
        """Sign with the server's time from now on, where it says one."""
        try:
            offset = parsedate_to_datetime(server_date) - datetime.now(UTC)
        except (TypeError, ValueError):
            return
        if abs(offset - self.offset) < LEAST_SKEW:
            return
        self.offset = offset
        log.warning("clock.corrected", offset_s=round(offset.total_seconds()))

    async def close(self) -> None:
        """Let the connections go."""
        async with self._making:
            self._client = None
            await self._stack.aclose()
        self._making = asyncio.Lock()  # a lock that was waited for stays with its event loop

    async def _make(self) -> S3Client:
        settings = self._settings
        session = AioSession(profile=settings.profile or None)
        session.register_component("credential_provider", _Provider(self._credentials))
        session.get_component("data_loader").file_loader = NeededFiles()
        checksums = "when_supported" if self.is_aws else "when_required"
        config = AioConfig(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=2 * SLOTS,
            # What is known of one endpoint must not be taken for another's: only ours counts.
            ignore_configured_endpoint_urls=True,
            retries={"total_max_attempts": 1},
            # Else the SDK puts its own together anew for each request.
            user_agent="transcriptd",
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
            s3={"addressing_style": "path" if settings.path_style else "auto"},
        )
        client: S3Client = await self._stack.enter_async_context(
            session.create_client(
                "s3",
                endpoint_url=settings.endpoint or None,
                region_name=settings.region or (None if self.is_aws else DEFAULT_REGION),
                verify=settings.ca_bundle or None,
                config=config,
            )
        )
        events = client.meta.events
        # The SDK would wait for the server's "100 Continue" without a timer.
        events.unregister("before-call.s3", add_expect_header)
        events.register_first("choose-signer.s3", _choose_signer)
        events.register("before-sign.s3", self._before_sign)
        if not self.is_aws:
            events.register_last("before-call.s3.DeleteObjects", _add_content_md5)
        return client

    def _before_sign(self, request: Any, **_: object) -> None:  # noqa: ANN401 - the SDK is untyped
        request.context[_OFFSET] = self.offset


def is_aws(endpoint: str) -> bool:
    """Whether this is Amazon's own service, by the name of the host."""
    host = urlsplit(endpoint).hostname if endpoint else "amazonaws.com"
    return f".{host}".endswith((".amazonaws.com", ".amazonaws.com.cn"))


def shown_endpoint(endpoint: str) -> str:
    """Return the endpoint for people, without a password that may stand in it."""
    if not endpoint:
        return "AWS"
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _add_content_md5(params: dict[str, Any], **_: object) -> None:
    """Add what S3 asked for until there were other checksums, and many servers still do."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = _base64(digest)


def _choose_signer(signature_version: object, **_: object) -> str | None:
    return _SIGNER if signature_version in {"v4", "s3v4"} else None


class _Signer(S3SigV4Auth):  # type: ignore[misc]  # the SDK is untyped
    """Signature version 4, with the clock corrected and the body's digest taken as given."""

    def _modify_request_before_signing(self, request: Any) -> None:  # noqa: ANN401 - the SDK is untyped
        if offset := request.context.get(_OFFSET):
            now = datetime.now(UTC) + offset
            request.context["timestamp"] = now.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)

    def payload(self, request: Any) -> str:  # noqa: ANN401 - the SDK is untyped
        known = _payload_sha256.get()
        if known and self._should_sha256_sign_payload(request):
            return known
        return str(super().payload(request))


AUTH_TYPE_MAPS[_SIGNER] = _Signer


class _Renewable(AioCredentials):  # type: ignore[misc]  # the SDK is untyped
    """Credentials that are looked up when they are first needed, and again once marked stale.

    The SDK asks them before it signs a request, so no client has to be made again.
    """

    def __init__(self, profile: str, find: Callable[[], S3Credentials | None]) -> None:
        super().__init__(access_key="", secret_key="", method="transcriptd")
        self.stale = True
        self._profile = profile
        self._find = find
        self._finding = asyncio.Lock()
        self._found: Any = None

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        if self.stale:
            async with self._finding:
                if self.stale:
                    self._found = await self._look_up()
                    self.stale = False
        if isinstance(self._found, ReadOnlyCredentials):
            return self._found
        return await self._found.get_frozen_credentials()

    async def _look_up(self) -> Any:  # noqa: ANN401 - the SDK is untyped
        try:
            found = await asyncio.to_thread(self._find)
        except OSError as error:
            raise CredentialRetrievalError(
                provider=self.method, error_msg=type(error).__name__
            ) from None
        if found:
            return ReadOnlyCredentials(found.access_key, found.secret_key, found.session_token)
        # A new session reads files and variables again; its chain refreshes what expires.
        chain = await AioSession(profile=self._profile or None).get_credentials()
        if chain is None:
            raise NoCredentialsError
        return chain


@dataclass(frozen=True, slots=True)
class _Provider:
    """Gives the session our credentials in place of its own chain."""

    credentials: _Renewable

    async def load_credentials(self) -> _Renewable:
        return self.credentials
