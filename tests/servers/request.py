"""One signed S3 request with nothing but botocore's signer: to poll and to make buckets."""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from tests.servers.server import Server

NO_ANSWER = (OSError, http.client.HTTPException)
"""What `send` raises while nobody answers yet."""


def send(server: Server, method: str, path: str = "/", body: bytes = b"") -> tuple[int, bytes]:
    """Send one signed request; return the status and the body. Raises `NO_ANSWER`."""
    request = AWSRequest(method, server.endpoint + path, data=body)
    credentials = Credentials(server.access_key, server.secret_key)
    S3SigV4Auth(credentials, "s3", server.region).add_auth(request)
    with closing(_connection(server)) as connection:
        connection.request(method, path, body=body, headers=dict(request.headers.items()))
        response = connection.getresponse()
        return response.status, response.read()


def answers(server: Server) -> bool:
    """Say whether the server lists its buckets, which is when it is ready."""
    try:
        status, _ = send(server, "GET")
    except NO_ANSWER:
        return False
    return status == http.client.OK


def _connection(server: Server) -> http.client.HTTPConnection:
    address = urlsplit(server.endpoint)
    host = address.hostname or ""
    if not server.over_tls:
        return http.client.HTTPConnection(host, address.port, timeout=10)
    context = ssl.create_default_context(cafile=server.ca_bundle)
    return http.client.HTTPSConnection(host, address.port, timeout=10, context=context)
