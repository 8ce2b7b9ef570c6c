"""What every room may use: text, time spans, clocks, helper processes, the kernel's constants, a small memory."""
