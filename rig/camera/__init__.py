"""One GoPro: found, told what to do, its stream and its files taken."""
