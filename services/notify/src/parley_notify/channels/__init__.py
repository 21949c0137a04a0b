"""One file per channel: how a delivery reaches a destination. When to try is not decided here."""
