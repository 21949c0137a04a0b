"""The revisions of the tools database; run by ``parley-tools migrate`` and ``parley migrate``."""
