"""What is done with a recording while it is made: pictures of now, codes read, photos."""
