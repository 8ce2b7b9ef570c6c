"""Past OOM kills, read out of logs."""
