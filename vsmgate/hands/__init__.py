"""One I/O library each: processes, database threads, WebSocket handshakes, probes."""
