"""Opening: all push networks at once, for the server and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mqttpush.config import NetworkSettings
from mqttpush.networks import Network, PushNetwork
from mqttpush.networks.apns import ApnsNetwork
from mqttpush.networks.fcm import FcmNetwork
from mqttpush.networks.jpush import JPushNetwork
from mqttpush.networks.names import Names
from mqttpush.networks.webpush import WebPushNetwork


def open_networks(
    settings: NetworkSettings, *, clock: Callable[[], float]
) -> Mapping[Network, PushNetwork]:
    """Each network, without a request or a connection; `close` each. clock: wall-clock seconds.

    They belong to the event loop of their first send.
    """
    return {
        Network.FCM: FcmNetwork(settings=settings, clock=clock),
        Network.APNS: ApnsNetwork(settings=settings, clock=clock),
        Network.JPUSH: JPushNetwork(settings=settings, clock=clock),
        Network.WEBPUSH: WebPushNetwork(settings=settings, clock=clock, resolve=Names().find),
    }
