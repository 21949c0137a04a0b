"""The default conversation: the order of its items, and what is added, deleted, retrieved and truncated.

It neither generates items nor listens. What a truncation takes out of the context is taken out here.

Law: an item enters once, is announced by ``added`` then ``done``, and its predecessor on the wire is the item before it.
"""

from __future__ import annotations

from collections.abc import Iterator

from parley_understudy.g711 import bytes_per_ms, encoded
from parley_understudy.items import Item, base64_of
from parley_understudy.wire import Event, Outgoing, Refused

AUDIO_KEPT_BYTES = 64 * 1024 * 1024
"""How much item audio one session keeps for ``retrieve``; the oldest is dropped first."""


class Conversation:
    """The items of one session, in order."""

    def __init__(self, outgoing: Outgoing) -> None:
        self.id = outgoing.ids.new("conv_")
        self._out = outgoing
        self._items: list[Item] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def find(self, item_id: str) -> Item | None:
        """Return the item with this id, if it is there."""
        return next((item for item in reversed(self._items) if item.id == item_id), None)

    def last_id(self) -> str | None:
        """Return the id of the last item; None when there is none."""
        return self._items[-1].id if self._items else None

    def add(self, item: Item, previous_item_id: str | None = None) -> None:
        """Insert an item after ``previous_item_id`` (None: at the end, ``root``: in front) and announce it."""
        place = self._place_after(previous_item_id)
        if self.find(item.id) is not None:
            raise Refused(
                f"Item with id already exists: {item.id}", "item_create_duplicate_item_id", "item.id"
            )
        if item.kind == "function_call_output" and not self._has_call(item.call_id):
            raise Refused(f"Tool call ID '{item.call_id}' not found in conversation.", "invalid_tool_call_id")
        self._items.insert(place, item)
        self._drop_old_audio()
        wire = item.opened() if item.status == "in_progress" else item.wire()
        self._out.send("conversation.item.added", previous_item_id=self._before(item), item=wire)

    def done(self, item: Item) -> None:
        """Announce that an item is complete; one deleted meanwhile is not announced."""
        if item not in self._items:
            return
        previous = self._before(item)
        if item.generated and previous == self._items[0].id:
            # The API does so for generated items right after the first one: 17 of 17 recorded.
            previous = None
        self._out.send("conversation.item.done", previous_item_id=previous, item=item.wire())

    def delete(self, item_id: str) -> Item:
        """Remove an item and announce it."""
        item = self.find(item_id)
        if item is None:
            raise Refused(
                f"Error deleting item: the item with id '{item_id}' does not exist.",
                "item_delete_invalid_item_id",
            )
        self._items.remove(item)
        self._out.send("conversation.item.deleted", item_id=item_id)
        return item

    def retrieve(self, item_id: str, caller_format: str) -> None:
        """Send an item with its audio."""
        item = self.find(item_id)
        if item is None:
            raise Refused(
                f"Item with item_id not found: {item_id}", "item_retrieve_invalid_item_id", "item_id"
            )
        self._out.send("conversation.item.retrieved", item=_with_audio(item, caller_format))

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int, agent_format: str) -> None:
        """Cut the agent's audio at ``audio_end_ms`` and delete its transcript from the context."""
        item = self.find(item_id)
        if item is None:
            raise Refused(
                f"Item with item_id not found: {item_id}", "item_truncate_invalid_item_id", "item_id"
            )
        part = item.content[content_index] if content_index < len(item.content) else None
        spoken = part is not None and part.type == "output_audio" and (part.audio_ms or item.truncated)
        if part is None or not spoken:
            raise Refused("Only model output audio messages can be truncated", "unsupported_content_type")
        if audio_end_ms > part.audio_ms:
            raise Refused(
                f"Audio content of {part.audio_ms}ms is already shorter than {audio_end_ms}ms",
                "invalid_value",
                "audio_end_ms",
            )
        item.truncated = True
        part.audio_ms = audio_end_ms
        part.audio = part.audio[: audio_end_ms * bytes_per_ms(agent_format)]
        self._out.send(
            "conversation.item.truncated",
            item_id=item_id,
            content_index=content_index,
            audio_end_ms=audio_end_ms,
        )

    def has_agent_audio(self) -> bool:
        """Return whether the agent has spoken: its voice is fixed from then on."""
        return any(part.type == "output_audio" for item in self._items for part in item.content)

    def _place_after(self, previous_item_id: str | None) -> int:
        if previous_item_id is None:
            return len(self._items)
        if previous_item_id == "root":
            return 0
        for at, item in enumerate(self._items):
            if item.id == previous_item_id:
                return at + 1
        raise Refused(
            f"Previous item with id '{previous_item_id}' not found.",
            "item_create_invalid_previous_item_id",
            "previous_item_id",
        )

    def _before(self, item: Item) -> str | None:
        at = self._items.index(item)
        return self._items[at - 1].id if at else None

    def _has_call(self, call_id: str) -> bool:
        return any(item.kind == "function_call" and item.call_id == call_id for item in self._items)

    def _drop_old_audio(self) -> None:
        kept = sum(len(part.audio) for item in self._items for part in item.content)
        for item in self._items:
            for part in item.content:
                if kept <= AUDIO_KEPT_BYTES:
                    return
                if not item.awaits_ears() and item.status != "in_progress":
                    kept, part.audio = kept - len(part.audio), b""


def _with_audio(item: Item, caller_format: str) -> Event:
    wire = item.wire()
    if item.kind == "message":
        wire["content"] = [
            part.wire(
                with_audio=base64_of(
                    encoded(part.audio, caller_format) if part.type == "input_audio" else part.audio
                )
            )
            for part in item.content
        ]
    return wire
