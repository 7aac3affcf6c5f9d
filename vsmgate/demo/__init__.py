"""A small renderer and backend that speak the real protocols."""
