"""All laws of a codec."""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from nuvom.core.ids import valid_name
from nuvom.core.record import JobRecord
from nuvom.errors import NotStorable, PayloadError
from nuvom.serialization.base import MAX_DEPTH, Shaped
from nuvom.testing.conformance.crew import all_at_once
from nuvom.testing.conformance.law import Kit, law
from nuvom.testing.conformance.values import NOT_STORABLE, STORABLE, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nuvom.serialization.base import Codec

_DAMAGED = 400  # how often bytes are damaged at random
_LIMIT_SECS = 60.0


class CodecConformance(Kit):
    """The laws of a codec; subclass it in a test module and write ``make``."""

    contract: ClassVar[str] = "codec"

    def make(self) -> Codec:
        """Return the codec."""
        raise NotImplementedError

    @contextmanager
    def bench(self, folder: Path) -> Iterator[Codec]:
        del folder
        yield self.make()

    # ---- round trips ----------------------------------------------------------------------

    @law()
    def test_every_storable_value_comes_back(self, codec: Codec) -> None:
        """A value of any storable type comes back equal, its type and all that is in it."""
        for value in STORABLE:
            result = codec.decode_value(codec.encode_value(value))
            assert same(result, value), f"{value!r} came back as {result!r}"

    @law()
    def test_arguments_come_back(self, codec: Codec) -> None:
        """Positional and keyword arguments come back as a tuple and a dict, in their order."""
        names = {f"key{number}": value for number, value in enumerate(STORABLE)}
        for args, kwargs in ((), {}), ((1, "two"), {}), (STORABLE, {}), ((), names):
            given: tuple[tuple[Any, ...], dict[str, Any]] = (args, kwargs)
            got = codec.decode_call(*codec.encode_call(*given))
            assert same(got, given), f"{given!r} came back as {got!r}"

    @law()
    def test_each_kind_of_value_stays_apart(self, codec: Codec) -> None:
        """Values that are equal, but of different types, do not come back as one another."""
        for value in (1, 1.0, True, (1,), [1], {1}, frozenset({1}), "1", b"1"):
            result = codec.decode_value(codec.encode_value([value]))
            assert same(result, [value]), f"[{value!r}] came back as {result!r}"

    @law()
    def test_deep_values_come_back(self, codec: Codec) -> None:
        """Containers may stand inside one another as deeply as is promised."""
        value: Any = "bottom"
        for _ in range(MAX_DEPTH - 1):
            value = [value]
        result = codec.decode_value(codec.encode_value(value))
        assert result == value, "a value of the greatest depth came back changed"

    @law()
    def test_shaped_data_is_carried(self, codec: Codec) -> None:
        """The plain data of a user's class comes back where it is asked for, and only there."""
        data = codec.encode_value([Shaped("User", {"name": "Ada", "tags": ("a",)})])
        (result,) = codec.decode_value(data, shaped=True)
        assert isinstance(result, Shaped), f"shaped data came back as {result!r}"
        got = (result.name, result.data)
        assert got == ("User", {"name": "Ada", "tags": ("a",)}), f"it came back as {got}"
        _raises(PayloadError, lambda: codec.decode_value(data), "shaped data that nobody resolves")

    @law()
    def test_what_is_read_can_be_changed(self, codec: Codec) -> None:
        """Each decoding gives values of its own."""
        data = codec.encode_value({"n": [1]})
        codec.decode_value(data)["n"].append(2)
        result = codec.decode_value(data)
        assert result == {"n": [1]}, f"a second reading gave {result!r}"

    @law()
    def test_a_record_can_hold_the_arguments(self, codec: Codec) -> None:
        """The bytes are one MessagePack value each, since a record embeds them."""
        args, kwargs = codec.encode_call((1, {"a": (2,)}), {"b": {3}})
        record = JobRecord("job-1", "shop.send", msgspec.Raw(args), msgspec.Raw(kwargs))
        stored = JobRecord.decode(record.encode())
        got = codec.decode_call(stored.args, stored.kwargs)
        assert same(got, ((1, {"a": (2,)}), {"b": {3}})), f"from a record came {got!r}"

    @law()
    def test_threads_share_a_codec(self, codec: Codec) -> None:
        """One codec serves many threads at once."""

        def work(number: int) -> None:
            for round_ in range(100):
                value = {"n": [number, round_], "all": STORABLE}
                result = codec.decode_value(codec.encode_value(value))
                assert result == value, f"thread {number} got {result!r}"

        all_at_once(work, threads=4, limit_secs=_LIMIT_SECS)

    # ---- refusals -------------------------------------------------------------------------

    @law()
    def test_other_values_are_refused(self, codec: Codec) -> None:
        """A value that would not come back as it was raises NotStorable when it is encoded."""
        for value in NOT_STORABLE:
            _raises(NotStorable, lambda value=value: codec.encode_value(value), repr(value))  # type: ignore[misc]  # bound now
            args = (1, [value])
            _raises(NotStorable, lambda args=args: codec.encode_call(args, {}), repr(value))  # type: ignore[misc]  # bound now

    @law()
    def test_a_refusal_says_where(self, codec: Codec) -> None:
        """NotStorable names the path of the value, from the parameter's name on."""
        bad = object()
        value = {"list": [1, bad]}
        names = ("a", "b")
        calls: dict[str, Callable[[], object]] = {
            "b['list'][1]": lambda: codec.encode_call((1, value), {}, names=names),
            "kwargs['user']['list'][1]": lambda: codec.encode_call((), {"user": value}),
            "result['list'][1]": lambda: codec.encode_value(value),
        }
        for path, call in calls.items():
            error = _raises(NotStorable, call, path)
            assert error.path == path, f"the path of {path} is told as {error.path}"
            assert error.type == "object", f"the type is told as {error.type}"

    @law()
    def test_endless_values_are_refused(self, codec: Codec) -> None:
        """A value that holds itself, or is nested too deeply, raises NotStorable."""
        ring: list[Any] = []
        ring.append(ring)
        deep: Any = None
        for _ in range(10_000):
            deep = [deep]
        for value in (ring, deep):
            _raises(NotStorable, lambda value=value: codec.encode_value(value), "an endless value")  # type: ignore[misc]  # bound now
        for _ in range(10_000):  # taken apart by hand: freeing it at once could overflow the stack
            deep = deep[0]

    @law()
    def test_damaged_bytes_are_recognised(self, codec: Codec) -> None:
        """Damaged bytes raise PayloadError or give some value; nothing else is ever raised."""
        rng = Random(20250601)  # noqa: S311  # no secret
        values = [codec.encode_value(value) for value in (list(STORABLE), {"a": STORABLE}, 2**70)]
        for round_ in range(_DAMAGED):
            data = bytearray(values[round_ % len(values)])
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            damaged = bytes(data[: rng.randrange(len(data) + 1)])
            for read in (codec.decode_value, lambda data: codec.decode_call(data, data)):
                try:
                    read(damaged)
                except PayloadError:
                    continue

    @law()
    def test_foreign_bytes_are_refused(self, codec: Codec) -> None:
        """Bytes that no codec of ours wrote raise PayloadError."""
        pickled = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94."
        nested = b"\x91" * 100_000 + b"\xc0"
        foreign = b"\xd4\x63\x00"  # an extension type that is not ours
        for data in (b"", b"\xc1", pickled, nested, foreign, codec.encode_value(1) + b"\x00"):
            what = f"{data[:12]!r}"
            _raises(PayloadError, lambda data=data: codec.decode_value(data), what)  # type: ignore[misc]  # bound now

    @law()
    def test_a_codec_has_a_name(self, codec: Codec) -> None:
        """A codec's name can be used in the settings."""
        valid_name("codec", codec.name)


def _raises(expected: type[Exception], call: Callable[[], object], what: str) -> Any:
    try:
        result = call()
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised for {what}, which gave {result!r}")
