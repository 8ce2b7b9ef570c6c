"""The kernel's interfaces, one module each: /proc/PID, the proc connector, CPUs."""
