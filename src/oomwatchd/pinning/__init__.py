"""The transaction on a process: open, read, decide, write, record; and the ledger of what the kernel forgets."""
