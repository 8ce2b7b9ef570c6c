"""Finds whom the OOM killer would take: the kernel's formula, and the facts that it needs."""
