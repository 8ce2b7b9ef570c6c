"""oomwatchd: decides by rules whom the Linux OOM killer may take."""

__version__ = "0.2.0"
