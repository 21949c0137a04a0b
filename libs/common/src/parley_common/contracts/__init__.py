"""What crosses a border between Parley's services, or between Parley and the world. Frozen; extended compatibly."""
