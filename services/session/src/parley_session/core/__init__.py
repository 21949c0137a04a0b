"""The pure core of a session: what a conversation is, and what to do about each thing that happens in it.

Nothing in this package touches a clock, a socket, a log, a task or a wire name. Two functions matter:
``step.step(state, event, now_ms)`` and ``step.next_deadline_ms(state)``.
"""
