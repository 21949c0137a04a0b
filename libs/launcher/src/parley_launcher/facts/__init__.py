"""Following facts and tool calls on Kafka, and showing each as one line."""
