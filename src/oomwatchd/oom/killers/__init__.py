"""The programs that kill when memory runs out: which of them acts first, and whom it takes.

There is one module for each killer: the kernel, systemd-oomd, earlyoom, nohang. Each has pure functions over facts that
`killer_facts` has read."""
