"""Subscriptions to buckets ("Push to App") and topics, of users and things (spec kii 5, 6.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from mqttpush.models import Credentials, Json, PrincipalKind, Source, SourceKind
from mqttpush.operations.context import ME, Reference, ScopeReference
from mqttpush.operations.subscriptions import SubscriptionReference, Subscriptions
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.errors import object_scope
from mqttpush.rest.kii.filters import ALL, filter_id_of
from mqttpush.rest.kii.topics import PAGE_SIZE
from mqttpush.rest.kii.wire import (
    APP,
    bucket_id_of,
    credentials_of,
    gives,
    in_every_scope,
    kii_type,
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
        for kind in (PrincipalKind.USER, PrincipalKind.THING):
            path = f"{APP}/{kind.value}s/{{{kind.value}ID}}/push/subscriptions"
            shown = gives(answers.Subscriptions, "SubscriptionsRetrievalResponse")
            listed = self._lister_of(kind)
            yield Route("GET", path, listed, f"Subscriptions of a {kind.value}", answer=shown)

    def _table(self) -> Iterator[Route]:
        sources = {
            SourceKind.BUCKET: f"{APP}{{scope}}/buckets/{{bucketID}}/filters/{{filterID}}",
            SourceKind.TOPIC: f"{APP}{{scope}}/topics/{{topicID}}",
        }
        made = (204, 409)
        people = gives(answers.Subscribers, "SubscribersRetrievalResponse")
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
                yield Route("GET", one, check, f"Is {about} subscribed?", (204,))
                yield Route("DELETE", one, unsubscribe, f"Unsubscribe {about}", (204,))
            listed = self._lister(source)
            subscribers = f"{path}/push/subscriptions"
            summary = f"Subscribers of a {source.value}"
            yield Route(
                "GET", subscribers, listed, summary, answer=people, parameters=("paginationKey",)
            )

    def _handler(self, verb: _Verb, source: SourceKind, subscriber: PrincipalKind) -> Handler:
        async def handle(request: ApiRequest) -> ApiResponse:
            await verb(credentials_of(request), _reference(request, source, subscriber))
            return no_content()

        return handle

    def _lister(self, kind: SourceKind) -> Handler:
        async def handle(request: ApiRequest) -> ApiResponse:
            page = await self._subscriptions.list_subscribers(
                credentials_of(request),
                *_source(request, kind),
                after=request.query.get("paginationKey", ""),
                limit=PAGE_SIZE,
            )
            fields: Json = {"subscribers": [_subject(subject) for subject in page.subjects]}
            if page.next_after is not None:
                fields["paginationKey"] = page.next_after
            return ApiResponse(200, fields, kii_type("SubscribersRetrievalResponse"))

        return handle

    def _lister_of(self, kind: PrincipalKind) -> Handler:
        async def handle(request: ApiRequest) -> ApiResponse:
            subscriber = owner_reference(kind, request.parameters[f"{kind.value}ID"])
            found = await self._subscriptions.list_of(credentials_of(request), kind, subscriber)
            fields = {"subscriptions": [_rendered(source) for source in found]}
            return ApiResponse(200, fields, kii_type("SubscriptionsRetrievalResponse"))

        return handle


def _source(request: ApiRequest, kind: SourceKind) -> tuple[SourceKind, ScopeReference, str]:
    """What the path is about: a topic, a whole bucket, or a named filter of one."""
    scope = scope_of(request)
    if kind is SourceKind.TOPIC:
        return kind, scope, topic_id_of(request)
    bucket_id, filter_id = bucket_id_of(request), filter_id_of(request)
    if filter_id == ALL:
        return kind, scope, bucket_id
    return SourceKind.FILTER, scope, f"{bucket_id}/{filter_id}"


def _reference(
    request: ApiRequest, kind: SourceKind, subscriber_kind: PrincipalKind
) -> SubscriptionReference:
    source_kind, scope, source_id = _source(request, kind)
    text = request.parameters.get(_SUBSCRIBER)
    subscriber = owner_reference(subscriber_kind, text) if text is not None else Reference(ME)
    return SubscriptionReference(source_kind, scope, source_id, subscriber_kind, subscriber)


def _subject(subject: str) -> Json:
    kind, _, identifier = subject.partition(":")
    return {f"{kind}ID": identifier}


def _rendered(source: Source) -> Json:
    fields: Json = {"objectScope": object_scope(source.scope)}
    if source.kind is SourceKind.TOPIC:
        return {**fields, "topicID": source.id}
    bucket_id, _, filter_id = source.id.partition("/")
    return {**fields, "bucketID": bucket_id, "filterID": filter_id or ALL}
