"""Subscriptions to buckets ("Push to App") and topics, of users and things (spec kii 5, 6.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from mqttpush.errors import NotFound
from mqttpush.models import Credentials, PrincipalKind, SourceKind
from mqttpush.operations.context import ME, Reference
from mqttpush.operations.subscriptions import SubscriptionReference, Subscriptions
from mqttpush.rest.kii.wire import (
    APP,
    bucket_id_of,
    credentials_of,
    in_every_scope,
    no_content,
    owner_reference,
    scope_of,
    topic_id_of,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Handler, Route

_Verb = Callable[[Credentials, SubscriptionReference], Awaitable[None]]

_SUBSCRIBER: Final = "subscriberID"


class SubscriptionRoutes:
    """…/push/subscriptions/users and …/things, below buckets and below topics."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    def table(self) -> Iterator[Route]:
        yield from in_every_scope(self._table())

    def _table(self) -> Iterator[Route]:
        sources = {
            SourceKind.BUCKET: f"{APP}{{scope}}/buckets/{{bucketID}}/filters/{{filterID}}",
            SourceKind.TOPIC: f"{APP}{{scope}}/topics/{{topicID}}",
        }
        made, found = (204, 400, 401, 404, 409), (204, 401, 404)
        for source, path in sources.items():
            for subscriber in (PrincipalKind.USER, PrincipalKind.THING):
                base = f"{path}/push/subscriptions/{subscriber.value}s"
                one = f"{base}/{{{_SUBSCRIBER}}}"
                subscribe = self._handler(self._subscriptions.subscribe, source, subscriber)
                check = self._handler(self._subscriptions.check, source, subscriber)
                unsubscribe = self._handler(self._subscriptions.unsubscribe, source, subscriber)
                about = f"a {subscriber.value} to a {source.value}"
                yield Route("POST", base, subscribe, f"Subscribe oneself, {about}", made)
                yield Route("PUT", base, subscribe, f"Subscribe oneself, {about}", made)
                yield Route("PUT", one, subscribe, f"Subscribe {about}", made)
                yield Route("GET", one, check, f"Is {about} subscribed?", found)
                yield Route("DELETE", one, unsubscribe, f"Unsubscribe {about}", found)

    def _handler(self, verb: _Verb, source: SourceKind, subscriber: PrincipalKind) -> Handler:
        async def handle(request: ApiRequest) -> ApiResponse:
            await verb(credentials_of(request), _reference(request, source, subscriber))
            return no_content()

        return handle


def _reference(
    request: ApiRequest, kind: SourceKind, subscriber_kind: PrincipalKind
) -> SubscriptionReference:
    if kind is SourceKind.BUCKET:
        source_id = bucket_id_of(request)
        if request.parameters["filterID"] != "all":
            raise NotFound("filter", request.parameters["filterID"])
    else:
        source_id = topic_id_of(request)
    text = request.parameters.get(_SUBSCRIBER)
    subscriber = owner_reference(subscriber_kind, text) if text is not None else Reference(ME)
    return SubscriptionReference(kind, scope_of(request), source_id, subscriber_kind, subscriber)
