"""The contract of a codec: how the arguments and the result of a call become bytes.

A codec has the four abstract methods. The engine uses the others, which add what the
annotations of a function say: the dispatcher and the job runner ask once for each task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom.serialization.classes import Parameters, call_plan, result_plan
from nuvom.serialization.refusal import MAX_DEPTH, Shaped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    import msgspec

    Packed: TypeAlias = bytes | msgspec.Raw
    Args: TypeAlias = tuple[Any, ...]
    Kwargs: TypeAlias = dict[str, Any]

__all__ = ["MAX_DEPTH", "Codec", "Shaped"]


class Codec(ABC):
    """Turns arguments and results into bytes and back, types included.

    A codec is stateless: one object serves all threads at once. Every value of the types
    listed in ``docs/serialization.md`` survives a round trip, and so does ``Shaped``; anything
    else is refused when it is encoded. Decoding never imports, finds or calls anything by a
    stored name. The bytes are one MessagePack value each, since a record embeds them.

    Size limits are the caller's: it measures what is encoded, and what is stored before it
    has it decoded.
    """

    name: ClassVar[str]
    """The name by which the setting ``serialization_backend`` chooses this codec."""

    @abstractmethod
    def encode_call(
        self, args: Args, kwargs: Kwargs, *, names: Sequence[str] = ()
    ) -> tuple[bytes, bytes]:
        """Return the bytes of the positional and of the keyword arguments.

        Args:
            names: Names of the positional parameters, which errors then use instead of
                ``args[0]``. May be shorter than ``args``.
        Raises: NotStorable: a value is not storable; its ``path`` says where it is.
        """

    @abstractmethod
    def decode_call(
        self, args: Packed, kwargs: Packed, *, shaped: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that ``encode_call`` was given.

        Args:
            shaped: Whether ``Shaped`` values may be in it: True only where a plan resolves
                them, or to show them to people.
        Raises: PayloadError: the bytes are damaged or not of this codec, or hold a
            ``Shaped`` value that nobody here resolves.
        """

    @abstractmethod
    def encode_value(self, value: Any, *, root: str = "result") -> bytes:
        """Return the bytes of one value, a task's result as a rule.

        Args:
            root: What errors call the value.
        Raises: NotStorable: as ``encode_call``.
        """

    @abstractmethod
    def decode_value(self, data: Packed, *, shaped: bool = False) -> Any:
        """Return the value that ``encode_value`` was given. Raises: as ``decode_call``."""

    # ---- with the annotations of a function -------------------------------------------------

    def call_encoder(
        self, func: Callable[..., Any], names: Sequence[str] = ()
    ) -> Callable[[Args, Kwargs], tuple[bytes, bytes]]:
        """Return ``encode_call`` for calls of ``func``, dataclasses and the like included.

        Args:
            names: As ``encode_call``; by default those of ``func``.
        Raises: nothing; what it returns raises NotStorable.
        """
        plan, names = call_plan(func), names or Parameters(func).positional
        if plan is None:
            return partial(self.encode_call, names=names)

        def encode(args: Args, kwargs: Kwargs) -> tuple[bytes, bytes]:
            return self.encode_call(*plan.lower(args, kwargs), names=names)

        return encode

    def quick_encoder(self, func: Callable[..., Any]) -> Callable[[Args], bytes | None]:
        """Return what encodes positional arguments in few steps, and gives None where it cannot.

        Its bytes are those of ``call_encoder(func)``. It raises nothing.
        """
        del func
        return lambda _args: None

    def call_decoder(
        self, func: Callable[..., Any]
    ) -> Callable[[Packed, Packed], tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return the inverse of ``call_encoder(func)``; what it returns raises PayloadError."""
        plan = call_plan(func)
        if plan is None:
            return self.decode_call

        def decode(args: Packed, kwargs: Packed) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return plan.lift(*self.decode_call(args, kwargs, shaped=True))

        return decode

    def result_encoder(self, func: Callable[..., Any]) -> Callable[[Any], bytes]:
        """Return ``encode_value`` for results of ``func``, dataclasses and the like included."""
        plan = result_plan(func)
        if plan is None:
            return self.encode_value
        return lambda value: self.encode_value(plan.lower(value))

    def result_decoder(self, func: Callable[..., Any]) -> Callable[[Packed], Any]:
        """Return the inverse of ``result_encoder(func)``; what it returns raises PayloadError."""
        plan = result_plan(func)
        if plan is None:
            return self.decode_value
        return lambda data: plan.lift(self.decode_value(data, shaped=True))
