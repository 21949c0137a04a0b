"""The gateway: terminates client audio sockets and places each session on a session service."""
