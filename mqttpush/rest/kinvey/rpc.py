"""Remote calls that are no custom endpoints (spec kinvey 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mqttpush.rest.kinvey import answers
from mqttpush.rest.kinvey.users import UserRoutes
from mqttpush.rest.routing import Content, Route


class RpcRoutes:
    """/rpc."""

    def __init__(self, users: UserRoutes) -> None:
        self._users = users

    def table(self) -> Iterator[Route]:
        yield Route(
            "POST",
            "/rpc/{appKey}/check-username-exists",
            self._users.check_username,
            "Is a user name taken?",
            body=Content(dict[str, Any]),
            answer=Content(answers.UsernameExists),
        )
