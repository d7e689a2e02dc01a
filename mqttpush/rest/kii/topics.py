"""Topics, in every scope (spec kii 6.1, 6.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mqttpush.models import Json
from mqttpush.operations.topics import Topics
from mqttpush.rest.kii import answers
from mqttpush.rest.kii.wire import (
    APP,
    credentials_of,
    gives,
    in_every_scope,
    kii_type,
    no_content,
    scope_of,
    topic_id_of,
)
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Route

PAGE_SIZE: Final = 50
_PAGE: Final = ("paginationKey",)


class TopicRoutes:
    """…/topics and …/topics/{topicID}."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def table(self) -> Iterator[Route]:
        yield from in_every_scope(self._table())

    def _table(self) -> Iterator[Route]:
        base = f"{APP}{{scope}}/topics"
        one = f"{base}/{{topicID}}"
        listed = gives(answers.Topics, "TopicsRetrievalResponse")
        yield Route("GET", base, self.list, "List topics", answer=listed, parameters=_PAGE)
        yield Route("PUT", one, self.create, "Create a topic", (204, 409))
        yield Route("GET", one, self.check, "Does the topic exist?", (204,))
        yield Route("DELETE", one, self.delete, "Delete a topic", (204,))

    async def list(self, request: ApiRequest) -> ApiResponse:
        after = request.query.get("paginationKey", "")
        page = await self._topics.list(
            credentials_of(request), scope_of(request), after=after, limit=PAGE_SIZE
        )
        fields: Json = {"topics": [{"topicID": topic.id} for topic in page.topics]}
        if page.next_after is not None:
            fields["paginationKey"] = page.next_after
        return ApiResponse(200, fields, kii_type("TopicsRetrievalResponse"))

    async def create(self, request: ApiRequest) -> ApiResponse:
        await self._topics.create(credentials_of(request), scope_of(request), topic_id_of(request))
        return no_content()

    async def check(self, request: ApiRequest) -> ApiResponse:
        await self._topics.check(credentials_of(request), scope_of(request), topic_id_of(request))
        return no_content()

    async def delete(self, request: ApiRequest) -> ApiResponse:
        await self._topics.delete(credentials_of(request), scope_of(request), topic_id_of(request))
        return no_content()
