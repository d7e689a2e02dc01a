"""HTTP to push networks: many requests over few connections, on libcurl in the event loop.

Owns the handles, the bounds of a request (time, connections, size of the answer) and what a failure
of the way means: was the request sent, or surely not? Knows no network and no token. The one idea:
libcurl does HTTP/1.1 and HTTP/2, reuse of connections, GOAWAY and refused streams; a request here
is one handle of a pool, with nothing but its URL, headers and body set anew.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, NamedTuple

import certifi
import pycurl

from mqttpush.config import NetworkSettings
from mqttpush.errors import NetworkUnavailable

# Failures before a byte of the request went out, whatever libcurl counted.
_BEFORE_SENDING: Final = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_SSL_CERTPROBLEM,
        pycurl.E_PEER_FAILED_VERIFICATION,
        pycurl.E_SSL_CACERT_BADFILE,
    }
)
_CERTIFICATE_PROBLEMS: Final = frozenset({pycurl.E_SSL_CERTPROBLEM})
_HASHED_NAME: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")
# libcurl alone stops at 6 MB of 1xx; in lines of 4 bytes, as Python keeps them, that is 70 MB.
_MAX_HEAD_BYTES: Final = 65_536
# Idle handles kept; one is 6 KiB, so 256 of them are 1.5 MiB.
_IDLE_HANDLES: Final = 256


class WayFailed(NetworkUnavailable):
    """No whole answer came. was_sent: the network may have got the request all the same."""

    def __init__(self, problem: str, *, was_sent: bool, is_timeout: bool = False) -> None:
        self.was_sent = was_sent
        self.is_timeout = is_timeout
        super().__init__(problem)


class Answer(NamedTuple):
    """A network's answer. body: at most `max_answer_bytes`, the rest was not read."""

    status: int
    header_lines: Sequence[bytes]
    body: bytes

    def header(self, name: str) -> str:
        """The last value of a header, or empty. Cost: a look at each line, so only on errors."""
        prefix = name.lower().encode() + b":"
        for line in reversed(self.header_lines):
            if line[: len(prefix)].lower() == prefix:
                return line[len(prefix) :].strip().decode("latin-1")
        return ""


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """What a client shows in the TLS handshake: PEM, the chain and its unencrypted key."""

    certificate_pem: bytes
    private_key_pem: bytes = field(repr=False)


def _trust(handle: pycurl.Curl, ca_file: str) -> None:
    """Trust the given authorities, or the system's, or those of certifi.

    The system's folder, where it has one by hashes, because a file is read whole for each client:
    3 ms and 0.8 MiB, times the apps that send over APNs.
    """
    paths = ssl.get_default_verify_paths()
    is_file_named = ca_file or paths.openssl_cafile_env in os.environ
    if not is_file_named and paths.capath and _is_hashed(paths.capath):
        handle.unsetopt(pycurl.CAINFO)  # where libcurl's makers had it
        handle.setopt(pycurl.CAPATH, paths.capath)
    else:
        handle.setopt(pycurl.CAINFO, ca_file or paths.cafile or certifi.where())


@cache
def _is_hashed(folder: str) -> bool:
    return any(_HASHED_NAME.fullmatch(name) for name in os.listdir(folder))


class HttpClient:
    """Requests that may share connections. certificate: shown to every server.

    One client is one group of connections: what must not share one (two provider keys at APNs)
    takes two clients. Bound to the event loop of its first request.
    """

    def __init__(
        self, settings: NetworkSettings, *, certificate: ClientCertificate | None = None
    ) -> None:
        self._settings = settings
        self._certificate = certificate
        self._multi = pycurl.AsyncCurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, settings.max_connections)
        self._multi.setopt(pycurl.M_MAXCONNECTS, 4 * settings.max_connections)
        self._idle: list[pycurl.Curl] = []
        self._is_closed = False
        self._under_way = 0

    @property
    def is_idle(self) -> bool:
        """Does nobody wait for an answer?"""
        return not self._under_way

    async def post(
        self, url: str, headers: Sequence[str], body: bytes, *, connect_to: str = ""
    ) -> Answer:
        """POST and read the answer, within `timeout_s`. Raises WayFailed if none came.

        headers: `Name: value`, without line breaks. connect_to: `host:port:address:port`, to reach
        the URL's host at that very address; the certificate is still checked against the host.
        """
        if self._is_closed:
            raise WayFailed("the client is closed", was_sent=False)
        handle = self._idle.pop() if self._idle else self._make_handle()
        head = _Head()
        sink = _Sink(self._settings.max_answer_bytes)
        handle.setopt(pycurl.URL, url)
        handle.unsetopt(pycurl.HTTPHEADER)  # setting no headers at all would leave the last ones
        handle.setopt(pycurl.HTTPHEADER, headers)
        handle.setopt(pycurl.POSTFIELDS, body)
        handle.setopt(pycurl.HEADERFUNCTION, head.take)
        handle.setopt(pycurl.WRITEFUNCTION, sink.take)
        if connect_to:
            handle.setopt(pycurl.CONNECT_TO, [connect_to])
        self._under_way += 1
        try:
            await self._multi.perform(handle)
            status = handle.getinfo(pycurl.RESPONSE_CODE)
        except pycurl.error as exc:
            status = handle.getinfo(pycurl.RESPONSE_CODE)
            # A refusal without its whole body is no refusal yet; that it was taken says the status.
            if not 200 <= status < 300 and not sink.is_full:
                raise self._failure(handle, exc) from exc
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise WayFailed("the client was closed", was_sent=True) from None
            raise  # the handle is libcurl's until the next tick: not kept
        finally:
            self._under_way -= 1
        if status < 200:
            raise WayFailed(f"a status of {status} is no answer", was_sent=True)
        if connect_to:
            handle.unsetopt(pycurl.CONNECT_TO)
        if len(self._idle) < _IDLE_HANDLES:
            self._idle.append(handle)
        return Answer(status, head.lines, sink.content())

    async def close(self) -> None:
        """End all connections; requests under way fail with WayFailed."""
        self._is_closed = True
        await self._multi.aclose()
        for handle in self._idle:
            handle.close()
        self._idle.clear()

    def _failure(self, handle: pycurl.Curl, error: pycurl.error) -> WayFailed:
        number = error.args[0]
        was_sent = number not in _BEFORE_SENDING and handle.getinfo(pycurl.REQUEST_SIZE) > 0
        is_timeout = number == pycurl.E_OPERATION_TIMEDOUT
        problem = str(error.args[-1])
        if number in _CERTIFICATE_PROBLEMS:
            problem = f"the client certificate cannot be used: {problem}"
        return WayFailed(problem, was_sent=was_sent, is_timeout=is_timeout)

    def _make_handle(self) -> pycurl.Curl:
        settings = self._settings
        handle = pycurl.Curl()
        set_option = handle.setopt
        set_option(pycurl.POST, 1)
        set_option(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        set_option(pycurl.PIPEWAIT, 1)  # a stream of a connection there is, not a new connection
        set_option(pycurl.TIMEOUT_MS, int(settings.timeout_s * 1000))
        set_option(pycurl.CONNECTTIMEOUT_MS, int(settings.connect_timeout_s * 1000))
        set_option(pycurl.FOLLOWLOCATION, 0)
        set_option(pycurl.PROXY, "")  # none, whatever the environment says
        set_option(pycurl.NOPROXY, "*")
        set_option(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS | pycurl.PROTO_HTTP)
        set_option(pycurl.NOSIGNAL, 1)
        set_option(pycurl.USERAGENT, "mqttpush")  # not the versions of all libraries
        set_option(pycurl.TCP_KEEPALIVE, 1)
        set_option(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
        _trust(handle, settings.ca_file)
        if self._certificate is not None:
            set_option(pycurl.SSLCERTTYPE, "PEM")
            set_option(pycurl.SSLCERT_BLOB, self._certificate.certificate_pem)
            set_option(pycurl.SSLKEYTYPE, "PEM")
            set_option(pycurl.SSLKEY_BLOB, self._certificate.private_key_pem)
        return handle


class _Head:
    """The header lines of an answer, without those of the 1xx before it, up to a limit."""

    __slots__ = ("_left_bytes", "lines")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._left_bytes = _MAX_HEAD_BYTES

    def take(self, line: bytes) -> int:
        self._left_bytes -= len(line)
        if self._left_bytes < 0:
            return -1
        if line.startswith(b"HTTP/"):
            self.lines.clear()
        self.lines.append(line)
        return len(line)


class _Sink:
    """The body of an answer, up to a limit; more ends the transfer."""

    __slots__ = ("_chunks", "_left_bytes", "is_full")

    def __init__(self, limit_bytes: int) -> None:
        self._chunks: list[bytes] = []
        self._left_bytes = limit_bytes
        self.is_full = False

    def take(self, chunk: bytes) -> int:
        self._chunks.append(chunk[: self._left_bytes])
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            self._left_bytes = 0
            self.is_full = True
            return -1
        return len(chunk)

    def content(self) -> bytes:
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
