"""``bin/bench SUBCOMMAND``."""

from __future__ import annotations

import click

from bench.api import api
from bench.auth import auth
from bench.engines import engines
from bench.flood import flood
from bench.relay import relay


@click.group()
def main() -> None:
    """Measure the gateway on this machine."""


main.add_command(api)
main.add_command(relay)
main.add_command(auth)
main.add_command(engines)
main.add_command(flood)

if __name__ == "__main__":
    main(prog_name="bin/bench")
