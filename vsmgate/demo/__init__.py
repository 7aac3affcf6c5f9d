"""A small renderer and backend that speak the real protocols.

``python -m vsmgate.demo.renderer`` stands in for ``braynsService`` 3.10, and
``python -m vsmgate.demo.backend`` for the backend of Brayns Circuit Studio. They show the
gateway at work where neither is installed, and are the far side of its tests. They stand
alone: nothing here imports the rest of vsmgate, nor the rest anything from here.
"""
