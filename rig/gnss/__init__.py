"""The receiver and its fixes: from bytes on a port to the place between two epochs."""
