"""Measurements, run by ``bin/bench``; not part of the distribution."""
