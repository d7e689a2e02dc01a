"""`mqttpush network`: an app's credentials for push networks.

Asks the running server, which uses them from then on; without one, writes them into the store.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson

from mqttpush.cli.options import ServerOptions, config_option, json_option, server_options
from mqttpush.cli.options import settings_of as settings_from
from mqttpush.cli.session import AdminSession, database_path, open_admin, open_local, open_store
from mqttpush.cli.terminal import note, print_facts, print_json, print_table, run
from mqttpush.errors import ServerUnreachable

if TYPE_CHECKING:
    from mqttpush.models import Credentials
    from mqttpush.operations import Operations
    from mqttpush.operations.networks import NetworkView

Result = TypeVar("Result")
NETWORKS = ("fcm", "apns", "jpush", "webpush")
FILE_LIMIT_BYTES = 65_536
# What to do about a verdict, by its ending; docs/networks.md has more.
ADVICE = {
    "credentials_refused": "Make new credentials as docs/networks.md tells, and set them.",
    "not_configured": "Set credentials for this environment too.",
    "token_removed": "The credentials are good; this device is gone.",
    "token_mismatch": "The credentials are good; the device is another app's or environment's.",
    "address_refused": "The subscription names a host that networks.webpush_hosts does not allow.",
}

existing_file = click.Path(path_type=Path, dir_okay=False)
network_argument = click.argument("name", metavar="NETWORK", type=click.Choice(NETWORKS))


@click.group()
def network() -> None:
    """Set, show, test and delete an app's credentials for FCM, APNs, JPush and Web Push.

    They are checked when they are set, and kept encrypted. docs/networks.md says where to get
    them. Works whether or not the server runs; a running one uses them from the next push on.

    \b
    Examples:
      mqttpush network set fcm --file service-account.json
      mqttpush network set apns --key-file AuthKey_ABC123DEFG.p8 --key-id ABC123DEFG
          --team-id DEF123GHIJ --topic com.example.app
      mqttpush network set jpush --app-key KEY --master-secret-file secret.txt
      mqttpush network set webpush --subject mailto:you@example.com
      mqttpush network test fcm
      mqttpush network show
    """


@network.group("set")
def set_() -> None:
    """Give an app's credentials for one network; what was there is replaced."""


@set_.command()
@click.option(
    "--file", required=True, type=existing_file, help="The service account's key file, JSON."
)
@server_options(is_admin=True)
@json_option
def fcm(file: Path, server: ServerOptions, is_json: bool) -> None:
    """Firebase Cloud Messaging: Android, and browsers or iPhones that use Firebase.

    Firebase console > Project settings > Service accounts > Generate new private key. It is not
    google-services.json, which belongs into the app.
    """
    _set(server, "fcm", _json_file(file), is_json)


@set_.command()
@click.option("--key-file", type=existing_file, help="Key of the team: AuthKey_XXXXXXXXXX.p8.")
@click.option("--key-id", help="Its ID, ten characters.")
@click.option("--team-id", help="The team's ID, ten characters (Membership details).")
@click.option("--topic", help="Bundle ID of the app, such as com.example.app.")
@click.option("--certificate-file", type=existing_file, help="Instead of a key: certificate, .p12.")
@click.option("--password", help="Of the certificate's file.", envvar="MQTTPUSH_CLI_P12_PASSWORD")
@click.option(
    "--development-certificate-file",
    type=existing_file,
    help="Another certificate for installations under development.",
)
@click.option("--development-password", help="Of that file.")
@server_options(is_admin=True)
@json_option
def apns(
    key_file: Path | None,
    key_id: str | None,
    team_id: str | None,
    topic: str | None,
    certificate_file: Path | None,
    password: str | None,
    development_certificate_file: Path | None,
    development_password: str | None,
    server: ServerOptions,
    is_json: bool,
) -> None:
    """Apple Push Notification service: with a key (better, for both environments) or certificates.

    developer.apple.com > Certificates, IDs & Profiles > Keys > + > Apple Push Notifications
    service. The key can be downloaded once.
    """
    if key_file is not None and certificate_file is not None:
        raise click.UsageError("give --key-file or --certificate-file, not both")
    fields: dict[str, Any] = {}
    if key_file is not None:
        texts = {"--key-id": key_id, "--team-id": team_id, "--topic": topic}
        missing = ", ".join(option for option, text in texts.items() if not text)
        if missing:
            raise click.UsageError(f"--key-file needs {missing} too")
        fields = {
            "key": _text_file(key_file),
            "keyId": key_id,
            "teamId": team_id,
            "topic": topic,
        }
    elif certificate_file is not None:
        fields = _certificate(certificate_file, password, topic)
    if development_certificate_file is not None:
        certificate = _certificate(development_certificate_file, development_password, topic)
        fields["development"] = certificate
    if not fields:
        raise click.UsageError("give --key-file (with --key-id, --team-id, --topic) or a .p12")
    _set(server, "apns", fields, is_json)


@set_.command()
@click.option("--app-key", "jpush_app_key", required=True, help="AppKey of the JPush console.")
@click.option("--master-secret", help="Its Master Secret; better in a file.")
@click.option("--master-secret-file", type=existing_file, help="A file with nothing else in it.")
@config_option
@click.option("--app-id", envvar="MQTTPUSH_CLI_APP_ID", help="App to act in.")
@json_option
def jpush(
    jpush_app_key: str,
    master_secret: str | None,
    master_secret_file: Path | None,
    config_file: Path | None,
    app_id: str | None,
    is_json: bool,
) -> None:
    """JPush (Aurora), for Android phones without Google's services.

    JPush console > the app > App settings: AppKey and Master Secret. Here --app-key is JPush's.
    """
    if (master_secret is None) == (master_secret_file is None):
        raise click.UsageError("give --master-secret-file or --master-secret")
    secret = _text_file(master_secret_file).strip() if master_secret_file else master_secret
    fields = {"appKey": jpush_app_key, "masterSecret": secret}
    _set(ServerOptions(config_file, app_id=app_id), "jpush", fields, is_json)


@set_.command()
@click.option(
    "--subject", required=True, help="How push services reach you: mailto:you@example.com."
)
@click.option("--key-file", type=existing_file, help="VAPID private key you have: PEM, base64url.")
@click.option(
    "--generate",
    is_flag=True,
    help="Make a new key pair though there is one; browsers must subscribe anew.",
)
@server_options(is_admin=True)
@json_option
def webpush(
    subject: str, key_file: Path | None, generate: bool, server: ServerOptions, is_json: bool
) -> None:
    """Web Push: browsers, with no account anywhere.

    The first time makes a key pair and prints its public half, which the page passes to
    subscribe(); later times keep the pair.
    """
    if key_file is not None and generate:
        raise click.UsageError("give --key-file or --generate, not both")
    fields = {"subject": subject}
    if key_file is not None:
        fields["privateKey"] = _text_file(key_file).strip()
    elif generate:
        from mqttpush.networks.webpush import generate_key

        fields["privateKey"] = generate_key()
    _set(server, "webpush", fields, is_json)


@network.command()
@click.argument("name", metavar="[NETWORK]", type=click.Choice(NETWORKS), required=False)
@server_options(is_admin=True)
@json_option
def show(name: str | None, server: ServerOptions, is_json: bool) -> None:
    """Show what may be shown of an app's credentials: no secrets."""

    async def in_store(operations: Operations, credentials: Credentials) -> list[dict[str, Any]]:
        return [_shown(view) for view in await operations.networks.list(credentials)]

    async def work() -> None:
        found = await _ask(server, lambda session: session.client.networks(session.token), in_store)
        views = [view for view in found if name in (None, view["network"])]
        if is_json:
            print_json(views)
        elif len(views) == 1:
            print_facts(_facts(views[0]))
        elif views:
            rows = [
                (view["network"] if number == 0 else "", field, value)
                for view in views
                for number, (field, value) in enumerate(list(_facts(view).items())[1:])
            ]
            print_table(("network", "credentials", ""), rows)
        else:
            note("No credentials yet: `mqttpush network set NETWORK --help` says how to set them.")

    run(work())


@network.command()
@network_argument
@click.option("--token", help="A device's token, to have it checked as well.")
@server_options(is_admin=True)
@json_option
def test(name: str, token: str | None, server: ServerOptions, is_json: bool) -> None:
    """Ask a network whether it accepts the credentials; no device shows anything.

    FCM and JPush check a push without sending it. Apple has no such thing: a token gets a push
    that shows nothing. Web Push checks the key and where the subscription leads.
    """

    async def in_store(operations: Operations, credentials: Credentials) -> dict[str, Any]:
        sent = await operations.networks.test(credentials, name, token)
        accepted = sent.ending == "delivered"
        verdict = {"accepted": accepted, "code": sent.code, "ending": sent.ending}
        return {**verdict, "detail": sent.detail}

    async def work() -> None:
        verdict = await _ask(
            server,
            lambda session: session.client.test_network(session.token, name, token),
            in_store,
        )
        shown = {key: value for key, value in verdict.items() if value not in (None, "")}
        (print_json if is_json else print_facts)(shown)
        if not verdict["accepted"]:
            advice = ADVICE.get(str(verdict.get("ending")), "Try again later.")
            raise click.ClickException(f"{name} did not accept it. {advice}")

    run(work())


@network.command()
@network_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_options(is_admin=True)
def delete(name: str, yes: bool, server: ServerOptions) -> None:
    """Delete an app's credentials for a network; its devices get nothing more there."""
    if not yes:
        click.confirm(f"Delete the app's credentials for {name}?", abort=True, err=True)

    async def in_store(operations: Operations, credentials: Credentials) -> None:
        await operations.networks.delete(credentials, name)

    async def work() -> None:
        await _ask(
            server, lambda session: session.client.delete_network(session.token, name), in_store
        )
        note(f"deleted the credentials for {name}")

    run(work())


@network.command()
@click.option(
    "--old-key-file",
    type=existing_file,
    help="The key they are sealed with.  [default: server.key of the data folder]",
)
@config_option
@json_option
def reseal(old_key_file: Path | None, config_file: Path | None, is_json: bool) -> None:
    """Encrypt all apps' credentials, and secrets of services, with another key, while the server is
    stopped.

    First name the new key in security.encryption_key_file (or MQTTPUSH_SECURITY__...), then run
    this with the old one, then start the server.
    """
    from mqttpush.data_folder import KEY_FILE, encryption_key, only_server

    settings = settings_from(config_file)

    async def work() -> None:
        async with open_store(settings) as operations:
            with only_server(settings):
                old = encryption_key(
                    settings, old_key_file or database_path(settings).parent / KEY_FILE
                )
                resealed = await operations.networks.reseal(old)
                resealed += await operations.server_code.reseal(old)
        counts = {"resealed": resealed.done, "unchanged": resealed.unchanged}
        (print_json if is_json else print_facts)({**counts, "failed": len(resealed.failed)})
        if resealed.failed:
            lost = "\n".join(resealed.failed)
            raise click.ClickException(f"neither key opens these, set them again:\n{lost}")

    run(work())


def _set(server: ServerOptions, name: str, fields: Mapping[str, Any], is_json: bool) -> None:
    async def in_store(operations: Operations, credentials: Credentials) -> dict[str, Any]:
        return _shown(await operations.networks.set(credentials, name, fields))

    async def work() -> None:
        view = await _ask(
            server,
            lambda session: session.client.set_network(session.token, name, fields),
            in_store,
        )
        (print_json if is_json else print_facts)(view if is_json else _facts(view))
        if not is_json:
            note(f"Next: mqttpush network test {name}")

    run(work())


async def _ask(
    server: ServerOptions,
    over_rest: Callable[[AdminSession], Awaitable[Result]],
    in_store: Callable[[Operations, Credentials], Awaitable[Result]],
) -> Result:
    """The running server, so that it takes notice; if none runs here, the store."""
    try:
        async with open_admin(server) as session:
            return await over_rest(session)
    except ServerUnreachable:
        if server.url:
            raise
        async with open_local(server) as (operations, credentials):
            return await in_store(operations, credentials)


def _shown(view: NetworkView) -> dict[str, Any]:
    shown = {
        "network": view.network,
        "summary": dict(view.summary),
        "changedAt": view.changed_ms,
    }
    return {**shown, "problem": view.problem} if view.problem else shown


def _facts(view: Mapping[str, Any]) -> dict[str, object]:
    summary = {
        name: orjson.dumps(value).decode() if isinstance(value, dict) else value
        for name, value in view["summary"].items()
    }
    facts = {"network": view["network"], **summary, "set": _time(view)}
    return {**facts, "problem": view["problem"]} if view.get("problem") else facts


def _time(view: Mapping[str, Any]) -> str:
    moment = datetime.fromtimestamp(view["changedAt"] / 1000, UTC)
    return moment.isoformat(sep=" ", timespec="seconds")


def _certificate(file: Path, password: str | None, topic: str | None) -> dict[str, Any]:
    encoded = base64.b64encode(_read(file)).decode()
    fields = {"certificate": encoded, "password": password or "", "topic": topic}
    return {name: value for name, value in fields.items() if value is not None}


def _json_file(file: Path) -> dict[str, Any]:
    try:
        document = orjson.loads(_read(file))
    except orjson.JSONDecodeError as exc:
        raise click.UsageError(f"{file} is not JSON, is it whole? ({exc})") from exc
    if not isinstance(document, dict):
        raise click.UsageError(f"{file} is not a JSON object: give the service account's key file")
    return document


def _text_file(file: Path) -> str:
    try:
        return _read(file).decode()
    except UnicodeDecodeError as exc:
        raise click.UsageError(f"{file} is not a text file") from exc


def _read(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise click.UsageError(f"{file}: {exc.strerror}") from exc
    if len(content) > FILE_LIMIT_BYTES:
        raise click.UsageError(f"{file} has {len(content)} bytes: this is no key file")
    return content
