"""How the nodes of one job find one another: plain TCP to node 0, every frame signed with what the job knows.

A connection begins with sixteen random bytes from either side. All that follows is frames of JSON, each with its length
and an HMAC-SHA256 under a key made from the job's secret and both nonces, over the sender, the frame's number and its
content: who does not know the secret can neither join nor change nor repeat anything. The content is not encrypted:
figures and file hashes, no keys, no payload.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import logging
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aml_tool_core.errors import ToolError

log = logging.getLogger(__name__)

_NONCE_BYTES = 16
_HEAD = struct.Struct("!I32s")  # length of the content, its HMAC
_MOST_BYTES = 256 * 1024 * 1024  # a histogram has some ten thousand buckets at most
_MOST_BYTES_OF_STRANGER = 64 * 1024  # of who has not yet shown that it knows the secret
_HELLO_SEC = 5.0
_SEND_SEC = 30.0
_RETRY_SEC = 0.25
_PINGS = 40


class PeerLost(ToolError):
    """The other side went away, was silent for too long, or is not who it says it is."""


@dataclass(frozen=True)
class Clock:
    """How far another node's clock is ahead of ours, and how exactly that is known: half the quickest round trip."""

    ahead_ns: int
    error_ns: int


class Channel:
    """Signed frames to and from one other node."""

    def __init__(self, connection: socket.socket, secret: bytes, *, caller: bool, timeout_sec: float) -> None:
        self._socket = connection
        deadline = time.monotonic() + timeout_sec
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own = os.urandom(_NONCE_BYTES)
        try:
            self._socket.settimeout(timeout_sec)
            self._socket.sendall(own)
            other = self._exactly(_NONCE_BYTES, deadline)
        except TimeoutError:
            raise PeerLost(f"it did not say who it is within {timeout_sec:.0f} s") from None
        except OSError as error:
            raise PeerLost(str(error)) from None
        nonces = own + other if caller else other + own
        self._key = hmac.digest(secret, b"aml-profiler-nodes" + nonces, "sha256")
        self._names = (b"caller", b"called") if caller else (b"called", b"caller")
        self._sent = self._received = 0

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a frame. Raises PeerLost."""
        content = json.dumps(message, separators=(",", ":")).encode()
        self._sent += 1
        try:
            self._socket.settimeout(_SEND_SEC)  # for all of it
            self._socket.sendall(_HEAD.pack(len(content), self._seal(self._names[0], self._sent, content)) + content)
        except OSError as error:
            raise PeerLost(str(error)) from None

    def receive(self, timeout_sec: float) -> dict[str, Any]:
        """Wait for a frame. Raises PeerLost where none is whole in time, or one that the other node did not write."""
        deadline = time.monotonic() + timeout_sec
        try:
            length, seal = _HEAD.unpack(self._exactly(_HEAD.size, deadline))
            if length > (_MOST_BYTES if self._received else _MOST_BYTES_OF_STRANGER):
                raise PeerLost("it does not speak this protocol")
            content = self._exactly(length, deadline)
        except TimeoutError:
            raise PeerLost(f"it said nothing, or nothing whole, for {timeout_sec:.0f} s") from None
        except OSError as error:
            raise PeerLost(str(error)) from None
        self._received += 1
        if not hmac.compare_digest(seal, self._seal(self._names[1], self._received, content)):
            raise PeerLost("it does not know this job's key")
        message: dict[str, Any] = json.loads(content)
        return message

    def has_word(self) -> bool:
        """Tell whether the other node said something, or went away: `receive` then says what."""
        return bool(select.select([self._socket], [], [], 0)[0])

    def clock(self, timeout_sec: float) -> Clock:
        """Measure the other node's clock: of many pings, the quickest says it best. It answers with `answer_ping`."""
        best: Clock | None = None
        for _ in range(_PINGS):
            before_ns = time.monotonic_ns()
            self.send({"do": "ping"})
            there_ns = int(self.receive(timeout_sec)["clock_ns"])
            after_ns = time.monotonic_ns()
            error_ns = (after_ns - before_ns + 1) // 2
            if best is None or error_ns < best.error_ns:
                best = Clock(there_ns - (before_ns + after_ns) // 2, error_ns)
        assert best is not None
        return best

    def answer_ping(self) -> None:
        """Say what time it is here."""
        self.send({"clock_ns": time.monotonic_ns()})

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _seal(self, sender: bytes, number: int, content: bytes) -> bytes:
        return hmac.digest(self._key, sender + struct.pack("!Q", number) + content, "sha256")

    def _exactly(self, count: int, deadline: float) -> bytes:
        """Return so many bytes. Raises TimeoutError at the deadline, however they drip in."""
        parts = bytearray()
        while len(parts) < count:
            left_sec = deadline - time.monotonic()
            if left_sec <= 0:
                raise TimeoutError
            self._socket.settimeout(left_sec)
            part = self._socket.recv(min(count - len(parts), 1 << 20))
            if not part:
                raise PeerLost("it closed the connection")
            parts += part
        return bytes(parts)


def secret_of(*known: str) -> bytes:
    """Return the secret that follows from what the job's nodes know; it is as secret as that."""
    return hashlib.sha256("\0".join(known).encode()).digest()


def listen(host: str, port: int) -> socket.socket:
    """Listen where the other nodes will call; where the address is not this machine's own, on all of its addresses.

    Raises ToolError.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        addresses = []
    if len({family for family, *_ in addresses}) > 1:
        addresses = []  # who knows which of them the others reach
    try:
        for family, _, _, _, address in addresses:
            try:
                return socket.create_server(address, family=family, backlog=128)
            except OSError as error:
                # Behind a translated address, node 0 does not have the one that the others know.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=128, dualstack_ipv6=True)
        return socket.create_server(("", port), backlog=128)
    except OSError as error:
        raise ToolError(f"{host}:{port}: node 0 cannot listen there for the others: {error.strerror}") from None


def accept(server: socket.socket, secret: bytes, deadline: float) -> tuple[Channel, dict[str, Any]] | None:
    """Return the next caller that knows the secret, and its first frame; None at the deadline (time.monotonic).

    A caller that does not know it is told of in the log and let go.
    """
    while (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        try:
            connection, address = server.accept()
        except TimeoutError:
            return None
        try:
            channel = Channel(connection, secret, caller=False, timeout_sec=min(_HELLO_SEC, left))
            return channel, channel.receive(max(0.0, min(_HELLO_SEC, deadline - time.monotonic())))
        except PeerLost as error:
            connection.close()
            log.warning("%s:%s called and is none of this job's nodes: %s", *address[:2], error)
    return None


def call(host: str, port: int, secret: bytes, hello: Mapping[str, Any], deadline: float) -> Channel:
    """Call node 0, which may not be up yet, and say the first frame. Raises ToolError at the deadline."""
    began = time.monotonic()
    while True:
        left = deadline - time.monotonic()
        try:
            connection = socket.create_connection((host, port), timeout=max(0.1, min(left, _HELLO_SEC)))
            channel = Channel(connection, secret, caller=True, timeout_sec=max(left, _HELLO_SEC))
            channel.send(hello)
            return channel
        except (OSError, PeerLost) as error:
            if time.monotonic() + _RETRY_SEC >= deadline:
                waited_sec = time.monotonic() - began
                raise ToolError(
                    f"{host}:{port}: node 0 did not answer within {waited_sec:.0f} s ({error}); see its log"
                ) from None
        time.sleep(_RETRY_SEC)
