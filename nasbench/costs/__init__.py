"""What a network costs on paper: parameters, multiply-adds, bytes moved, memory, work."""
