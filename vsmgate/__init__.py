"""A pluggable proxy gateway for interactive visualisation on clusters and clouds."""

__version__ = "0.1.0"
