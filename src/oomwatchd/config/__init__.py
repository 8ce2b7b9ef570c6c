"""The configuration files: read, checked, watched."""
