"""Reads, checks and watches the configuration files."""
