"""A drive as a whole: its devices, its recording, the disk below, how all is."""
