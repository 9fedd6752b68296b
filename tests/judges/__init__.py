"""Judges that nobody of this project wrote."""
