"""The long-running process: everything that is put together, and the only place that logs."""
