"""What every room may use: text, time spans, standard streams, memory given back."""
