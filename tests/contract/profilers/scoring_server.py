"""An HTTP/1.1 server of known behaviour: prints its port, answers as told, and says on SIGTERM what it received.

A process of its own, so that it is as far from the tools as a real one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import sys
from collections import Counter
from dataclasses import dataclass, field

BLANKS = memoryview(b" " * 262144)


@dataclass
class Received:
    """What came in."""

    requests: int = 0
    bodies: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    headers: dict[str, str] = field(default_factory=dict)  # of the last request
    first_at: float | None = None  # when the first request came
    connections: int = 0
    arrivals: list[float] = field(default_factory=list)  # with --arrivals: when each request had come, on one clock


@dataclass
class Slots:
    """How many requests are being answered."""

    taken: int = 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay_ms", type=float, default=0, help="before each answer")
    parser.add_argument("--status", type=int, default=200, help="of the odd answers")
    parser.add_argument("--status_every", type=int, default=1, help="every Nth answer is odd, the others are 200")
    parser.add_argument("--key", help="answer 401 to requests without `Authorization: Bearer KEY`")
    parser.add_argument("--slots", type=int, help="answer 429 beyond this many requests at a time")
    parser.add_argument("--silent", action="store_true", help="take requests and never answer")
    parser.add_argument("--stall_after_sec", type=float, help="answer nothing for stall_sec, so long after the first")
    parser.add_argument("--stall_sec", type=float, default=0)
    parser.add_argument("--reset_every", type=int, help="break the connection instead of every Nth answer")
    parser.add_argument("--answer_bytes", type=int, default=2, help="length of every answer")
    parser.add_argument("--certificate", help="PEM file with certificate and key: speak TLS")
    parser.add_argument("--arrivals", action="store_true", help="tell in the end when each request came")
    return parser.parse_args()


async def main(options: argparse.Namespace) -> None:
    received, slots = Received(), Slots()
    tls = None
    if options.certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.certificate)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.connections += 1
        try:
            while await answer(options, received, slots, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return  # the client, or this server, is done: how every run ends
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    json.dump(vars(received), sys.stdout)
    sys.stdout.flush()


async def answer(
    options: argparse.Namespace,
    received: Received,
    slots: Slots,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Take one request and answer it; False when the connection is to end."""
    first = await reader.readexactly(1)
    if first == b"\x16":  # a TLS handshake, where HTTP was expected
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        return False
    head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    lower = {name.lower(): value for name, value in headers.items()}
    body = await reader.readexactly(int(lower.get("content-length", 0)))
    received.requests += 1
    received.lines[head[0]] += 1
    received.bodies[body.decode()] += 1
    received.headers = headers
    number = received.requests
    now = asyncio.get_running_loop().time()
    received.first_at = received.first_at or now
    if options.arrivals:
        received.arrivals.append(now)
    if options.stall_after_sec is not None:
        into_sec = now - received.first_at - options.stall_after_sec
        if 0 <= into_sec < options.stall_sec:
            await asyncio.sleep(options.stall_sec - into_sec)
    if options.silent:
        await asyncio.sleep(3600)
    if options.reset_every and number % options.reset_every == 0:
        writer.transport.abort()
        return False
    status = options.status if number % options.status_every == 0 else 200
    if options.key and lower.get("authorization") != f"Bearer {options.key}":
        status = 401
    elif options.slots is not None and slots.taken >= options.slots:
        status = 429
    elif options.delay_ms:
        slots.taken += 1
        await asyncio.sleep(options.delay_ms / 1000)
        slots.taken -= 1
    size = options.answer_bytes
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n" % (status, size))
    writer.write(b"{}")
    for sent in range(2, size, len(BLANKS)):  # in pieces: asyncio copies what it cannot send at once
        writer.write(BLANKS[: size - sent])
        await writer.drain()
    await writer.drain()
    return True


if __name__ == "__main__":
    asyncio.run(main(arguments()))
