"""The test tools: real brokers and databases, real processes, bad networks, and receivers that remember.

Law: what a tool starts, it ends, even when the test run itself is killed.
"""
