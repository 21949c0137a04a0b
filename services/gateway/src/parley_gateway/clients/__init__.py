"""The kinds of client that reach sessions: each turns what it speaks into the link's vocabulary."""
