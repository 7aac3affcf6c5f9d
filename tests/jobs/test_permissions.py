"""Rules of access and quotas of groups where jobs are asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.jobs.rig import ALICE, BOB, House
from vsmgate.errors import Forbidden, NoSuchUsecase, QuotaExceeded
from vsmgate.model import Identity, Quota
from vsmgate.permissions import AccessConfig, Rule

GUARDED = AccessConfig(administrators=("bob",), usecases={"demo": Rule(("group:vis",))})


def test_a_use_case_is_for_those_whom_its_rule_names(make_house: Callable[..., House]) -> None:
    house = make_house(access=GUARDED, default_usecase="demo")
    member = Identity("mia", ("lab", "vis"))
    assert list(house.desk.usecases(member)) == ["demo"]
    assert list(house.desk.usecases(ALICE)) == []
    assert house.start(member).owner == "mia"
    for asked in ("demo", None):
        with pytest.raises(Forbidden, match="You may not start demo; you may start: none"):
            house.result(house.desk.start(ALICE, asked, {}))
    with pytest.raises(NoSuchUsecase, match="known: none"):
        house.result(house.desk.start(ALICE, "other", {}))
    assert len(house.engine) == 1, "nothing was stored, and no engine asked"
    assert house.desk.administers(BOB)
    assert not house.desk.administers(member)


def test_whose_rule_is_gone_keeps_what_was_started(make_house: Callable[..., House]) -> None:
    house = make_house(access=GUARDED)
    job = house.start(Identity("mia", ("vis",)))
    assert house.result(house.desk.get(Identity("mia"), job.id)).id == job.id


def test_a_groups_quota_counts_all_its_members(make_house: Callable[..., House]) -> None:
    house = make_house(quota=Quota(per_group={"vis": 2, "lab": 9}))
    first = house.start(Identity("mia", ("vis", "staff")))
    assert first.groups == ("vis",), "only what is counted is stored"
    house.start(Identity("ned", ("vis", "lab")))
    with pytest.raises(QuotaExceeded, match="group vis"):
        house.start(Identity("olga", ("lab", "vis")))
    house.start(Identity("olga", ("lab",)))
