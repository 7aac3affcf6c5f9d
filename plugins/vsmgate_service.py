"""``twistd vsmgate``: the gateway as a twistd service."""

from twisted.application.service import ServiceMaker

gateway = ServiceMaker(
    "vsmgate",
    "vsmgate.tap",
    "A pluggable proxy gateway for interactive visualisation on clusters and clouds.",
    "vsmgate",
)
