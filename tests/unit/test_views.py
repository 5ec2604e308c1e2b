"""What readers see of a store besides its jobs."""

from __future__ import annotations

import msgspec
import pytest

from nuvom.core.views import ErrorGroup, QueueStats, WorkerInfo


@pytest.mark.parametrize(
    "view",
    [
        WorkerInfo(id="w", queues=("a",), slots=4),
        QueueStats(queue="a", ready=1, paused_by="me"),
        ErrorGroup(
            fingerprint="f",
            func_name="t",
            type="ValueError",
            message="no",
            count=1,
            first_at=1.0,
            last_at=2.0,
            example_id="j",
        ),
    ],
)
def test_view_is_plain_data_that_can_be_stored(view: msgspec.Struct) -> None:
    packed = msgspec.msgpack.encode(view)
    assert view == msgspec.msgpack.decode(packed, type=type(view))
    with pytest.raises(AttributeError):
        view.queue = "other"  # type: ignore[attr-defined]  # the point


def test_worker_of_all_queues_names_none() -> None:
    assert ((), "alive", 1) == (
        WorkerInfo(id="w").queues,
        WorkerInfo(id="w").state,
        WorkerInfo(id="w").slots,
    )
