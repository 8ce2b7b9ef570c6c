"""Whom the OOM killer would take: the kernel's formula and the facts for it."""
