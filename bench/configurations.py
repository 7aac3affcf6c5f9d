"""The configurations of the relays that vsmgate is compared with. Pure.

One worker or thread each, HTTP/1.1 to the service, no limit that a measurement would reach,
and the path rule that a front of vsmgate's services needs: /ANYTHING/renderer, else 404.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["caddy", "haproxy", "nginx"]

Pair = tuple[Path, Path] | None

NGINX = """\
daemon off;
master_process off;
worker_processes 1;
pid {room}/pid;
error_log {room}/error warn;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path {room}/t1;
  proxy_temp_path {room}/t2;
  fastcgi_temp_path {room}/t3;
  uwsgi_temp_path {room}/t4;
  scgi_temp_path {room}/t5;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
  server {{
    listen 127.0.0.1:{port}{tls} backlog=4096;
    {certificate}
    location ~ ^/[^/]+/renderer$ {{
      proxy_pass http://127.0.0.1:{service_port};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_read_timeout 3600s;
      proxy_send_timeout 3600s;
      proxy_buffering off;
    }}
    location / {{ return 404; }}
  }}
}}
"""

HAPROXY = """\
global
  maxconn {connections}
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
frontend clients
  bind 127.0.0.1:{port}{tls} backlog 4096
  acl is_renderer path_reg ^/[^/]+/renderer$
  http-request deny deny_status 404 unless is_renderer
  default_backend services
backend services
  option forwardfor
  server service 127.0.0.1:{service_port}
"""

CADDY = """\
{{
  admin off
  auto_https off
}}
{scheme}://localhost:{port} {{
  bind 127.0.0.1
  {certificate}
  @renderer path_regexp ^/[^/]+/renderer$
  handle @renderer {{
    reverse_proxy 127.0.0.1:{service_port}
  }}
  handle {{
    respond 404
  }}
}}
"""


def nginx(room: Path, port: int, service_port: int, pair: Pair, descriptors: int) -> str:
    """Return nginx.conf; all files that nginx writes are in ``room``."""
    lines = "ssl_certificate {}; ssl_certificate_key {};".format(*pair) if pair else ""
    return NGINX.format(
        room=room,
        port=port,
        service_port=service_port,
        tls=" ssl" if pair else "",
        certificate=lines,
        connections=min(32768, descriptors - 100),
    )


def haproxy(port: int, service_port: int, both: Path | None, descriptors: int) -> str:
    """Return haproxy.cfg; ``both``: certificate and key in one file."""
    tls = f" ssl crt {both} alpn http/1.1" if both else ""
    # It wants two descriptors for each connection, and some.
    connections = min(32768, descriptors // 2 - 100)
    return HAPROXY.format(port=port, service_port=service_port, tls=tls, connections=connections)


def caddy(port: int, service_port: int, pair: Pair) -> str:
    """Return the Caddyfile."""
    # Its state goes to HOME, which is a temporary folder.
    return CADDY.format(
        scheme="https" if pair else "http",
        port=port,
        service_port=service_port,
        certificate="tls {} {}".format(*pair) if pair else "",
    )
