"""Phones: what any verb does to send to them, in its own unit.

Owns the making of jobs: which networks, until when, how many of one app may wait. Knows not how a
network is spoken to. The one idea: a push to phones is a row written with what caused it, so it is
lost only if that is lost, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mqttpush import payloads
from mqttpush.errors import LimitReached
from mqttpush.events import MessageSent, ObjectEvent, PhonesEnded, PhonesQueued, PhonesRefused
from mqttpush.models import (
    Audience,
    MessageRecord,
    Outcome,
    PhonePayload,
    Principal,
    Scope,
)
from mqttpush.networks import Ending
from mqttpush.operations.context import Context
from mqttpush.pushes import PushJob
from mqttpush.store import Transaction

# A push whose time is over at once is still tried: the network drops it if the device is away.
SHORTEST_TRY_S: Final = 30
RETRY_AFTER_S: Final = 30.0
PAGE: Final = 1000
# 100,000 subscribers of a message: about a second.
PAGES_AT_END: Final = 100


def send(
    context: Context,
    tx: Transaction,
    sender: Principal,
    message: MessageSent,
    phone_payloads: Mapping[str, PhonePayload],
) -> None:
    """Accept a message: its record, its jobs for phones, and the event for live connections.

    phone_payloads: by variant, `fcm` or finer `fcm:titanium`. Raises LimitReached if too much of
    the app waits already.
    """
    app_id = message.audience.app_id
    now_ms = context.now_ms()
    place = message.audience.place
    record = MessageRecord(message.message_id, app_id, place, sender.subject, now_ms)
    tx.messages.insert(record)
    tx.emit(enqueue(context, tx, message, phone_payloads))


def enqueue(
    context: Context,
    tx: Transaction,
    message: MessageSent,
    phone_payloads: Mapping[str, PhonePayload],
    *,
    may_be_refused: bool = True,
) -> MessageSent:
    """Make the jobs for phones of a push; returns it as it is to be emitted.

    For pushes that keep no record; others use `send`. Raises LimitReached if it may be refused;
    else phones miss it where too much of the app waits, for what nobody can be told to try again.
    """
    by_network: dict[str, dict[str, PhonePayload]] = {}
    for variant, payload in phone_payloads.items():
        by_network.setdefault(variant.partition(":")[0], {})[variant] = payload
    if not by_network:
        return message._replace(is_once=False)
    app_id = message.audience.app_id
    configured = tx.apps.networks(app_id)
    is_once = message.is_once and "mqtt" in message.payloads
    now_ms = context.now_ms()
    for network in configured:
        if network not in by_network:
            continue
        if _is_full(context, tx, app_id, network):
            if may_be_refused:
                raise LimitReached("delivery.max_waiting_jobs", retry_after_s=RETRY_AFTER_S)
            tx.emit(PhonesRefused(app_id, network))
            continue
        job = PushJob(
            app_id,
            network,
            message.message_id,
            message.audience.place,
            by_network[network],
            message.audience,
            now_ms,
            ready_ms=now_ms + round(context.delivery.once_grace_s * 1000 if is_once else 0),
            expires_ms=now_ms + _lifetime_ms(context, by_network[network]),
            to_development=message.to_development,
            to_production=message.to_production,
            is_once=is_once,
        )
        tx.pushes.insert(job)
        tx.emit(PhonesQueued(app_id, network, job.ready_ms))
    unconfigured = tuple(network for network in by_network if network not in configured)
    return message._replace(is_once=is_once, unconfigured=unconfigured)


def enqueue_event(context: Context, tx: Transaction, event: ObjectEvent) -> None:
    """Push to App on phones (spec kii 9.3, 9.4): a job for each network the app has keys of.

    An app without any pays one comparison. Where too much of it waits already, phones miss the
    event and the write goes on: of a bucket's events they are to get the last only anyway.
    """
    bucket = event.source
    if not bucket.phone_networks:
        return
    app_id = bucket.scope.app_id
    audience = Audience(app_id, source=bucket, filter_keys=event.filter_keys)
    now_ms = context.now_ms()
    rendered = payloads.render_event_for_phones(event, now_ms, bucket.phone_networks)
    for network, payload in rendered.items():
        if _is_full(context, tx, app_id, network):
            tx.emit(PhonesRefused(app_id, network))
            continue
        own = {network: payload}
        job = PushJob(
            app_id,
            network,
            "",
            bucket.path,
            own,
            audience,
            now_ms,
            ready_ms=now_ms,
            expires_ms=now_ms + _lifetime_ms(context, own),
        )
        tx.pushes.insert(job)
        tx.emit(PhonesQueued(app_id, network, now_ms))


def before_scopes_end(context: Context, tx: Transaction, scopes: Sequence[Scope]) -> None:
    """The same for all topics and buckets of scopes of one app."""
    keys = [key for scope in scopes for key in tx.sources.keys_of_scope(scope)]
    before_sources_end(context, tx, scopes[0].app_id, keys)


def before_sources_end(
    context: Context, tx: Transaction, app_id: str, source_keys: Sequence[int]
) -> None:
    """Look up who is to get what waits for the subscribers of sources, as long as they have any.

    Of more than `PAGES_AT_END` pages the rest ends as withdrawn, counted: the unit must end, too.
    """
    if not source_keys:
        return
    now_ms, pages = context.now_ms(), 0
    for job in tx.pushes.waiting_of_sources(app_id, source_keys):
        is_done = False
        while not is_done and pages < PAGES_AT_END:
            is_done = tx.pushes.expand(job, PAGE, now_ms).is_done
            pages += 1
        if not is_done:
            left_count = tx.pushes.end(job)
            ended = Outcome(job.network, Ending.WITHDRAWN.value, left_count)
            if job.message_id and left_count:
                tx.messages.add_outcomes(job.message_id, [ended])
                tx.emit(PhonesEnded(*ended))
        tx.emit(PhonesQueued(app_id, job.network, now_ms))


def _is_full(context: Context, tx: Transaction, app_id: str, network: str) -> bool:
    return tx.pushes.waiting_count(app_id, network) >= context.delivery.max_waiting_jobs


def _lifetime_ms(context: Context, own: Mapping[str, PhonePayload]) -> int:
    """How long it is tried: as long as the most patient payload, within bounds."""
    settings = context.delivery
    ttls_s = [settings.default_ttl_s if each.ttl_s is None else each.ttl_s for each in own.values()]
    return 1000 * min(max(*ttls_s, SHORTEST_TRY_S), settings.give_up_s)
