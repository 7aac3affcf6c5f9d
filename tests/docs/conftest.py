"""The documentation's examples run on real gateways."""

from tests.e2e.conftest import gateway, make_gateway

__all__ = ["gateway", "make_gateway"]
