"""A real browser, and a server that only tells the time, for tests of pages."""
