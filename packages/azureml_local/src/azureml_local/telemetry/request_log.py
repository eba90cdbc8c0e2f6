"""The gateway's request log, received over a local stream and counted by minute."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from azureml_local.telemetry.series import MetricStore, Requests, dimensions

LOGGER = logging.getLogger(__name__)

ABSENT = "-"


class RequestLog:
    """Counts the requests that HAProxy reports."""

    def __init__(self, metrics: MetricStore, find_endpoint_id: Callable[[str], str | None]) -> None:
        """Count into `metrics`, under the resource id that `find_endpoint_id` returns for an endpoint's name."""
        self._metrics = metrics
        self._find_endpoint_id = find_endpoint_id
        # One cell per minute and kind of request, so that a request costs one look-up.
        self._cells: dict[tuple[int, bytes, bytes, bytes, bytes], tuple[Requests, ...]] = {}
        self._server: asyncio.Server | None = None
        self.malformed = 0

    async def listen(self, path: Path) -> None:
        """Accept the gateway's connections."""
        path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._receive, str(path), limit=1 << 20)
        os.chmod(path, 0o600)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = b""
        try:
            while chunk := await reader.read(1 << 18):
                rest = self.feed(rest + chunk)
        except asyncio.CancelledError:
            # The plane stops; Server.close leaves connections that are open to their handlers.
            return
        except ConnectionError as error:
            LOGGER.warning("the gateway's request log was cut off: %s", error)
        finally:
            writer.close()

    def feed(self, data: bytes) -> bytes:
        """Count the whole messages in `data` (octet counting, RFC 6587 3.4.1); return the unfinished rest."""
        position, size = 0, len(data)
        while True:
            space = data.find(b" ", position, position + 12)
            if space < 0:
                return data[position:]
            end = space + 1 + int(data[position:space])
            if end > size:
                return data[position:]
            self._count(data[space + 1 : end])
            position = end

    def _count(self, message: bytes) -> None:
        fields = message.split()
        if len(fields) != 9:
            self.malformed += 1
            return
        start_us, end_us = int(fields[0]), int(fields[1])
        key = (end_us // 60_000_000, fields[2], fields[3], fields[4], fields[5])
        cells = self._cells.get(key)
        if cells is None:
            cells = self._cells_for(key)
        latency_us = max(0, end_us - start_us)
        for cell in cells:
            cell.add(latency_us)

    def _cells_for(self, key: tuple[int, bytes, bytes, bytes, bytes]) -> tuple[Requests, ...]:
        for old in [old for old in self._cells if old[0] < key[0] - 1]:
            del self._cells[old]
        minute = key[0]
        endpoint, deployment, status, model_status = (part.decode("ascii", "replace") for part in key[1:])
        endpoint_id = self._find_endpoint_id(endpoint)
        if endpoint_id is None:
            # The last requests of an endpoint that was deleted meanwhile.
            return ()
        dims = dimensions(
            deployment="" if deployment == ABSENT else deployment,
            statusCode=status,
            statusCodeClass=f"{status[:1]}xx",
            modelStatusCode="" if model_status == ABSENT else model_status,
        )
        owners = [endpoint_id] if deployment == ABSENT else [endpoint_id, f"{endpoint_id}/deployments/{deployment}"]
        at = minute * 60.0
        cells = tuple(self._metrics.minute(owner.lower(), at).requests.setdefault(dims, Requests()) for owner in owners)
        self._cells[key] = cells
        return cells

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
