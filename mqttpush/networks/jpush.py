"""JPush: the Push API v3, one registration ID a call.

Owns its credentials, its JSON and where its answers carry a code. Knows no retry. The one idea:
with one ID a call, code 1011 speaks of that ID alone; in a call with many it would say nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from mqttpush.config import NetworkSettings
from mqttpush.networks import Ending, Keys, Network, Push, Sent, answers
from mqttpush.networks.fields import matching_field, only_fields
from mqttpush.networks.http import Answer, HttpClient, WayFailed
from mqttpush.networks.tokens import is_token

_MAX_TTL_S: Final = 864_000  # ten days
# Nobody's registration ID: asks whether the credentials are good, and reaches no device.
_NOBODY: Final = "0" * 18
_TEST_BODY: Final = b'{"platform":"all","message":{"msg_content":"test"}}'


class JPushNetwork:
    """JPush for all apps. clock: wall-clock seconds."""

    def __init__(self, *, settings: NetworkSettings, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._http = HttpClient(settings)
        self._url = f"{settings.jpush_url}/v3/push"

    def check(self, app_id: str, fields: Mapping[str, Any]) -> Keys:
        """fields: `appKey` and `masterSecret`, as the console of JPush shows them."""
        only_fields(fields, ("appKey", "masterSecret"))
        shape, problem = "[0-9A-Za-z]{16,64}", "must be the 24 letters and digits of the console"
        app_key = matching_field(fields, "appKey", shape, problem)
        secret = matching_field(fields, "masterSecret", shape, problem)
        kept = {"appKey": app_key, "masterSecret": secret}
        return Keys(app_id, Network.JPUSH, kept, {"appKey": app_key})

    async def send(self, keys: Keys, push: Push) -> Sent:
        """One attempt; a dry run asks JPush to check the push and deliver nothing."""
        if not is_token(Network.JPUSH, push.token):
            return answers.ours(answers.TOKEN_INVALID)
        body = render(push, push.left_s(self._clock()))
        url = f"{self._url}/validate" if push.is_dry_run else self._url
        return await self._post(keys, url, body)

    async def test(self, keys: Keys, token: str | None) -> Sent:
        """A check of a push to the device; without one, of the credentials alone."""
        if token is not None and not is_token(Network.JPUSH, token):
            return answers.ours(answers.TOKEN_INVALID)
        parsed = orjson.loads(_TEST_BODY)
        parsed["audience"] = {"registration_id": [token or _NOBODY]}
        sent = await self._post(keys, f"{self._url}/validate", orjson.dumps(parsed))
        if token is None and sent.code in ("1011", "1003", "1003.token"):
            return Sent(Ending.DELIVERED, sent.code, detail="the credentials are good")
        return sent

    async def close(self) -> None:
        """End the connections."""
        await self._http.close()

    async def _post(self, keys: Keys, url: str, body: bytes) -> Sent:
        pair = f"{keys.fields['appKey']}:{keys.fields['masterSecret']}"
        headers = (
            f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}",
            "Content-Type: application/json",
        )
        try:
            answer = await self._http.post(url, headers, body)
        except WayFailed as exc:
            return answers.way_failed(exc.was_sent, str(exc))
        return self._read(answer)

    def _read(self, answer: Answer) -> Sent:
        if answer.status == 200:
            return answers.sent(Network.JPUSH, 200, "")
        code, words = read_error(answer.body)
        wanted = answer.header("Retry-After")
        if not wanted and answer.status == 429:
            wanted = answer.header("X-Rate-Limit-Reset")  # each answer has it
        pause_s = answers.retry_after_s(wanted, now_s=self._clock())
        return answers.sent(Network.JPUSH, answer.status, code, detail=words, retry_after_s=pause_s)


def render(push: Push, remaining_s: int) -> bytes:
    """The call's JSON: the payload with its device, environment and what is left of its time."""
    parsed = orjson.loads(push.payload.body)
    parsed["audience"] = {"registration_id": [push.token]}
    options = parsed.setdefault("options", {})
    ttl_s = options.get("time_to_live", push.payload.ttl_s)
    limit_s = min(remaining_s, _MAX_TTL_S)
    options["time_to_live"] = limit_s if ttl_s is None else min(ttl_s, limit_s)
    options["apns_production"] = not push.is_development
    return orjson.dumps(parsed)


def read_error(body: bytes) -> tuple[str, str]:
    """JPush's code and words: {"error":{"code":1011,"message":"…"},"msg_id":…}."""
    error = answers.object_in(answers.read_object(body), "error")
    code, words = answers.text_in(error, "code"), answers.text_in(error, "message")
    if code == "1003" and "registration" in words.lower():
        code += answers.ABOUT_TOKEN
    return code, words
