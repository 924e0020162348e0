"""Which addresses may be called."""

import pytest

from modelops.delivery.address import AddressRefused, Guard, Origin, origin
from modelops.plan import Reason


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        pytest.param("https://huggingface.co", Origin("https", "huggingface.co", 443), id="plain"),
        pytest.param("http://Hub.Example.:8080/x?y", Origin("http", "hub.example", 8080), id="case and dot"),
        pytest.param("http://[::1]:80/", Origin("http", "::1", 80), id="IPv6"),
        pytest.param("https://hf.co@evil.example/x", None, id="user name"),
        pytest.param("https://hf.co\\@evil.example/", None, id="backslash"),
        pytest.param("https://hf.co /", None, id="space"),
        pytest.param("https://hf.co\n/", None, id="newline"),
        pytest.param("https://hüb.example/", None, id="outside ASCII"),
        pytest.param("file:///x", None, id="file"),
        pytest.param("gopher://x", None, id="gopher"),
        pytest.param("https://", None, id="no host"),
        pytest.param("https://h:99999/", None, id="no such port"),
        pytest.param("https://h:0/", None, id="port 0"),
        pytest.param("http://2852039166/", None, id="an address as one number"),
        pytest.param("http://0xa9fea9fe/", None, id="an address in hexadecimal"),
        pytest.param("http://127.1/", None, id="a short address"),
        pytest.param("http://0177.0.0.1/", None, id="an address in octal"),
    ],
)
def test_only_plain_addresses_are_read(url: str, wanted: Origin | None) -> None:
    found = origin(url)
    assert found == wanted or (wanted is None and isinstance(found, Reason))


@pytest.mark.parametrize(
    ("host", "address", "is_trusted", "is_refused"),
    [
        pytest.param("hub", "93.184.216.34", False, False, id="public"),
        pytest.param("hub", "2606:4700::1", False, False, id="public IPv6"),
        pytest.param("hub", "10.0.0.1", False, True, id="private"),
        pytest.param("hub", "10.0.0.1", True, False, id="private and listed"),
        pytest.param("hub", "127.0.0.1", False, True, id="loopback"),
        pytest.param("hub", "100.64.0.1", False, True, id="shared range"),
        pytest.param("hub", "fd00::1", False, True, id="private IPv6"),
        pytest.param("hub", "169.254.169.254", True, True, id="metadata, listed or not"),
        pytest.param("hub", "169.254.1.1", True, True, id="link-local"),
        pytest.param("hub", "fe80::1%eth0", True, True, id="link-local IPv6"),
        pytest.param("hub", "::ffff:169.254.169.254", True, True, id="metadata mapped into IPv6"),
        pytest.param("hub", "::169.254.169.254", True, True, id="metadata in a compatible address"),
        pytest.param("hub", "64:ff9b::a9fe:a9fe", True, True, id="metadata behind NAT64"),
        pytest.param("hub", "2002:a9fe:a9fe::1", True, True, id="metadata behind 6to4"),
        pytest.param("hub", "::ffff:10.0.0.1", False, True, id="private mapped into IPv6"),
        pytest.param("hub", "fd00:ec2::254", True, True, id="metadata of AWS in IPv6"),
        pytest.param("hub", "168.63.129.16", True, True, id="metadata of Azure"),
        pytest.param("hub", "100.100.100.200", True, True, id="metadata of Alibaba"),
        pytest.param("hub", "0.0.0.0", True, True, id="unspecified"),
        pytest.param("hub", "::", True, True, id="unspecified IPv6"),
        pytest.param("hub", "224.0.0.1", True, True, id="multicast"),
        pytest.param(
            "metadata.google.internal", "93.184.216.34", True, True, id="name of a metadata service"
        ),
    ],
)
def test_which_addresses_are_refused(host: str, address: str, is_trusted: bool, is_refused: bool) -> None:
    guard = Guard(frozenset({host}) if is_trusted else frozenset())
    assert (guard.refuses(host, [address]) is not None) == is_refused


def test_one_bad_address_refuses_the_host() -> None:
    assert Guard().refuses("hub", ["93.184.216.34", "10.0.0.1"]) is not None


def test_what_is_resolved_is_checked() -> None:
    with pytest.raises(AddressRefused, match="public address"):
        Guard().look_up("localhost", 80)
    assert Guard(frozenset({"localhost"})).look_up("localhost", 80)
