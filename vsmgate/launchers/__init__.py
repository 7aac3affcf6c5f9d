"""Engines that run jobs; reached only through `vsmgate.interfaces`."""
