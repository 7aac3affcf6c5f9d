"""The WebSocket face."""
