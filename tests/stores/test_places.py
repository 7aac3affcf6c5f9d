from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.errors import BadCursor, QuotaExceeded
from vsmgate.model import Quota, new_job_id
from vsmgate.stores import cursor, places

OWNERS = st.sampled_from("abc")
LIMITS = st.none() | st.integers(0, 5)


@given(
    st.lists(OWNERS), st.dictionaries(OWNERS, st.integers(0, 5)), st.builds(Quota, LIMITS, LIMITS)
)
def test_places_are_given_in_order_and_never_too_many(
    owners: list[str], used: dict[str, int], quota: Quota
) -> None:
    waiting = [(str(number), owner) for number, owner in enumerate(owners)]
    fits = places.fitting(waiting, used, quota)
    assert fits == [job_id for job_id, _ in waiting if job_id in fits]
    taken = Counter(used)
    for job_id, owner in waiting:
        try:
            places.check(owner, taken, quota)
        except QuotaExceeded:
            assert job_id not in fits
        else:
            assert job_id in fits
            taken[owner] += 1


def test_a_refusal_says_what_to_do() -> None:
    with pytest.raises(QuotaExceeded, match="You have 1 live job, and 1 at a time"):
        places.check("a", {"a": 1}, Quota(per_user=1))
    with pytest.raises(QuotaExceeded, match=r"as many jobs as it may \(2\)"):
        places.check("a", {"b": 2}, Quota(total=2))


def test_only_so_many_jobs_of_one_owner_wait() -> None:
    quota = Quota(queue=True, held_per_user=1)
    places.check_held("a", [("1", "b")], quota)
    with pytest.raises(QuotaExceeded, match="1 of your jobs wait"):
        places.check_held("a", [("1", "b"), ("2", "a")], quota)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_cursor_comes_back_exactly(created_at: float) -> None:
    place = (created_at, new_job_id())
    assert cursor.decode(cursor.encode(place)) == place


@given(st.text() | st.text("ABCabc019-_="))
def test_any_other_word_is_no_cursor(word: str) -> None:
    with pytest.raises(BadCursor):
        cursor.decode(word)
