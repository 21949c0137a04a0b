"""What every Parley service shares; imports no service."""
