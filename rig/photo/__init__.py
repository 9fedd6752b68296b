"""From frames and fixes to photos: chosen, written, placed, exported."""
