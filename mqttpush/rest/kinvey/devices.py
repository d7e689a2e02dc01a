"""A device as a body describes it, checked (spec kinvey 4.1, 4.5)."""

from __future__ import annotations

from typing import Any, Final

from mqttpush.errors import InvalidRequest
from mqttpush.operations.devices import PLATFORMS, DeviceDraft
from mqttpush.rest.kinvey.wire import out_of_range, text_of

TOKEN_LIMIT: Final = 4096
WORD_LIMIT: Final = 64


def device_draft(body: Any, token_name: str, place: str = "") -> DeviceDraft:
    """Raises InvalidRequest that names the field. place: of the body, for errors."""
    if not isinstance(body, dict):
        raise out_of_range("must be an object", field=place)
    missing = [name for name in ("platform", token_name) if body.get(name) in (None, "")]
    if missing:
        problem, field = "is required", ".".join(filter(None, (place, missing[0])))
        raise InvalidRequest(problem, field=field, code="MissingRequestParameter")
    platform = text_of(body, "platform", WORD_LIMIT) or ""
    if platform.lower() not in PLATFORMS:
        raise out_of_range("must be ios or android", field="platform")
    return DeviceDraft(
        platform.lower(),
        text_of(body, token_name, TOKEN_LIMIT) or "",
        text_of(body, "framework", WORD_LIMIT, may_be_empty=True) or "",
        text_of(body, "service", WORD_LIMIT, may_be_empty=True) or "",
    )
