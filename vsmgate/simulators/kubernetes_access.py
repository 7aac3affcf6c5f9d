"""Who may do what at a simulated API server: bearer tokens, and reviews of one's own rights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.web.server import Request

from vsmgate.simulators.kubernetes_objects import ApiError
from vsmgate.simulators.kubernetes_requests import json_of

__all__ = ["REVIEWS", "Access"]

#: Where a SelfSubjectAccessReview is made (authorization.k8s.io/v1).
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Access:
    """``tokens``: token -> user; ``allowed``: who may do everything, all others may do nothing.

    ``denied``: what nobody may, as ``"create secrets"`` or ``"get pods/log"``.
    """

    def __init__(self, tokens: Mapping[str, str], allowed: frozenset[str]) -> None:
        self.denied: set[str] = set()
        self._tokens = tokens
        self._allowed = allowed

    def user(self, request: Request) -> str:
        """Return who asks; raises `ApiError` 401."""
        shown = request.getHeader("Authorization")
        if shown is None:
            return "system:anonymous"
        user = self._tokens.get(shown.removeprefix("Bearer "))
        if user is None:
            raise ApiError(401, "Unauthorized")
        return user

    def check(self, user: str, method: str, what: Mapping[str, str], *, watch: bool) -> None:
        """Raise `ApiError` 403 where ``user`` may not; ``what``: the parts of the path."""
        resource, namespace = what["resource"], what["namespace"]
        verb = _VERBS.get(method) or ("get" if what["name"] else "watch" if watch else "list")
        whole = f"{resource}/{what['sub']}" if what["sub"] else resource
        if not self._may(user, verb, whole):
            where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
            told = f'{resource} is forbidden: User "{user}" cannot {verb} resource "{whole}" '
            raise ApiError(403, f'{told}in API group ""{where}', {"kind": resource})

    def review(self, user: str, request: Request) -> dict[str, Any]:
        """Answer a SelfSubjectAccessReview."""
        given = json_of(request)
        asked = given["spec"]["resourceAttributes"]
        whole = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        return {**given, "status": {"allowed": self._may(user, asked["verb"], whole)}}

    def _may(self, user: str, verb: str, what: str) -> bool:
        return user in self._allowed and f"{verb} {what}" not in self.denied
