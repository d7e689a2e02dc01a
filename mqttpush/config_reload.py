"""Reloads: which settings a running server takes, and which wait for a restart.

Knows nobody who uses them. The one idea: a setting that is neither taken nor named here would be
changed in the file and nowhere else, so what is fixed stands by whole sections where it can.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mqttpush.config import SecuritySettings, Settings

# Read once at the start, whatever a reload brings.
_FIXED: Final = frozenset(
    {
        "http.host",
        "http.port",
        "http.keep_alive_s",
        "mqtt.engine",
        "mqtt.host",
        "mqtt.tcp_port",
        "mqtt.tls_port",
        "mqtt.ws_port",
        "mqtt.wss_port",
        "mqtt.listen_backlog",
        "log.format",
        *(f"security.{key}" for key in SecuritySettings.model_fields if "failed" not in key),
    }
)
_FIXED_SECTIONS: Final = frozenset({"store", "networks", "hooks", "email", "delivery", "shutdown"})


def waiting_for_restart(old: Settings, new: Settings) -> Iterator[tuple[str, object]]:
    """(dotted name, new value) of the settings that have changed and are not taken."""
    for section in Settings.model_fields:
        before, after = getattr(old, section), getattr(new, section)
        for key in type(before).model_fields:
            setting = f"{section}.{key}"
            is_fixed = section in _FIXED_SECTIONS or setting in _FIXED
            if is_fixed and getattr(before, key) != getattr(after, key):
                yield setting, getattr(after, key)
