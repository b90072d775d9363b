"""Plans as clients see them: refusals name the step, nothing is kept of what was refused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prsm.protocol.ids import address_text
from tests.tools.site import Site, open_site

pytestmark = pytest.mark.slow

NOBODY = address_text(bytes(32))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with open_site(tmp_path) as made:
        yield made


async def test_plans_that_cannot_run_are_refused_by_reason(site: Site) -> None:
    search = {"id": "find", "kind": "search", "takes": "read"}
    for steps, reason in (
        ([], "invalid_params"),
        ([{"id": "a", "kind": "dance"}], "invalid_params"),
        ([{"id": "read", "kind": "embed", "model": "none", "texts": ["x"]}], "model_not_found"),
        ([{"id": "read", "kind": "embed", "texts": ["x"]}], "bad_plan"),
        ([search], "unknown_step"),
        ([{**search, "takes": "find"}], "wrong_flow"),
    ):
        assert (await site.refused("job_submit", steps=steps))[1] == reason
    assert (await site.ask("plan_list"))["items"] == []
    for method in ("plan_get", "plan_cancel", "plan_getResult"):
        assert (await site.refused(method, plan_id=NOBODY))[1] == "unknown_job"
