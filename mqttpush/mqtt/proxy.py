"""PROXY protocol: the header a load balancer puts before a connection to name its client.

Owns the parsing of versions 1 (text) and 2 (binary). Knows no socket: who may send such a header is
decided before. The one idea: the header is all or nothing; a listed peer that sends none, or a
broken one, is closed, since its client's address would otherwise be taken for the balancer's.
"""

from __future__ import annotations

from ipaddress import ip_address

from mqttpush.errors import ProtocolError

V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_PREFIX = b"PROXY "
_V1_MAX_SIZE = 107  # the longest line version 1 allows, CRLF included
_V2_MAX_SIZE = 16 + 2048  # addresses and extensions; the protocol would allow 64 KiB
_ADDRESS_SIZE_BY_FAMILY = {1: 4, 2: 16}  # IPv4, IPv6


def parse_proxy_header(data: bytes) -> tuple[str | None, int] | None:
    """(client's address, size of the header) of `data`; None: more bytes are needed.

    The address is None for a connection of the proxy itself (a health check: LOCAL, UNKNOWN).
    Raises `ProtocolError` for anything that is no header.
    """
    if data.startswith(V2_SIGNATURE):
        return _parse_v2(data)
    if data.startswith(_V1_PREFIX):
        return _parse_v1(data)
    if V2_SIGNATURE.startswith(data) or _V1_PREFIX.startswith(data):
        return None
    raise ProtocolError("no PROXY protocol header")


def _parse_v1(data: bytes) -> tuple[str | None, int] | None:
    end = data.find(b"\r\n", 0, _V1_MAX_SIZE)
    if end < 0:
        if len(data) >= _V1_MAX_SIZE:
            raise ProtocolError("a PROXY line without end")
        return None
    fields = data[:end].decode("ascii", "replace").split(" ")
    if fields[1] == "UNKNOWN":
        return None, end + 2
    if len(fields) != 6 or fields[1] not in ("TCP4", "TCP6"):
        raise ProtocolError("not a PROXY line")
    return _address(fields[2], 4 if fields[1] == "TCP4" else 6), end + 2


def _parse_v2(data: bytes) -> tuple[str | None, int] | None:
    if len(data) < 16:
        return None
    version, command = data[12] >> 4, data[12] & 15
    family = data[13] >> 4
    size = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or size > _V2_MAX_SIZE:
        raise ProtocolError("not a PROXY protocol 2 header")
    if len(data) < size:
        return None
    address_size = _ADDRESS_SIZE_BY_FAMILY.get(family)
    if command == 0 or address_size is None:
        return None, size
    if size < 16 + 2 * address_size + 4:
        raise ProtocolError("a PROXY protocol 2 header without its addresses")
    return str(ip_address(data[16 : 16 + address_size])), size


def _address(text: str, version: int) -> str:
    try:
        parsed = ip_address(text)
    except ValueError:
        raise ProtocolError("not an address in a PROXY line") from None
    if parsed.version != version:
        raise ProtocolError("an address of the other family in a PROXY line")
    return str(parsed)
