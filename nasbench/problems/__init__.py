"""What a network is for: data, training and metrics."""
