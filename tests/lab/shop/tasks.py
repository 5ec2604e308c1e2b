from nuvom import task


@task
def send_receipt(order_id: int, to: str) -> str:
    return f"receipt of {order_id} to {to}"


@task
def build_report(rows: list[int]) -> int:
    return sum(rows)


@task
def charge(order_id: int) -> int:
    return order_id


class OutOfStockError(Exception):
    pass
