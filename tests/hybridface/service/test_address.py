"""Addresses: host names, IPv4, IPv6 in brackets, the usual port, and texts that are none."""

import pytest

from hybridface.service.address import Address, parse_address
from protocols.errors import ParameterError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("match.example.org", Address("match.example.org", 7461)),
        ("Match.Example.org:80", Address("match.example.org", 80)),
        ("192.0.2.1:65535", Address("192.0.2.1", 65535)),
        ("[2001:db8::1]", Address("2001:db8::1", 7461)),
        ("[::1]:1", Address("::1", 1)),
    ],
)
def test_addresses_are_read_and_written(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address
    assert parse_address("localhost", 9).port == 9


@pytest.mark.parametrize(
    "text", ["", ":7461", "a:", "a:0", "a:65536", "a:123456", "2001:db8::1", "[a]", "a b", "https://a", "a\n", "[::1]x"]
)
def test_texts_that_are_no_address(text: str) -> None:
    with pytest.raises(ParameterError, match="expected HOST or HOST:PORT with a port of 1 to 65535"):
        parse_address(text)
