r"""How a relay ends, as one table.

Everything that decides what becomes of two joined WebSockets lives here: the phases,
the events, and for each pair the next phase and what is done. The table is total and
pure; `vsmgate.relay.tunnel` performs it.

::

    open --> client closed --> both closed --> ending --> (both connections gone)
        \-> service closed -/                  /
        \-> client broke ---------------------/
         \------------------------------------/

*Closed* means that this side's Close frame was passed on, and the other side's is
awaited. *Client broke* means that the service was told so in the client's place, and may
still answer what came before. While *ending* no phase follows. Both are bounded by the
linger time.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

__all__ = ["TABLE", "Act", "Event", "Phase"]


class Phase(enum.Enum):
    """How far a relay is on its way to the end."""

    OPEN = "open"
    CLIENT_CLOSED = "client closed"
    SERVICE_CLOSED = "service closed"
    BOTH_CLOSED = "both closed"
    CLIENT_BROKE = "client broke"
    ENDING = "ending"


class Event(enum.Enum):
    """What can happen to a relay."""

    CLIENT_CLOSE = "client close"  #: a Close frame of the client's was passed on
    SERVICE_CLOSE = "service close"  #: a Close frame of the service's was passed on
    CLIENT_BREAK = "client break"  #: the client broke the protocol: there is a code and reason
    CLIENT_FIN = "client fin"  #: the client sends nothing more, but may still read
    CLIENT_GONE = "client gone"  #: the client's connection is gone
    SERVICE_GONE = "service gone"  #: the service ended its connection, or it is gone
    GATEWAY_CLOSE = "gateway close"  #: the gateway wants it to end: it has code and reason
    SILENCE = "silence"  #: nobody sent an octet for the time that this phase allows


class Act(enum.Enum):
    """What is done; *end* means: deliver what waits, then send a FIN."""

    TELL_CLIENT = "tell client"  #: the gateway's Close at the next boundary, then end
    TELL_SERVICE = "tell service"  #: the same towards the service
    TELL_LOST = "tell lost"  #: Close 1011 if at a boundary, then end; or abort
    WARN_SERVICE = "warn service"  #: the gateway's Close at once, and no FIN: it may still answer
    ANSWER_CLIENT = "answer client"  #: the client's own Close back, then end
    END_CLIENT = "end client"
    END_SERVICE = "end service"
    LEAVE_SERVICE = "leave service"  #: deliver what waits, and read nothing more


_P, _E, _A = Phase, Event, Act
_Row = Mapping[Event, tuple[Phase, tuple[Act, ...]]]

#: A client that is gone leaves its service at once: Brayns serves only a few clients.
_GONE: _Row = {_E.CLIENT_GONE: (_P.ENDING, (_A.LEAVE_SERVICE,))}

#: (phase, event) -> (next phase, what is done, in this order).
TABLE: Mapping[Phase, _Row] = {
    _P.OPEN: {
        _E.CLIENT_CLOSE: (_P.CLIENT_CLOSED, ()),
        _E.SERVICE_CLOSE: (_P.SERVICE_CLOSED, ()),
        _E.CLIENT_BREAK: (_P.CLIENT_BROKE, (_A.WARN_SERVICE,)),
        _E.CLIENT_FIN: (_P.ENDING, (_A.END_SERVICE,)),
        **_GONE,
        _E.SERVICE_GONE: (_P.ENDING, (_A.TELL_LOST,)),
        _E.GATEWAY_CLOSE: (_P.ENDING, (_A.TELL_CLIENT, _A.TELL_SERVICE)),
        _E.SILENCE: (_P.ENDING, (_A.TELL_CLIENT, _A.TELL_SERVICE)),
    },
    _P.CLIENT_CLOSED: {
        _E.CLIENT_CLOSE: (_P.CLIENT_CLOSED, ()),
        _E.SERVICE_CLOSE: (_P.BOTH_CLOSED, ()),
        _E.CLIENT_BREAK: (_P.CLIENT_CLOSED, ()),  # nobody reads what follows a Close frame
        _E.CLIENT_FIN: (_P.CLIENT_CLOSED, (_A.END_SERVICE,)),
        **_GONE,
        # Brayns 3 never answers a Close frame, it drops the connection.
        _E.SERVICE_GONE: (_P.ENDING, (_A.ANSWER_CLIENT,)),
        _E.GATEWAY_CLOSE: (_P.ENDING, (_A.TELL_CLIENT, _A.END_SERVICE)),
        _E.SILENCE: (_P.ENDING, (_A.ANSWER_CLIENT, _A.LEAVE_SERVICE)),
    },
    _P.SERVICE_CLOSED: {
        _E.CLIENT_CLOSE: (_P.BOTH_CLOSED, ()),
        _E.SERVICE_CLOSE: (_P.SERVICE_CLOSED, ()),
        _E.CLIENT_BREAK: (_P.ENDING, (_A.END_CLIENT, _A.TELL_SERVICE)),
        _E.CLIENT_FIN: (_P.SERVICE_CLOSED, (_A.END_SERVICE,)),
        **_GONE,
        _E.SERVICE_GONE: (_P.ENDING, (_A.END_CLIENT,)),
        _E.GATEWAY_CLOSE: (_P.ENDING, (_A.END_CLIENT, _A.TELL_SERVICE)),
        _E.SILENCE: (_P.ENDING, (_A.END_CLIENT, _A.LEAVE_SERVICE)),
    },
    _P.BOTH_CLOSED: {
        _E.CLIENT_CLOSE: (_P.BOTH_CLOSED, ()),
        _E.SERVICE_CLOSE: (_P.BOTH_CLOSED, ()),
        _E.CLIENT_BREAK: (_P.BOTH_CLOSED, ()),
        _E.CLIENT_FIN: (_P.BOTH_CLOSED, (_A.END_SERVICE,)),
        **_GONE,
        _E.SERVICE_GONE: (_P.ENDING, (_A.END_CLIENT,)),
        _E.GATEWAY_CLOSE: (_P.ENDING, (_A.END_CLIENT, _A.END_SERVICE)),
        _E.SILENCE: (_P.ENDING, (_A.END_CLIENT, _A.END_SERVICE)),
    },
    _P.CLIENT_BROKE: {
        _E.CLIENT_CLOSE: (_P.CLIENT_BROKE, ()),
        _E.SERVICE_CLOSE: (_P.ENDING, (_A.END_CLIENT, _A.END_SERVICE)),
        _E.CLIENT_BREAK: (_P.CLIENT_BROKE, ()),
        _E.CLIENT_FIN: (_P.CLIENT_BROKE, (_A.END_SERVICE,)),
        **_GONE,
        _E.SERVICE_GONE: (_P.ENDING, (_A.TELL_CLIENT,)),
        _E.GATEWAY_CLOSE: (_P.ENDING, (_A.TELL_CLIENT, _A.END_SERVICE)),
        _E.SILENCE: (_P.ENDING, (_A.TELL_CLIENT, _A.END_SERVICE)),
    },
    _P.ENDING: {
        _E.CLIENT_CLOSE: (_P.ENDING, ()),
        _E.SERVICE_CLOSE: (_P.ENDING, ()),
        _E.CLIENT_BREAK: (_P.ENDING, ()),
        _E.CLIENT_FIN: (_P.ENDING, (_A.END_SERVICE,)),
        **_GONE,
        _E.SERVICE_GONE: (_P.ENDING, (_A.END_CLIENT,)),
        _E.GATEWAY_CLOSE: (_P.ENDING, ()),
        _E.SILENCE: (_P.ENDING, ()),
    },
}
