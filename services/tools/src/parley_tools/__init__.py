"""The tools service: executes tool calls from Kafka with effects that happen once."""
