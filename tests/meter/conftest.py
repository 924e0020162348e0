"""Ports for programs that cannot be told to choose their own."""

import socket
from collections.abc import Iterator

import pytest


@pytest.fixture
def unused_ports() -> Iterator[tuple[int, int]]:
    """Two ports that were free a moment ago."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        ports = first.getsockname()[1], second.getsockname()[1]
    return ports
