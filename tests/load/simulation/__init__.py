"""A simulation of 100,000 sessions at once, built on measured per-session figures. Run it with ``make simulate``."""
