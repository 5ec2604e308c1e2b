"""``Shaped``: what a user's class is while it is stored, and how deep stored values may nest.

Made and resolved by the plans of ``annotations.py``; a codec only carries it.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 64
"""How many containers may stand inside one another, counted from an argument or a result.

Far more than data has, and few enough that walking it fits beside a deep call stack.
"""


class Shaped:
    """The plain data of one dataclass, Enum member, ``msgspec.Struct`` or named tuple.

    Attributes:
        name: The qualified name of the class. It is compared with the classes that an
            annotation names, and never used to find one.
        data: Values by field name; of an Enum its member's name, of a Flag its number.
    """

    __slots__ = ("data", "name")

    def __init__(self, name: str, data: dict[str, Any] | str | int) -> None:
        self.name = name
        self.data = data

    def __repr__(self) -> str:
        if isinstance(self.data, dict):
            fields = ", ".join(f"{key}={value!r}" for key, value in self.data.items())
            return f"{self.name}({fields})"
        return f"{self.name}[{self.data!r}]"
