"""A cone to look at in a browser, rendered by VTK without a screen and served by trame.

::

    python -m vsmgate.demo.trame_cone --host 127.0.0.1 --port 8080

Page and WebSocket (``ws`` below the page) share the port. It needs the extra ``trame``,
and the system's EGL with a driver (Debian: libegl1 libgl1-mesa-dri).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="vsmgate.demo.trame_cone", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--title", default="vsmgate")
    options = parser.parse_args(argv)
    try:
        import vtk
        from trame.app import get_server
        from trame.ui.html import DivLayout
        from trame.widgets import html
        from trame.widgets import vtk as vtk_widgets
    except ImportError as error:
        sys.exit(f"trame is missing ({error}): install it with pip install 'vsmgate[trame]'")

    window, cone = _window(vtk)
    server: Any = get_server(client_type="vue3")
    state, control = server.state, server.controller
    state.trame__title = options.title

    @state.change("resolution")  # type: ignore[untyped-decorator]
    def reshape(resolution: str, **_: object) -> None:
        cone.SetResolution(int(resolution))
        control.view_update()

    with DivLayout(server):
        with html.Div(style="font: 16px sans-serif; padding: 8px"):
            html.Span(f"{options.title} | sides: ")
            html.Input(type="range", min=3, max=60, v_model=("resolution", 6), style="width: 300px")
        view = vtk_widgets.VtkRemoteView(window, ref="view", style="width: 640px; height: 480px")
        control.view_update = view.update
    # Without a timeout: the gateway decides when a job has been idle for too long.
    server.start(
        host=options.host,
        port=options.port,
        timeout=0,
        open_browser=False,
        show_connection_info=False,
    )


def _window(vtk: Any) -> tuple[Any, Any]:
    """Return an off-screen window that shows a cone, and the cone."""
    cone = vtk.vtkConeSource()
    mapper = vtk.vtkPolyDataMapper()
    mapper.SetInputConnection(cone.GetOutputPort())
    actor = vtk.vtkActor()
    actor.SetMapper(mapper)
    actor.GetProperty().SetColor(0.8, 0.3, 0.2)
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(1.0, 1.0, 1.0)
    renderer.AddActor(actor)
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetSize(640, 480)
    window.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.GetInteractorStyle().SetCurrentStyleToTrackballCamera()
    renderer.ResetCamera()
    window.Render()
    return window, cone


if __name__ == "__main__":
    main()
