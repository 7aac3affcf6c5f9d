"""Whether a UNICORE site would take jobs."""

from __future__ import annotations

from collections.abc import Sequence

from vsmgate.errors import EngineError
from vsmgate.launchers.unicore_client import UnicoreClient
from vsmgate.model import new_job_id, tag_of

__all__ = ["check_unicore"]


async def check_unicore(site: UnicoreClient) -> Sequence[str]:
    """Return what is wrong: with the address, the credential, the site's willingness."""
    try:
        about = await site.about()
        if about.role == "anonymous":
            return ["UNICORE takes the gateway for nobody. Check the credential and its mapping."]
        await site.find(tag_of(new_job_id()))
    except EngineError as error:
        return [f"{error.detail} Check url, ca_file and the credential."]
    if not about.enabled:
        return [f"Job submission is switched off at the site: {about.message or 'no reason told'}."]
    return []
