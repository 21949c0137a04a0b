"""Which caller audio is being recognised, for which item, and what came of it.

It does not recognise; the shell does that with ``Hear`` jobs. A recognition may begin before its turn ends: it is
used if nothing more was said, and forgotten otherwise.

Law: every item with caller audio ends up heard or deaf, exactly once.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from parley_understudy.items import Item
from parley_understudy.wire import Forget, Hear, Outgoing


@dataclass(slots=True)
class _Attempt:
    number: int
    item: Item | None = None
    text: str | None = None
    ended: bool = False


class Hearing:
    """The recognitions of one session."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._out = outgoing
        self._numbers = itertools.count(1)
        self._attempts: dict[str, _Attempt] = {}

    def speculate(self, item_id: str, pcm: bytes) -> None:
        """Begin on what was said so far. Ordering: what was begun before it has been dropped."""
        attempt = self._attempts[item_id] = _Attempt(next(self._numbers))
        self._out.do(Hear(item_id, attempt.number, pcm, final=False))

    def drop(self, item_id: str) -> None:
        """Forget what was begun for this item: more was said, or it is gone."""
        attempt = self._attempts.pop(item_id, None)
        if attempt is not None and not attempt.ended:
            self._out.do(Forget(item_id, attempt.number))

    def listen(self, item: Item) -> bool:
        """Have a committed item recognised. Returns whether it is heard already."""
        attempt = self._attempts.get(item.id)
        if attempt is not None and attempt.ended and attempt.text is not None:
            return self._settle(item, attempt.text)
        if attempt is None or attempt.ended:
            pcm = b"".join(part.audio for part in item.content if part.type == "input_audio")
            attempt = self._attempts[item.id] = _Attempt(next(self._numbers))
            self._out.do(Hear(item.id, attempt.number, pcm, final=not item.silent))
        attempt.item = item
        return False

    def awaits(self, item_id: str, number: int) -> bool:
        """Return whether this attempt is the one whose result counts."""
        attempt = self._attempts.get(item_id)
        return attempt is not None and attempt.number == number and not attempt.ended

    def heard(self, item_id: str, number: int, text: str | None) -> Item | None:
        """Take a result (None: it failed); return the item that is settled by it, if any."""
        attempt = self._attempts.get(item_id)
        if attempt is None or attempt.number != number or attempt.ended:
            return None
        attempt.ended, attempt.text = True, text
        if attempt.item is None:
            return None
        self._settle(attempt.item, text)
        return attempt.item

    def _settle(self, item: Item, text: str | None) -> bool:
        self._attempts.pop(item.id, None)
        for part in item.content:
            if part.type == "input_audio" and part.heard is None:
                # Silence that nobody spoke in is heard as nothing; a turn that cannot be made out is not.
                part.heard = "" if text is None and item.silent else text
                part.deaf = part.heard is None
                text = ""
        return True
