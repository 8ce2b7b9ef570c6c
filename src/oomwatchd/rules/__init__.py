"""What a rule may ask, and whether a process fits: pure functions over plain data."""
