"""Long measurements of the real devices, each one command with a report: delay, buffers, drift, fields of view."""
