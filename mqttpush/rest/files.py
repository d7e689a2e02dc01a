"""Files as answers: an open file sent block by block, with ranges.

Owns how bytes that are too many for memory leave; knows no route, store or right. The one idea: the
file is open before the answer begins, so that it is sent to its end whoever removes or replaces it
meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO, Final

from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

# One system call and one trip to a thread each: 400 for 100 MB, and this much memory a reader.
BLOCK_BYTES: Final = 262_144


class FileAnswer(FileResponse):
    """Sends an open file, the ranges that were asked for or all of it, and closes it."""

    chunk_size = BLOCK_BYTES

    def __init__(self, file: BinaryIO, headers: Mapping[str, str]) -> None:
        # Opened again by its descriptor, which leads to the file after its name is gone.
        path = f"/dev/fd/{file.fileno()}"
        super().__init__(path, headers=headers, stat_result=os.fstat(file.fileno()))
        self._file = file
        self._common = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The status is known only now; answers about a bad range get the common headers too."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in self._common.items():
                    headers.setdefault(name, value)
                headers["x-http-status-code"] = str(message["status"])
            await send(message)

        try:
            await super().__call__(scope, receive, send_with_headers)
        finally:
            self._file.close()
