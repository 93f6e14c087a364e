import asyncio

import pytest

from services.kit.tasks import end, report_end


async def test_a_task_that_was_to_go_on_and_ended_is_told_of_with_its_stack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise KeyError("a bug")

    task = asyncio.create_task(fail(), name="vigil")
    task.add_done_callback(report_end)
    await asyncio.wait([task])
    await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.getMessage() == "vigil has ended and does nothing more"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_the_end_that_was_asked_for_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    task = asyncio.create_task(asyncio.Event().wait(), name="vigil")
    task.add_done_callback(report_end)
    await end(task)
    await asyncio.sleep(0)
    assert not caplog.records
