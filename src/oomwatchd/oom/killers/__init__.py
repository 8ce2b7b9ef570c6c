"""Who acts first when memory runs out, and whom it takes: the kernel, systemd-oomd, earlyoom, nohang, oomd.

One module for each killer, with pure functions over facts that were read before; `facts` reads them."""
