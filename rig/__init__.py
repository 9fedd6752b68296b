"""What two or more of the top-level modules share; imports nothing above it."""
