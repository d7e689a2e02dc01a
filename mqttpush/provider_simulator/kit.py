"""What a person needs to point a server at the simulator: files, settings, commands.

Owns the names of the files and the settings. Knows no provider's rules. Everything is made afresh
at each start; whoever starts it again sets the credentials again.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from mqttpush.provider_simulator.providers import Providers

PROJECT = "demo-project"
TOPIC = "com.example.app"
CERTIFICATE_PASSWORD = "simulator"  # noqa: S105 - of a file that opens nothing real
APP = "APP_ID"


@dataclass(frozen=True)
class Kit:
    """files: by name; settings: of the server; commands: shell lines, to paste.

    credentials: by network, with the fields that the server takes.
    """

    files: dict[str, str]
    settings: dict[str, str | list[str]]
    credentials: dict[str, dict[str, str]]
    certificate_password: str
    vapid_public_key: str
    commands: list[str]

    def environment(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {
            f"MQTTPUSH_{name.replace('.', '__').upper()}": (
                value if isinstance(value, str) else orjson.dumps(value).decode()
            )
            for name, value in self.settings.items()
        }

    def document(self) -> dict[str, object]:
        return {**asdict(self), "environment": self.environment()}


def make_kit(providers: Providers, folder: Path) -> Kit:
    """Make credentials for every network and write them into `folder`. Raises OSError."""
    account = providers.fcm.make_service_account(PROJECT)
    key = providers.apns.make_key()
    certificate = providers.apns.make_certificate(TOPIC, password=CERTIFICATE_PASSWORD)
    pair = providers.jpush.make_pair()
    vapid = providers.webpush.make_vapid()
    jpush = {"appKey": pair.app_key, "masterSecret": pair.master_secret}
    contents: dict[str, bytes] = {
        "service-account.json": orjson.dumps(account, option=orjson.OPT_INDENT_2),
        "apns.p8": key.pem.encode(),
        "apns.p12": certificate.p12,
        "jpush.json": orjson.dumps(jpush),
        "jpush-master-secret.txt": pair.master_secret.encode(),
        "vapid.pem": vapid.pem.encode(),
    }
    folder = folder.resolve()
    files = {"ca.pem": str(providers.ca_file.resolve())}
    for name, content in contents.items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_bytes(content)
        files[name] = str(file)
    credentials = {
        "fcm": account,
        "apns": {"key": key.pem, "keyId": key.key_id, "teamId": key.team_id, "topic": TOPIC},
        "jpush": jpush,
        "webpush": {"privateKey": vapid.pem, "subject": vapid.subject},
    }
    return Kit(
        files,
        settings_for(providers),
        credentials,
        CERTIFICATE_PASSWORD,
        vapid.public_key,
        _commands(files, credentials),
    )


def settings_for(providers: Providers) -> dict[str, str | list[str]]:
    """What a server must be told to find the simulator instead of the real networks."""
    urls = providers.urls()
    return {
        "networks.fcm_url": urls["fcm"],
        "networks.fcm_token_url": urls["fcm_token"],
        "networks.apns_url": urls["apns"],
        "networks.apns_development_url": urls["apns_sandbox"],
        "networks.jpush_url": urls["jpush"],
        "networks.webpush_test_origins": [urls["webpush"]],
        "networks.ca_file": str(providers.ca_file.resolve()),
    }


def _commands(files: dict[str, str], credentials: dict[str, dict[str, str]]) -> list[str]:
    apns, webpush = credentials["apns"], credentials["webpush"]
    options = {
        "fcm": ["--file", files["service-account.json"]],
        "apns": [
            *("--key-file", files["apns.p8"], "--key-id", apns["keyId"]),
            *("--team-id", apns["teamId"], "--topic", apns["topic"]),
        ],
        "jpush": [
            *("--app-key", credentials["jpush"]["appKey"]),
            *("--master-secret-file", files["jpush-master-secret.txt"]),
        ],
        "webpush": ["--key-file", files["vapid.pem"], "--subject", webpush["subject"]],
    }
    return [
        shlex.join(["mqttpush", "network", "set", network, "--app-id", APP, *words])
        for network, words in options.items()
    ]
