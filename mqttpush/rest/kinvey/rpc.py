"""Remote calls that are no custom endpoints (spec kinvey 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mqttpush.operations.account_links import Purpose
from mqttpush.operations.account_mail import AccountMail
from mqttpush.rest.kinvey import answers
from mqttpush.rest.kinvey.users import NAME_LIMIT, UserRoutes
from mqttpush.rest.kinvey.wire import ANY_KIND, Gate, out_of_range, text_of
from mqttpush.rest.messages import ApiRequest, ApiResponse
from mqttpush.rest.routing import Content, Route


class RpcRoutes:
    """/rpc."""

    def __init__(self, gate: Gate, users: UserRoutes, mail: AccountMail) -> None:
        self._gate = gate
        self._users = users
        self._mail = mail

    def table(self) -> Iterator[Route]:
        yield Route(
            "POST",
            "/rpc/{appKey}/check-username-exists",
            self._users.check_username,
            "Is a user name taken?",
            body=Content(dict[str, Any]),
            answer=Content(answers.UsernameExists),
        )
        user = "/rpc/{appKey}/{usernameOrEmail}"
        for path, handler, summary in (
            (f"{user}/user-password-reset-initiate", self.reset_password, "Mail a link: password"),
            (f"{user}/user-email-verification-initiate", self.verify, "Mail a link: address"),
        ):
            yield Route("POST", path, handler, summary, (204,))
        yield Route(
            "POST",
            "/rpc/{appKey}/user-forgot-username",
            self.forgot_username,
            "Mail the names of an address's users",
            (204,),
            Content(dict[str, Any]),
        )

    async def reset_password(self, request: ApiRequest) -> ApiResponse:
        return await self._ask(request, Purpose.PASSWORD)

    async def verify(self, request: ApiRequest) -> ApiResponse:
        return await self._ask(request, Purpose.ADDRESS)

    async def forgot_username(self, request: ApiRequest) -> ApiResponse:
        return await self._ask(request, Purpose.USERNAMES)

    async def _ask(self, request: ApiRequest, purpose: Purpose) -> ApiResponse:
        """204 whoever there is: nobody learns from it who has an account."""
        visit = await self._gate.enter(request, ANY_KIND)
        if purpose is Purpose.USERNAMES:
            self._mail.require(purpose)
            name = text_of(visit.object(), "email", NAME_LIMIT, is_required=True) or ""
        else:
            name = request.parameters["usernameOrEmail"]
            if len(name) > NAME_LIMIT:
                raise out_of_range(f"has at most {NAME_LIMIT} characters", "usernameOrEmail")
        self._mail.ask(visit.app_id, purpose, name, request.address)
        return ApiResponse(204)
