"""Logs: one line per event on standard error, as text for people or JSON for machines.

Owns the format, the redaction of secrets and the routing of other libraries' loggers. Knows nobody
who logs. The one idea: redaction is the last step before rendering and every logger of the process
passes through it, so no caller has to remember it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from mqttpush.config import LogSettings

REDACTED = "[redacted]"
# Compared with the letters of a field's name alone: `X-Kii-AppKey`, `app_key` and `appKey` are one.
SECRET_WORDS = (
    "authorization",
    "password",
    "passwd",
    "secret",
    "token",
    "appkey",
    "apikey",
    "privatekey",
    "credential",
    "cookie",
)
# Inside a longer text, such as a traceback: the scheme or name stays, the value goes.
_IN_TEXT = (
    re.compile(r"(?i)\b((?:bearer|basic)\s+)[\w.~+/=-]{6,}"),
    re.compile(
        r"""(?ix)
        ([\w-]*(?:authorization|passw(?:or)?d|secret|token|app-?_?key|api-?_?key|cookie)[\w-]*
        ["']?\s*[:=]\s*["']?)
        (?!\s*(?:bearer|basic)\b)[^\s"',;&})\]]+"""
    ),
    re.compile(r"(://[^/@\s:]*:)[^/@\s]*(?=@)"),
)
# A line feed in a stranger's text must not start a log line of its own.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_MULTILINE_KEYS = frozenset({"exception", "stack"})
# Loggers of libraries that bring handlers of their own; `None` keeps our level.
_LIBRARY_LEVELS: dict[str, int | None] = {
    "uvicorn": logging.WARNING,  # it tells of its start and stop; we do so ourselves
    "uvicorn.error": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "aiosqlite": logging.WARNING,
    "amqtt": logging.WARNING,
    "transitions": logging.WARNING,  # amqtt's state machines
}


def setup_logging(settings: LogSettings) -> None:
    """Send structlog and the standard library's loggers to standard error in one format."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared[:3], structlog.stdlib.ExtraAdder(), *shared[3:]],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            redact,
            _renderer(settings),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, least_level in _LIBRARY_LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(level if least_level is None else max(level, least_level))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def redact(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
    """Blot out secrets by field name and by shape, and control characters in every value."""
    event_dict.pop("color_message", None)  # uvicorn's second copy of its text, with colours
    return {
        key: REDACTED
        if is_secret_name(key) and value not in (None, "")
        else _clean(value, key in _MULTILINE_KEYS)
        for key, value in event_dict.items()
    }


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    letters = "".join(filter(str.isalnum, name)).lower()
    return any(word in letters for word in SECRET_WORDS)


def redact_text(text: str) -> str:
    """A text with whatever looks like a secret blotted out."""
    for pattern in _IN_TEXT:
        text = pattern.sub(rf"\1{REDACTED}", text)
    return text


def _clean(value: Any, keep_lines: bool) -> Any:
    if isinstance(value, str):
        text = redact_text(value)
        return text if keep_lines else text.translate(_CONTROL)
    if isinstance(value, Mapping):
        return redact(None, "", {str(key): item for key, item in value.items()})
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, keep_lines) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value)).translate(_CONTROL)


def _renderer(settings: LogSettings) -> Processor:
    if settings.format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
