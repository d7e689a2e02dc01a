"""On the wire: TLS, HTTP/2, client certificates, and every way a link can fail."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import h2.connection
import h2.events
import pycurl
import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)

from mqttpush.provider_simulator import Cut, Fault, Providers, open_providers
from mqttpush.provider_simulator.apns import ApnsCertificate
from tests.provider_simulator.support import (
    TOPIC,
    Answer,
    Failed,
    FakeClock,
    Wire,
    access_token,
    provider_token,
)
from tests.support.loop import in_loop

# libcurl's numbers. Of a reset it learns from whatever it does next: it reads the answer, or it
# writes what HTTP/2 has it write meanwhile (it acknowledges the server's SETTINGS).
RESET = {pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR}
STREAM_FAILED = {92}


class Phone:
    """One device of APNs and one of FCM, and a client that pushes to them."""

    def __init__(self, providers: Providers) -> None:
        self.providers = providers
        self.wire = Wire(providers.ca_file)
        [self.apns_token] = providers.apns.make_tokens()
        [self.fcm_token] = providers.fcm.make_tokens()
        self.signed = provider_token(providers.apns.make_key())
        self._bearer = access_token(providers, providers.fcm.make_service_account())

    async def push(self, network: str, **options: Any) -> Answer | Failed:
        if network == "apns":
            return await self.push_apns(**options)
        url = f"{self.providers.fcm.url}/v1/projects/demo-project/messages:send"
        body = b'{"message":{"token":"%s"}}' % self.fcm_token.encode()
        return await self.wire.post(url, body, {"Authorization": f"Bearer {self._bearer}"})

    async def push_apns(
        self, *, is_signed: bool = True, body: bytes = b'{"aps":{}}', **options: Any
    ) -> Answer | Failed:
        headers = {"apns-topic": TOPIC, "apns-push-type": "alert"}
        if is_signed:
            headers["authorization"] = f"bearer {self.signed}"
        url = f"{self.providers.apns.url}/3/device/{self.apns_token}"
        return await self.wire.post(url, body, headers, **options)

    def count(self, network: str) -> int:
        token = self.apns_token if network == "apns" else self.fcm_token
        return self.providers.provider(network).count(token)


@asynccontextmanager
async def opened() -> AsyncIterator[Phone]:
    async with open_providers(clock=FakeClock()) as providers:
        phone = Phone(providers)
        try:
            yield phone
        finally:
            phone.wire.close()


@in_loop
async def test_apns_speaks_http_2_and_nothing_else() -> None:
    async with opened() as phone:
        answer = await phone.push("apns")
        assert isinstance(answer, Answer)
        assert (answer.status, answer.body) == (200, b"")
        failed = await phone.push_apns(HTTP_VERSION=pycurl.CURL_HTTP_VERSION_1_1)
        assert isinstance(failed, Failed)


@in_loop
async def test_a_certificate_of_another_authority_is_not_trusted() -> None:
    async with opened() as phone, open_providers() as others:
        failed = await phone.push_apns(CAINFO=str(others.ca_file))
        assert isinstance(failed, Failed)
        assert "certificate" in failed.words.lower()


def certificate_options(certificate: ApnsCertificate) -> dict[str, bytes]:
    key, found, _ = pkcs12.load_key_and_certificates(
        certificate.p12, certificate.password.encode() or None
    )
    assert key
    assert found
    return {
        "SSLCERT_BLOB": found.public_bytes(Encoding.PEM),
        "SSLKEY_BLOB": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }


@pytest.mark.parametrize("password", ["", "secret"])
@in_loop
async def test_a_push_certificate_stands_in_for_a_provider_token(password: str) -> None:
    async with opened() as phone:
        certificate = phone.providers.apns.make_certificate(TOPIC, password=password)
        options = certificate_options(certificate)
        answer = await phone.push_apns(is_signed=False, **options)
        assert isinstance(answer, Answer)
        assert answer.status == 200


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ({"topic": "com.example.other"}, b"TopicDisallowed"),
        ({"topic": TOPIC, "environment": "sandbox"}, b"BadCertificateEnvironment"),
    ],
)
@in_loop
async def test_a_push_certificate_of_another_kind_is_refused(
    kind: dict[str, str], reason: bytes
) -> None:
    async with opened() as phone:
        certificate = phone.providers.apns.make_certificate(**kind)  # type: ignore[arg-type]
        answer = await phone.push_apns(is_signed=False, **certificate_options(certificate))
        assert isinstance(answer, Answer)
        assert reason in answer.body


@pytest.mark.parametrize(
    ("network", "cut", "numbers", "count"),
    [
        ("fcm", Cut.RESET_BEFORE, RESET, 0),
        ("fcm", Cut.RESET_AFTER, RESET, 1),
        ("apns", Cut.RESET_BEFORE, RESET, 0),
        ("apns", Cut.RESET_AFTER, RESET, 1),
        ("apns", Cut.RST_STREAM, STREAM_FAILED, 1),
    ],
)
@in_loop
async def test_a_cut_link_gives_no_answer(
    network: str, cut: Cut, numbers: set[int], count: int
) -> None:
    async with opened() as phone:
        phone.providers.add_faults(Fault(network=network, cut=cut))
        failed = await phone.push(network, FRESH_CONNECT=1)
        assert isinstance(failed, Failed)
        assert failed.number in numbers
        assert phone.count(network) == count
        answer = await phone.push(network)  # and the next push is taken
        assert isinstance(answer, Answer)
        assert answer.status == 200


@pytest.mark.parametrize("cut", [Cut.GOAWAY_ABRUPT, Cut.REFUSED_STREAM])
@in_loop
async def test_what_was_surely_not_taken_is_sent_again_by_the_client_itself(cut: Cut) -> None:
    async with opened() as phone:
        phone.providers.add_faults(Fault(network="apns", cut=cut))
        answer = await phone.push("apns")
        assert isinstance(answer, Answer)
        assert phone.count("apns") == 1
        assert phone.providers.apns.ledger.fault_count == 1


@in_loop
async def test_a_delay_and_a_slow_body_take_their_time() -> None:
    async with opened() as phone:
        for network in ("fcm", "apns"):
            fault = Fault(network=network, code="INTERNAL", delay_s=0.1, slow_body_s=0.2)
            if network == "apns":
                fault = Fault(
                    network=network, code="InternalServerError", delay_s=0.1, slow_body_s=0.2
                )
            phone.providers.add_faults(fault)
            started_at = time.monotonic()
            answer = await phone.push(network)
            assert isinstance(answer, Answer)
            assert answer.status == 500
            assert b"nternal" in answer.body
            assert time.monotonic() - started_at >= 0.29


@in_loop
async def test_a_huge_body_comes_whole_to_who_reads_it() -> None:
    async with opened() as phone:
        for network in ("fcm", "apns"):
            fault = Fault(network=network, status=503, huge_body_bytes=3_000_000, retry_after="1")
            phone.providers.add_faults(fault)
            answer = await phone.push(network)
            assert isinstance(answer, Answer)
            assert (answer.status, len(answer.body)) == (503, 3_000_000)
            assert answer.headers["retry-after"] == "1"


@in_loop
async def test_a_body_that_is_no_json_is_sent_as_given() -> None:
    async with opened() as phone:
        phone.providers.add_faults(Fault(network="fcm", status=200, body="<html>"))
        answer = await phone.push("fcm")
        assert isinstance(answer, Answer)
        assert (answer.status, answer.body) == (200, b"<html>")


class Streams:
    """A client of APNs that sends many requests over one connection in one write."""

    def __init__(self, phone: Phone) -> None:
        self._phone = phone
        self.answered: dict[int, int] = {}
        self.goaway: h2.events.ConnectionTerminated | None = None

    async def push(self, stream_ids: list[int], *, until_goaway: bool = False) -> None:
        """Until every stream is answered, or the server has said GOAWAY."""
        context = ssl.create_default_context(cafile=str(self._phone.providers.ca_file))
        context.set_alpn_protocols(["h2"])
        host, port = self._phone.providers.apns.url.removeprefix("https://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        link = h2.connection.H2Connection()
        link.initiate_connection()
        headers = [
            *((":method", "POST"), (":scheme", "https"), (":authority", host)),
            *((":path", f"/3/device/{self._phone.apns_token}"), ("apns-topic", TOPIC)),
            ("authorization", f"bearer {self._phone.signed}"),
        ]
        for stream_id in stream_ids:
            link.send_headers(stream_id, headers)
            link.send_data(stream_id, b'{"aps":{}}', end_stream=True)
        writer.write(link.data_to_send())
        while not (self.goaway if until_goaway else len(self.answered) == len(stream_ids)):
            for event in link.receive_data(await reader.read(65536)):
                if isinstance(event, h2.events.ResponseReceived):
                    status = dict(event.headers)[b":status"]
                    self.answered[event.stream_id] = int(status)
                if isinstance(event, h2.events.ConnectionTerminated):
                    self.goaway = event
        writer.close()


@in_loop
async def test_goaway_answers_the_stream_it_names_and_hears_no_later_one() -> None:
    async with opened() as phone:
        phone.providers.add_faults(Fault(network="apns", skip=1, cut=Cut.GOAWAY))
        streams = Streams(phone)
        await streams.push([1, 3, 5], until_goaway=True)
        assert streams.answered == {1: 200, 3: 200}
        assert streams.goaway
        assert (streams.goaway.last_stream_id, streams.goaway.error_code) == (3, 0)
        assert streams.goaway.additional_data == b'{"reason":"Shutdown"}'
        assert phone.count("apns") == 2


@in_loop
async def test_a_hundred_streams_at_once_are_all_answered() -> None:
    async with opened() as phone:
        streams = Streams(phone)
        await streams.push(list(range(1, 201, 2)))
        assert set(streams.answered.values()) == {200}
        assert phone.count("apns") == 100


@in_loop
async def test_what_is_no_http_ends_the_connection() -> None:
    async with opened() as phone:
        host, port = phone.providers.fcm.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x00\x01\r\n\r\n")
        assert b"400" in await reader.read()
        writer.close()
