"""The control socket: one JSON request a line, one reply a line."""
