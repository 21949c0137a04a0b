"""The benchmark: paced callers, a lean upstream, two baselines, and Parley between them. Run it with ``parley bench``."""
