"""Writes what attempts came to, many in one unit of work: whoever comes while one is being written goes into the next.

Does not decide what an outcome means, nor whether to try again to write it.

Law: each caller learns what became of its own; when a unit of work fails, all in it do, and nothing was written.
"""

from __future__ import annotations

import asyncio

from parley_notify.deliveries import Deliveries, Settlement

TOGETHER_MAX = 50


class Settler:
    """Writes settlements for one process."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._waiting: dict[asyncio.Future[bool], Settlement] = {}
        self._writing = asyncio.Lock()

    async def settle(self, settlement: Settlement, *, alone: bool = False) -> bool:
        """Write one settlement. False: its claim was overtaken or cancelled. Raises what the database raises.

        Args:
            alone: in a unit of work of its own, because it failed among others.
        """
        if alone:
            return (await self._deliveries.settle([settlement]))[0]
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[written] = settlement
        try:
            async with self._writing:
                if not written.done():  # else the one before wrote it too
                    await self._write()
            return await written
        finally:
            self._waiting.pop(written, None)

    async def _write(self) -> None:
        together = dict(list(self._waiting.items())[:TOGETHER_MAX])
        try:
            results = await self._deliveries.settle(list(together.values()))
        except Exception as wrong:  # noqa: BLE001 - handed on to everyone whose settlement it was
            for written in together:
                self._finish(written, wrong)
        else:
            for written, result in zip(together, results, strict=True):
                self._finish(written, result)

    def _finish(self, written: asyncio.Future[bool], result: bool | Exception) -> None:
        if self._waiting.pop(written, None) is None or written.done():
            return  # its caller has gone
        if isinstance(result, Exception):
            written.set_exception(result)
        else:
            written.set_result(result)
