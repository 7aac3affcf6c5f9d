"""Authenticators; reached only through `vsmgate.interfaces`."""
