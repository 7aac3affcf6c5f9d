from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.errors import BadCursor, QuotaExceeded
from vsmgate.model import Quota, new_job_id
from vsmgate.stores import cursor, places
from vsmgate.stores.places import Claim, Taken

LIMITS = st.none() | st.integers(0, 5)
NAMED = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 5))
QUOTAS = st.builds(Quota, LIMITS, LIMITS, per_usecase=NAMED, per_group=NAMED)
CLAIMS = st.builds(
    Claim,
    st.sampled_from("abc"),
    st.sampled_from("xyz"),
    st.sets(st.sampled_from("xyz")).map(lambda groups: tuple(sorted(groups))),
)


@given(st.lists(CLAIMS), st.lists(st.tuples(CLAIMS, st.integers(0, 5)), max_size=4), QUOTAS)
def test_places_are_given_in_order_and_never_too_many(
    claims: list[Claim], used: list[tuple[Claim, int]], quota: Quota
) -> None:
    waiting = [(str(number), claim) for number, claim in enumerate(claims)]
    fits = places.fitting(waiting, Taken(used), quota)
    assert fits == [job_id for job_id, _ in waiting if job_id in fits]
    taken = Taken(used)
    for job_id, claim in waiting:
        try:
            places.check(claim, taken, quota)
        except QuotaExceeded:
            assert job_id not in fits
        else:
            assert job_id in fits
            taken.take(claim)


@given(st.lists(CLAIMS, max_size=40), QUOTAS)
def test_no_limit_is_ever_exceeded(claims: list[Claim], quota: Quota) -> None:
    fits = set(places.fitting([(str(n), c) for n, c in enumerate(claims)], Taken(), quota))
    given = [claim for number, claim in enumerate(claims) if str(number) in fits]
    owners = Counter(claim.owner for claim in given)
    groups = Counter(group for claim in given for group in claim.groups)
    usecases = Counter(claim.usecase for claim in given)
    assert quota.total is None or len(given) <= quota.total
    assert quota.per_user is None or max(owners.values(), default=0) <= quota.per_user
    assert all(groups[name] <= limit for name, limit in quota.per_group.items())
    assert all(usecases[name] <= limit for name, limit in quota.per_usecase.items())


def test_a_refusal_says_what_to_do() -> None:
    taken = Taken([(Claim("a", "x", ("g",)), 1)])
    with pytest.raises(QuotaExceeded, match="You have 1 live job, and 1 at a time"):
        places.check(Claim("a"), taken, Quota(per_user=1))
    with pytest.raises(QuotaExceeded, match=r"as many jobs as it may \(1\)"):
        places.check(Claim("b"), taken, Quota(total=1))
    with pytest.raises(QuotaExceeded, match=r"The group g has as many jobs as it may \(1\)"):
        places.check(Claim("b", "", ("f", "g")), taken, Quota(per_group={"g": 1}))
    with pytest.raises(QuotaExceeded, match=r"as many jobs of x as there may be \(1\)"):
        places.check(Claim("b", "x"), taken, Quota(per_usecase={"x": 1}))


def test_only_so_many_jobs_of_one_owner_wait() -> None:
    quota = Quota(queue=True, held_per_user=1)
    places.check_held("a", [("1", Claim("b"))], quota)
    with pytest.raises(QuotaExceeded, match="1 of your jobs wait"):
        places.check_held("a", [("1", Claim("b")), ("2", Claim("a"))], quota)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_cursor_comes_back_exactly(created_at: float) -> None:
    place = (created_at, new_job_id())
    assert cursor.decode(cursor.encode(place)) == place


@given(st.text() | st.text("ABCabc019-_="))
def test_any_other_word_is_no_cursor(word: str) -> None:
    with pytest.raises(BadCursor):
        cursor.decode(word)
