"""A car that does not exist, cameras, receiver, phone and street, and that knows the truth about itself."""
