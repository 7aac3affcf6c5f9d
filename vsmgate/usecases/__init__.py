"""Sources of use cases; reached only through `vsmgate.interfaces`."""
