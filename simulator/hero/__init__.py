"""The parts of a virtual GoPro; `simulator.camera` puts them together."""
