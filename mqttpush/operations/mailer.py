"""The mail server of the settings: one mail at a time goes to it, in a thread.

Knows nobody who writes mails and no reader of them.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from functools import partial
from typing import Final

from mqttpush.config import EmailSettings
from mqttpush.hooks.threads import Threads

# What `Mailer.send` raises when the mail server did not take it.
PROBLEMS: Final = (OSError, TimeoutError, smtplib.SMTPException, ValueError)


class Mailer:
    """Sends mails; each has threads of its own, so none holds up another's mails."""

    def __init__(self, settings: EmailSettings) -> None:
        self.settings = settings
        # A mail server that hangs must hold up neither hooks nor the end of the server.
        self._threads = Threads(limit=8)

    async def send(self, message: EmailMessage) -> None:
        """Returns when the mail server has taken it; raises one of `PROBLEMS`."""
        async with asyncio.timeout(3 * self.settings.timeout_s):
            await self._threads.run(partial(_deliver, self.settings, message))


def _deliver(settings: EmailSettings, message: EmailMessage) -> None:
    """Blocking; smtplib takes Bcc out of what it sends."""
    context = ssl.create_default_context()
    where = (settings.host, settings.port)
    if settings.security == "tls":
        smtp: smtplib.SMTP = smtplib.SMTP_SSL(*where, timeout=settings.timeout_s, context=context)
    else:
        smtp = smtplib.SMTP(*where, timeout=settings.timeout_s)
    with smtp:
        if settings.security == "starttls":
            smtp.starttls(context=context)
        if settings.username:
            smtp.login(settings.username, settings.password)
        smtp.send_message(message)
