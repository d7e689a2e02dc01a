"""A published body is replaced between the look at what it is and the opening of its file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from mqttpush.config import SecuritySettings
from mqttpush.credentials import Passwords
from mqttpush.models import Credentials
from mqttpush.operations import Operations
from mqttpush.operations.bodies import ObjectReference
from mqttpush.operations.context import ScopeReference
from mqttpush.store.blobs import Blobs
from tests.support.contexts import make_context
from tests.support.loop import in_loop
from tests.support.stores import opened


class InterruptedBlobs(Blobs):
    """Does something else before it opens a file."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def open(self, blob: str) -> BinaryIO | None:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
            await self.remove([blob])  # as the keeper does to what nobody names
        return await super().open(blob)


async def _chunks(text: bytes) -> AsyncIterator[bytes]:
    yield text


@pytest.mark.spec("kii 4.2")
@in_loop
async def test_a_published_body_that_is_being_replaced_is_the_new_one(tmp_path: Path) -> None:
    cheap = SecuritySettings(argon2_time_cost=1, argon2_memory_kib=1024)
    async with opened() as world:
        with closing(Passwords(cheap)) as passwords, closing(InterruptedBlobs(tmp_path)) as blobs:
            context = make_context(world.store, blobs, passwords, now_ms=lambda: 1)
            operations = Operations.over(context)
            app_id = (await operations.apps.create("test")).app.app_id
            token = await operations.apps.issue_admin_token(app_id, lifetime_s=3600)
            admin, scope = Credentials(app_id, token=token), ScopeReference()
            place = ObjectReference(scope, "bucket", "object")

            async def put(text: bytes) -> None:
                await operations.bodies.put(admin, place, "text/plain", _chunks(text))

            json = "application/json"
            await operations.buckets.put_object(admin, scope, "bucket", "object", {}, json)
            await put(b"old")
            publication = await operations.publications.publish(admin, place)
            blobs.meanwhile = lambda: put(b"new")
            found = await operations.publications.open(publication.publication_id)
            with found.file as file:
                assert file.read() == b"new"
