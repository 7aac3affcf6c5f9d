"""The documentation's examples run on real gateways."""

from tests.e2e.conftest import make_gateway

__all__ = ["make_gateway"]
