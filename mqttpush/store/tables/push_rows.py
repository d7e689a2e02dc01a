"""Rows of jobs for phones <-> their nouns. Knows no SQL but the columns' names."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import orjson

from mqttpush.models import Audience, Owner, PhonePayload, Scope, Source, SourceKind
from mqttpush.pushes import PushJob

JOB_COLUMNS: Final = (
    "job_key, app_id, network, message_id, place, payloads, audience, to_development,"
    " to_production, is_once, created_ms, ready_ms, expires_ms"
)


def encoded_payloads(job: PushJob) -> str:
    payloads = {
        variant: {**asdict(payload), "body": payload.body.decode()}
        for variant, payload in job.payloads.items()
    }
    return orjson.dumps(payloads).decode()


def encoded_audience(audience: Audience) -> str:
    fields: dict[str, Any] = {}
    if audience.source is not None:
        fields["sources"] = [audience.source.key, *audience.filter_keys]
    if audience.owners:
        fields["owners"] = [owner.subject for owner in audience.owners]
    if audience.installation_ids:
        fields["installations"] = audience.installation_ids
    if audience.is_everybody:
        fields["everybody"] = True
    return orjson.dumps(fields).decode()


def _audience(app_id: str, encoded: str) -> Audience:
    """As it was; of its source only the key is known."""
    fields = orjson.loads(encoded)
    keys = fields.get("sources")
    source = Source(keys[0], SourceKind.TOPIC, Scope(app_id), "", "") if keys else None
    return Audience(
        app_id,
        source=source,
        filter_keys=tuple(keys[1:]) if keys else (),
        owners=tuple(Owner(app_id, subject) for subject in fields.get("owners", ())),
        installation_ids=tuple(fields.get("installations", ())),
        is_everybody=fields.get("everybody", False),
    )


def job_of(row: tuple[Any, ...]) -> PushJob:
    payloads = {
        variant: PhonePayload(**{**fields, "body": fields["body"].encode()})
        for variant, fields in orjson.loads(row[5]).items()
    }
    return PushJob(
        app_id=row[1],
        network=row[2],
        message_id=row[3],
        place=row[4],
        payloads=payloads,
        audience=_audience(row[1], row[6]),
        to_development=bool(row[7]),
        to_production=bool(row[8]),
        is_once=bool(row[9]),
        created_ms=row[10],
        ready_ms=row[11],
        expires_ms=row[12],
        key=row[0],
    )
