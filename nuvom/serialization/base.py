"""The codec contract: converts the arguments and the result of a call to bytes and back.

A codec implements the four abstract methods. The engine uses the others, which also handle the
classes in a function's annotations. The dispatcher and the job runner call them once per task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from nuvom.serialization.classes import call_vocabulary, positional_names, result_vocabulary
from nuvom.serialization.refusal import MAX_DEPTH, Shaped, arguments, keywords

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    import msgspec

    Packed: TypeAlias = bytes | msgspec.Raw
    Args: TypeAlias = tuple[Any, ...]
    Kwargs: TypeAlias = dict[str, Any]

__all__ = ["MAX_DEPTH", "Codec", "Shaped"]


class Codec(ABC):
    """Converts arguments and results to bytes and back, preserving types.

    A codec is stateless: one object serves all threads at once. Every value of the types
    listed in ``docs/serialization.md`` survives a round trip, and so does ``Shaped``. Encoding
    refuses anything else. Decoding never imports, finds or calls anything by a stored name. Each
    output is one MessagePack value, since a record embeds it.

    The caller enforces size limits: it measures encoded bytes, and measures stored bytes before
    it decodes them.
    """

    name: ClassVar[str]
    """The name by which the setting ``serialization_backend`` chooses this codec."""

    @abstractmethod
    def encode_call(
        self, args: Args, kwargs: Kwargs, *, names: Sequence[str] = ()
    ) -> tuple[bytes, bytes]:
        """Return the bytes of the positional and the keyword arguments.

        Args:
            names: Names of the positional parameters, which errors use instead of
                ``args[0]``. May be shorter than ``args``.
        Raises: NotStorable: a value is not storable; its ``path`` says where it is.
        """

    @abstractmethod
    def decode_call(
        self, args: Packed, kwargs: Packed, *, shaped: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that ``encode_call`` was given.

        Args:
            shaped: Whether to accept ``Shaped`` values: True only if they are rebuilt,
                or to show them to people.
        Raises: PayloadError: the bytes are damaged, are not from this codec, or hold a
            ``Shaped`` value although ``shaped`` is False.
        """

    @abstractmethod
    def encode_value(self, value: Any, *, root: str = "result") -> bytes:
        """Return the bytes of one value, usually a task's result.

        Args:
            root: The value's name in errors.
        Raises: NotStorable: as ``encode_call``.
        """

    @abstractmethod
    def decode_value(self, data: Packed, *, shaped: bool = False) -> Any:
        """Return the value that ``encode_value`` was given. Raises: as ``decode_call``."""

    # ---- with the annotations of a function -------------------------------------------------

    def call_encoder(
        self, func: Callable[..., Any], names: Sequence[str] = ()
    ) -> Callable[[Args, Kwargs], tuple[bytes, bytes]]:
        """Return ``encode_call`` for calls of ``func``, with support for dataclasses and the like.

        Args:
            names: As in ``encode_call``; the default is the names in ``func``.
        Raises: nothing; the returned function raises NotStorable.
        """
        classes, names = call_vocabulary(func), names or positional_names(func)
        if not classes:
            return partial(self.encode_call, names=names)

        def encode(args: Args, kwargs: Kwargs) -> tuple[bytes, bytes]:
            lowered = classes.lower_all(args, arguments(args, names))
            return self.encode_call(
                lowered, classes.lower_all(kwargs, keywords(kwargs)), names=names
            )

        return encode

    def quick_encoder(self, func: Callable[..., Any]) -> Callable[[Args], bytes | None]:
        """Return a fast encoder of positional arguments, which returns None if it cannot encode.

        It produces the same bytes as ``call_encoder(func)``, and raises nothing.
        """
        del func
        return lambda _args: None

    def call_decoder(
        self, func: Callable[..., Any]
    ) -> Callable[[Packed, Packed], tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return the inverse of ``call_encoder(func)``, a function that raises PayloadError."""
        classes, names = call_vocabulary(func), positional_names(func)
        if not classes:
            return self.decode_call

        def decode(args: Packed, kwargs: Packed) -> tuple[tuple[Any, ...], dict[str, Any]]:
            plain_args, plain_kwargs = self.decode_call(args, kwargs, shaped=True)
            return (
                tuple(classes.lift(one, where) for where, one in arguments(plain_args, names)),
                {
                    name: classes.lift(one, f"kwargs[{name!r}]")
                    for name, one in plain_kwargs.items()
                },
            )

        return decode

    def result_encoder(self, func: Callable[..., Any]) -> Callable[[Any], bytes]:
        """Return ``encode_value`` for results of ``func``, including dataclasses and the like."""
        classes = result_vocabulary(func)
        if not classes:
            return self.encode_value

        def encode(value: Any) -> bytes:
            (lowered,) = classes.lower_all((value,), [("result", value)])
            return self.encode_value(lowered)

        return encode

    def result_decoder(self, func: Callable[..., Any]) -> Callable[[Packed], Any]:
        """Return the inverse of ``result_encoder(func)``, a function that raises PayloadError."""
        classes = result_vocabulary(func)
        if not classes:
            return self.decode_value
        return lambda data: classes.lift(self.decode_value(data, shaped=True), "result")
