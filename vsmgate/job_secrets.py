"""A secret of each job's own, which its services know the gateway by.

It is derived from a key of the gateway's and the job's id, so nothing of it is stored, and
gateways with the same key agree. Pure.
"""

from __future__ import annotations

import base64
import hmac

from vsmgate.model import Secret, Usecase

__all__ = ["JobSecrets"]


class JobSecrets:
    """Makes the jobs' secrets: 43 characters of base64url, from HMAC-SHA256 (RFC 2104)."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, job_id: str) -> Secret:
        """Return the secret of the job ``job_id``."""
        octets = hmac.digest(self._key, b"vsmgate job 1\0" + job_id.encode("ascii"), "sha256")
        return Secret(base64.urlsafe_b64encode(octets).decode("ascii").rstrip("="))

    def wanted(self, job_id: str, usecase: Usecase) -> Secret | None:
        """Return the secret for a job to start with; None where none of its services asks."""
        if any(service.secret for service in usecase.services.values()):
            return self.of(job_id)
        return None
