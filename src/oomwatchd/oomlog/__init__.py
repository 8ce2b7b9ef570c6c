"""Reads past OOM kills out of logs."""
