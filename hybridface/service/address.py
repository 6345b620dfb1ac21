"""Read the address of a server: `host:port`, a host alone, or an IPv6 address in brackets."""

import re
from typing import NamedTuple

from protocols.errors import ParameterError

__all__ = ["DEFAULT_PORT", "Address", "parse_address"]

DEFAULT_PORT = 7461
_MOST_PORT = 65_535
_SHOWN = 80
_FORM = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]{2,60})\]|(?P<host>[A-Za-z0-9._-]{1,253}))(?::(?P<port>[0-9]{1,5}))?")


class Address(NamedTuple):
    """Where a server listens.

    Args:
        host: a host name or an IP address, without brackets.
        port: 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Return the address that a text gives.

    Args:
        text: such as match.example.org, 192.0.2.1:7461 or [2001:db8::1]:7461.
        default_port: the port of a text without one.

    Raises:
        ParameterError: the text is no address.
    """
    found = _FORM.fullmatch(text)
    port = int(found["port"] or default_port) if found else 0
    if found is None or not 1 <= port <= _MOST_PORT or (found["v6"] and ":" not in found["v6"]):
        raise ParameterError(
            f"expected HOST or HOST:PORT with a port of 1 to {_MOST_PORT} (an IPv6 address in brackets),"
            f" got {text[:_SHOWN]!r}"
        )
    return Address((found["v6"] or found["host"]).lower(), port)
