"""Job stores; reached only through `vsmgate.interfaces`."""
