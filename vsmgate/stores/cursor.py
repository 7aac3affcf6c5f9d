"""The place in a list of jobs where the next page begins, as an opaque word.

A page is ordered by (created_at, id), newest first; the cursor is the last job's pair.
New jobs come before the first page, so a list that grows is still read without
doubles or gaps.
"""

from __future__ import annotations

import base64
import binascii
import math

import msgspec

from vsmgate.errors import BadCursor
from vsmgate.model import JOB_ID, Job

__all__ = ["Place", "decode", "encode", "place_of"]

#: ``(created_at, id)`` of a job.
Place = tuple[float, str]


def place_of(job: Job) -> Place:
    """Return where ``job`` stands in a list."""
    return job.created_at, job.id


def encode(place: Place) -> str:
    """Return the cursor of ``place``: base64url without padding."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode("ascii").rstrip("=")


def decode(cursor: str) -> Place:
    """Return the place of ``cursor``; raise `BadCursor` for anything that `encode` did not make."""
    try:
        octets = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        created_at, job_id = msgspec.json.decode(octets, type=Place)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise BadCursor("Take the cursor from the previous page as it is.") from error
    if not math.isfinite(created_at) or not JOB_ID.fullmatch(job_id):
        raise BadCursor("Take the cursor from the previous page as it is.")
    return created_at, job_id
