from .tasks import charge


def test_without_a_fixture() -> None:
    charge.delay(7)
