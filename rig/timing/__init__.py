"""When a frame was exposed: codes read from film, the camera's clock, its error bar."""
