"""Stand-ins for engines, each one command: ``bin/simulate NAME --help``.

They speak the engines' real protocols and run real processes, so that a configuration can
be tried, and tested, where no such engine is.
"""
