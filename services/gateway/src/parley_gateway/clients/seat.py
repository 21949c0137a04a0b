"""One client's socket in a session: its reader, its writer, and the wish that it leave.

A session has one seat at a time, or none while its client is away. Law: whoever is told to leave does so with the
first end it was told.
"""

from __future__ import annotations

import asyncio

from parley_gateway.clients.client_reader import ClientReader
from parley_gateway.clients.client_writer import ClientWriter
from parley_gateway.clients.ends import End


class Seat:
    """Where one socket of a session's client sits."""

    def __init__(self, writer: ClientWriter, reader: ClientReader) -> None:
        loop = asyncio.get_running_loop()
        self.writer = writer
        self.reader = reader
        self.vacated: asyncio.Future[End] = loop.create_future()
        """Done once the socket is to be closed, with what it is told."""
        self.closed: asyncio.Future[None] = loop.create_future()
        """Done once nothing more is sent here."""

    def hung_up_for_ms(self, now_ms: int) -> int:
        """Return how long ago the client said ``hangup``; less than 0 when it did not."""
        since_ms = self.reader.hung_up_ms
        return -1 if since_ms is None else now_ms - since_ms

    def vacate(self, end: End) -> None:
        """Have the socket closed so; the session may go on without it."""
        if not self.vacated.done():
            self.vacated.set_result(end)

    def close(self) -> None:
        """Nothing more is sent here."""
        if not self.closed.done():
            self.closed.set_result(None)
