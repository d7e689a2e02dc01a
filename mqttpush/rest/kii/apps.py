"""The app itself: what its administrator may do (an extension; the console did it once)."""

from __future__ import annotations

from collections.abc import Iterator

from mqttpush.operations.apps import Apps
from mqttpush.rest.kii.wire import APP, credentials_of, no_content
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Route


class AppRoutes:
    """/api/apps/{appID}."""

    def __init__(self, apps: Apps) -> None:
        self._apps = apps

    def table(self) -> Iterator[Route]:
        yield Route("DELETE", APP, self.delete, "Delete the app and all in it", (204,))
        heed = "Heed what the operator changed in the store"
        yield Route("POST", f"{APP}/heed", self.heed, heed, (204,))

    async def delete(self, request: ApiRequest) -> ApiResponse:
        await self._apps.delete_own(credentials_of(request))
        return no_content()

    async def heed(self, request: ApiRequest) -> ApiResponse:
        await self._apps.heed(credentials_of(request))
        return no_content()
