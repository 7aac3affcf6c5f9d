"""The load tester for operators, run by ``bin/load``: Autobahn clients against real gateways."""
