"""What a person reads when the server is ready: addresses, and commands to paste."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mqttpush.cli.options import reachable

LISTENER_NAMES = {
    "http": "REST API",
    "mqtt_tcp": "MQTT",
    "mqtt_tls": "MQTT, TLS",
    "mqtt_ws": "MQTT, WebSocket",
    "mqtt_wss": "MQTT, WebSocket, TLS",
}


def welcome(ready: Mapping[str, Any]) -> str:
    """The text for a `ready` announcement of the server; longer when it made a demo app."""
    lines = ["mqttpush is ready."]
    lines += [
        f"  {name:<21} {ready[key]}" for key, name in LISTENER_NAMES.items() if ready.get(key)
    ]
    demo = ready.get("demo")
    if demo and ready.get("http") and ready.get("mqtt_tcp"):
        lines += _first_steps(demo, reachable(ready["http"]), reachable(ready["mqtt_tcp"]))
    else:
        program = _program()
        lines += [
            "",
            f"  {program} listen --bucket greetings    shows pushes as they arrive",
            f"  {program} simulate --devices 100       proves that they do",
        ]
    return "\n".join([*lines, "", "Ctrl-C stops the server.", ""])


def _program() -> str:
    """This command line as the person can type it here."""
    if shutil.which("mqttpush"):
        return "mqttpush"
    script = Path(sys.executable).parent / "mqttpush"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


def _first_steps(demo: Mapping[str, str], url: str, mqtt_tcp: str) -> list[str]:
    host, _, port = mqtt_tcp.rpartition(":")
    topic, username, password = demo["mqttTopic"], demo["username"], demo["password"]
    subscribe = (
        f"mosquitto_sub -V mqttv311 -h {shlex.quote(host.strip('[]'))} -p {port} \\\n"
        f"  -i {topic} -t {topic} -u {username} \\\n"
        f"  -P {password}"
    )
    paho = f"""\
{shlex.quote(sys.executable)} -u - <<'EOF'
import paho.mqtt.client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id={topic!r})
client.username_pw_set({username!r}, {password!r})
client.on_connect = lambda client, *_: client.subscribe({topic!r})
client.on_message = lambda client, _, message: print(message.payload.decode())
client.connect({host.strip("[]")!r}, {port})
client.loop_forever()
EOF"""
    write = (
        f"curl -i {url}/api/apps/{demo['appID']}/buckets/{demo['bucketID']}/objects \\\n"
        f"  -H 'Authorization: Bearer {demo['accessToken']}' \\\n"
        "  -H 'Content-Type: application/json' -d '{\"text\": \"hello\"}'"
    )
    return [
        "",
        f"A first start: the app {demo['appID']} was made, with a user who hears its bucket"
        f" {demo['bucketID']}.",
        "Receive his pushes in a second terminal, with either of these (not both at once: it is",
        "one device, and the newer link replaces the older):",
        "",
        subscribe,
        "",
        paho,
        "",
        "Write an object in a third terminal, and see the push arrive in the second:",
        "",
        write,
        "",
        f"The app's administrator, shown this once ({_program()} needs no secret here):",
        f"  clientID      {demo['clientID']}",
        f"  clientSecret  {demo['clientSecret']}",
    ]
