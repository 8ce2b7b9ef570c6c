"""The transaction: open a process, read, decide, write, record; and what the kernel forgets."""
